#!/usr/bin/env python3
"""Shares of time by operation, from what `perf` or burn's profiling recorded.

    perf script -F comm,ip,sym | profile_shares.py perf          samples with call chains, of the CPU
    profile_shares.py cubecl kernels.log --last 5                tables of kernels, of a GPU

README.md next to this file has the whole commands.
"""

import argparse
import re
import sys
from collections import Counter

MATMUL, CONVOLUTION, DEPTHWISE = "matmul", "convolution", "depthwise convolution"
ATTENTION, ELEMENTWISE, REDUCTION = "attention", "element-wise", "sums and norms"
COPY, MEMORY, WEIGHTS = "copies and layout", "memory management", "making weights and inputs"
IDLE, LOOPS, OTHER = "waiting and scheduling", "parallel loops without a name", "other"

# A frame that says what is computed. The innermost that matches decides, so a matmul within a
# convolution is a matter of the rules' order alone where both are in one frame.
NAMED = [
    (WEIGHTS, r"Distribution|::random|rand_|chacha|Initializer|noise::|standard_normal"
              r"|bench::models::Cast"),
    (DEPTHWISE, r"kernels::flex::conv::depthwise|conv\w*depthwise|depthwise_conv"),
    (CONVOLUTION, r"kernels::flex::conv::|burn_flex::ops::conv|conv[123]d"),
    (ATTENTION, r"kernels::flex::attention::|burn_flex::ops::attention"),
    (REDUCTION, r"kernels::flex::norm::rms_norm|ops::(reduce|cumulative|pool)"
                r"|softmax|layer_norm"),
    (ELEMENTWISE, r"kernels::flex::(elementwise|norm::norm_modulate|gemm::widen)|burn_flex::ops::(unary|binary"
                  r"|activation|comparison|mask|float)|burn_flex::(zip|simd)|zip_(map|apply)"),
    (COPY, r"kernels::flex::layout|burn_flex::ops::(cat|slice|expand|flip|gather|repeat|interpolate|unfold)"
           r"|to_contiguous|copy_\w*2d|copy_strided|strided_index|contiguous"),
    (MATMUL, r"burn_flex::ops::matmul|kernels::flex::gemm::"),
    (MEMORY, r"FlexTensor>?::(empty|zeros|full)"),
]
# A frame that says it only where no other frame does.
WEAK = [
    (MATMUL, r"gemm_|gemm_common"),
    (COPY, r"mem(move|cpy|set)"),
    (MEMORY, r"page_fault|mmap|munmap|madvise|malloc|_int_free|__libc_free|calloc|realloc|brk"),
    (LOOPS, r"rayon::iter|StackJob|join_context"),
    (IDLE, r"rayon_core|crossbeam|futex|sched|park|condvar|swapper|idle"),
]

# Names of CubeCL's kernels, without what they are generic over. A fused kernel computes several
# operations and bears one name.
KERNELS = [
    ("autotuning", r"Throughput|LaunchOverhead|PrimeBuffer"),
    (DEPTHWISE, r"Depthwise"),
    (CONVOLUTION, r"Conv|Im2col|Winograd"),
    (MATMUL, r"Matmul|Gemm|Gemv|Vecmat"),
    (ATTENTION, r"Attention|Flash"),
    (REDUCTION, r"Reduce|Softmax|Norm|Cumsum|Pool"),
    (WEIGHTS, r"Prng|Random"),
    (COPY, r"Copy|Contiguous|Slice|Cat|Gather|Select|Scatter|Repeat|Flip|Interpolate|Relayout"),
    (ELEMENTWISE, r"Elemwise|Binop|Unary|Binary|Cast|Clamp|Mask|Compar|Full|Scalar"),
]


def first_match(rules, name):
    return next((kind for kind, pattern in rules if re.search(pattern, name)), None)


def operation(frames):
    """What a call chain, innermost frame first, is part of."""
    for rules in (NAMED, WEAK):
        for frame in frames:
            if kind := first_match(rules, frame):
                return kind
    return OTHER


def samples(lines):
    """Call chains of `perf script -F comm,ip,sym`: a line for the program, one for each frame,
    and an empty one."""
    frames, inside = [], False
    for line in lines:
        if not line.strip():
            if inside:
                yield frames
            frames, inside = [], False
        elif line[0].isspace():
            inside = True
            _, _, symbol = line.strip().partition(" ")
            frames.append(symbol.strip())
        elif not line.startswith("#"):
            inside = True
    if inside:
        yield frames


