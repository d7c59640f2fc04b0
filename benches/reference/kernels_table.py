#!/usr/bin/env python3
"""Kernels next to their plain forms and PyTorch: a table from what criterion measured.

Run the criterion groups first, on the same machine and as idle:
cargo bench -p sana-benches --bench kernels. Every kernel that has a plain form there gets a row;
the PyTorch operations of the same shape are timed here, and a kernel without any is an error. The
table goes to standard output.
"""

import argparse
import json
import math
import os
import re
import statistics
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PLAIN = "-plain"
# Results of fewer elements are those of criterion's smoke test.
LEAST = 10_000


def measured(folder):
    """Median seconds by (backend, operation, shape) of the area `kernels`."""
    times = {}
    for path, _, files in os.walk(folder):
        if os.path.basename(path) != "new" or not {"benchmark.json", "estimates.json"} <= set(files):
            continue
        with open(os.path.join(path, "benchmark.json"), encoding="utf-8") as file:
            case = json.load(file)
        with open(os.path.join(path, "estimates.json"), encoding="utf-8") as file:
            nanoseconds = json.load(file)["median"]["point_estimate"]
        backend, _, area = case["group_id"].partition("/")
        if area == "kernels" and case["throughput"]["Elements"] >= LEAST:
            times[backend, case["function_id"], case["value_str"]] = nanoseconds * 1e-9
    return times


def pairs(times):
    """(operation, shape, kernel's seconds, plain form's) of the cases with both, the largest of each
    operation last."""
    rows = []
    for (backend, operation, shape), seconds in times.items():
        plain = times.get((backend, operation + PLAIN, shape))
        if plain is not None:
            rows.append((operation, shape, seconds, plain))
    return sorted(rows, key=lambda row: (row[0], math.prod(numbers(row[1])), row[1]))


def numbers(shape):
    """The numbers of a label: `1x1024x2240`, `512x1152->5760`, `128->128 at 256x256`."""
    return [int(number) for number in re.findall(r"\d+", shape)]