def fold_perf(lines):
    """Samples by operation."""
    return Counter(operation(frames) for frames in samples(lines))


def duration(text):
    """Seconds of Rust's `{:?}` of a duration: 1.5ms, 20µs, 3s."""
    match = re.fullmatch(r"([\d.]+)(s|ms|µs|us|ns)", text.strip())
    if not match:
        raise ValueError(f"not a duration: {text!r}")
    return float(match[1]) * {"s": 1, "ms": 1e-3, "µs": 1e-6, "us": 1e-6, "ns": 1e-9}[match[2]]


def tables(lines):
    """The summaries that CubeCL logs at every wait for the device: lists of (kernel, seconds,
    launches)."""
    rows = None
    for line in lines:
        cells = line.strip().removeprefix("|").removesuffix("|").rsplit("|", 3)
        cells = [cell.strip() for cell in cells]
        if len(cells) == 4 and cells[0] == "Name":
            rows = []
        elif rows is not None and len(cells) == 4 and cells[0] == "Total":
            yield rows
            rows = None
        elif rows is not None and len(cells) == 4:
            rows.append((cells[0], duration(cells[1]), int(cells[2])))


def fold_cubecl(lines, last=None):
    """Seconds by operation and by kernel, of the last tables."""
    operations, kernels, launches = Counter(), Counter(), Counter()
    kept = list(tables(lines))
    for rows in kept[-last:] if last else kept:
        for name, seconds, count in rows:
            plain = re.sub(r"_[0-9a-f]{8}$", "", name).split(" | ")[0]
            operations[first_match(KERNELS, plain) or OTHER] += seconds
            kernels[plain] += seconds
            launches[plain] += count
    return operations, kernels, launches


def shares(counts, title, unit):
    """A table in Markdown, the largest first."""
    total = sum(counts.values())
    lines = [f"| {title} | {unit} | share |", "|---|---|---|"]
    for name, count in counts.most_common():
        amount = count if isinstance(count, int) else f"{count:.6f}"
        lines.append(f"| {name} | {amount} | {100 * count / total:.1f} % |")
    return "\n".join(lines)


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    perf = kinds.add_parser("perf", help="the output of perf script")
    perf.add_argument("file", nargs="?", help="[default: standard input]")
    perf.add_argument("--all", action="store_true",
                      help="with the making of weights and inputs, and with idle threads")
    perf.add_argument("--unknown", action="store_true",
                      help="also the innermost frames of what bears no name")
    cubecl = kinds.add_parser("cubecl", help="the log of CubeCL's profiling")
    cubecl.add_argument("file", nargs="?", help="[default: standard input]")
    cubecl.add_argument("--last", type=int, metavar="N",
                        help="the last N tables: those of the last N runs of sana bench")
    options = parser.parse_args(arguments)
    if options.file:
        with open(options.file, encoding="utf-8", errors="replace") as file:
            lines = file.readlines()
    else:
        lines = sys.stdin.readlines()
    if options.kind == "cubecl":
        operations, kernels, launches = fold_cubecl(lines, options.last)
        if not operations:
            sys.exit("error: no table of kernels in this log: see README.md for the settings")
        print(shares(operations, "operation", "seconds"), end="\n\n")
        named = Counter({f"{name} x {launches[name]}": time for name, time in kernels.items()})
        print(shares(named, "kernel", "seconds"))
        return
    counts = fold_perf(lines)
    if not counts:
        sys.exit("error: no samples: give the output of perf script -F comm,ip,sym")
    left_out = Counter()
    if not options.all:
        left_out = Counter({kind: counts.pop(kind, 0) for kind in (WEIGHTS, IDLE)})
    if counts:
        print(shares(counts, "operation", "samples"))
    if left_out.total():
        printed = ", ".join(f"{kind} {count}" for kind, count in left_out.items() if count)
        print(f"\nLeft out: {printed} samples.")
    if options.unknown:
        names = Counter(frames[0] if frames else "no frame" for frames in samples(lines)
                        if operation(frames) in (OTHER, LOOPS))
        print("\n" + shares(names, "innermost frame", "samples"))


if __name__ == "__main__":
    main()