def torch_form(operation, shape, torch):
    """A function of no arguments that computes a case in PyTorch, in the layout that diffusers or
    transformers have there."""
    functional, random = torch.nn.functional, torch.randn
    dims = numbers(shape)

    if operation in ("linear", "linear_bf16"):
        rows, depth, columns = dims
        dtype = torch.bfloat16 if operation == "linear_bf16" else torch.float32
        x, weight = random(rows, depth).to(dtype), random(columns, depth).to(dtype)
        return lambda: functional.linear(x, weight)
    if operation in ("linear_int8", "linear_uint4"):
        # Rows in 8 bits with one scale for the tensor, weights in 8 bits in both cases.
        rows, depth, columns = dims
        layer = torch.nn.Sequential(torch.nn.Linear(depth, columns, bias=False))
        layer = torch.ao.quantization.quantize_dynamic(layer, {torch.nn.Linear}, dtype=torch.qint8)
        x = random(rows, depth)
        return lambda: layer(x)
    if operation in ("conv3x3", "conv3x3_fused", "conv3x3_upsampled"):
        if operation == "conv3x3":
            _, channels, size, _ = dims  # and as many out
            output = channels
        else:
            channels, output, size, _ = dims
        x, weight = random(1, channels, size, size), random(output, channels, 3, 3)
        if operation == "conv3x3_upsampled":
            return lambda: functional.conv2d(
                functional.interpolate(x, scale_factor=2, mode="nearest"), weight, padding=1)
        return lambda: functional.conv2d(x, weight, padding=1)
    if operation == "add_upsampled":
        batch, channels, size, _ = dims
        y, x = random(*dims), random(batch, 2 * channels, size // 2, size // 2)
        return lambda: y + functional.pixel_shuffle(x.repeat_interleave(2, dim=1), 2)
    if operation in ("rms_norm_image", "rms_norm_residual"):
        x, y, weight, bias = random(*dims), random(*dims), random(dims[1]), random(dims[1])

        def norm():
            return functional.rms_norm(x.movedim(1, -1), weight.shape, weight, 1e-5)

        if operation == "rms_norm_image":
            return lambda: norm().movedim(-1, 1)
        return lambda: (norm() + bias).movedim(-1, 1) + y
    if operation == "rms_norm_tokens":
        x, weight = random(*dims), random(dims[2])
        return lambda: functional.rms_norm(x, weight.shape, weight, 1e-5)
    if operation == "silu":
        x = random(*dims)
        return lambda: functional.silu(x)
    if operation == "silu_gate":
        x = random(*dims)

        def gate():
            value, gate = x.chunk(2, dim=-1)
            return value * functional.silu(gate)

        return gate
    if operation == "gelu_gate":
        gate, up = random(*dims), random(*dims)
        return lambda: functional.gelu(gate, approximate="tanh") * up
    if operation in ("norm_modulate", "gated_residual"):
        batch, _, channels = dims
        x, y = random(*dims), random(*dims)
        scale, shift = random(batch, 1, channels), random(batch, 1, channels)
        if operation == "gated_residual":
            return lambda: x + scale * y
        return lambda: functional.layer_norm(x, (channels,), eps=1e-6) * (1 + scale) + shift
    if operation in ("depthwise3x3", "depthwise_gate"):
        batch, tokens, channels = dims
        side = math.isqrt(tokens)
        image, taps = random(batch, channels, side, side), random(channels, 1, 3, 3)
        bias = random(channels)
        if operation == "depthwise3x3":
            return lambda: functional.conv2d(image, taps, padding=1, groups=channels)

        def gated():
            value, gate = functional.conv2d(
                image, taps, bias, padding=1, groups=channels).chunk(2, dim=1)
            return value * functional.silu(gate)

        return gated
    if operation == "softmax_attention":
        *_, tokens, head_dim = dims
        query, key, value = random(*dims), random(*dims), random(*dims)
        mask, scale = random(1, 1, tokens, tokens), head_dim ** -0.5

        def attend():
            scores = torch.tanh(query @ key.transpose(2, 3) * scale / 50.0) * 50.0 + mask
            out = torch.softmax(scores, dim=-1) @ value
            return out.transpose(1, 2).contiguous()

        return attend
    sys.exit(f"error: no PyTorch form of {operation}: add it to torch_form")


def timed(form, seconds, clock=time.perf_counter):
    """Median seconds of a run: after one and a tenth of the time, runs until the time is over, ten
    at least."""
    end = clock() + 0.1 * seconds
    form()
    while clock() < end:
        form()
    runs, end = [], clock() + seconds
    while len(runs) < 10 or clock() < end:
        begun = clock()
        form()
        runs.append(clock() - begun)
    return statistics.median(runs)


def written(seconds):
    """Three digits with a unit."""
    for unit, size in [("s", 1), ("ms", 1e-3), ("µs", 1e-6)]:
        if seconds >= size or unit == "µs":
            return f"{seconds / size:.3g} {unit}"


def table(rows):
    """Rows are (operation, shape, kernel, plain, PyTorch), in seconds."""
    lines = ["| kernel | shape | kernel | plain form | PyTorch | kernel / plain | kernel / PyTorch |",
             "|---|---|---|---|---|---|---|"]
    for operation, shape, kernel, plain, torch in rows:
        lines.append(f"| `{operation}` | {shape} | {written(kernel)} | {written(plain)} "
                     f"| {written(torch)} | {kernel / plain:.2f} | {kernel / torch:.2f} |")
    return "\n".join(lines)


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--criterion", default=os.path.join(ROOT, "target", "criterion"),
                        metavar="DIR", help="what criterion wrote [default: target/criterion]")
    parser.add_argument("--backend", default="flex", help="rows of this backend [default: flex]")
    parser.add_argument("--threads", type=int, metavar="N", help="PyTorch's")
    parser.add_argument("--seconds", type=float, default=3.0, metavar="S",
                        help="to measure each case for [default: 3]")
    options = parser.parse_args(arguments)
    times = {case: time for case, time in measured(options.criterion).items()
             if case[0] == options.backend}
    rows = pairs(times)
    if not rows:
        sys.exit(f"error: no kernels of {options.backend} in {options.criterion}: run "
                 "cargo bench -p sana-benches --bench kernels")
    try:
        import torch
    except ImportError:
        sys.exit("error: no PyTorch in this Python: see README.md for the environment")
    if options.threads:
        torch.set_num_threads(options.threads)
    done = []
    with torch.inference_mode():
        for operation, shape, kernel, plain in rows:
            print(operation, shape, file=sys.stderr)
            seconds = timed(torch_form(operation, shape, torch), options.seconds)
            done.append((operation, shape, kernel, plain, seconds))
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads\n")
    print(table(done))


if __name__ == "__main__":
    main()
