#!/usr/bin/env python3
"""The work of `sana bench` on the CPU in other engines: the networks of diffusers and transformers, converted.

    openvino   OpenVINO's CPU plugin; with --quantize int8 NNCF's quantization of weights and activations after
               training, calibrated on the inputs that are measured
    torchao    torch.compile; with --quantize int8 torchao's 8-bit weights and, quantized row by row at run time,
               8-bit activations of linear layers; convolutions, the feed-forward's 1x1 ones among them, stay dense

Options and JSON keys are those of torch_bench.py, which makes the networks.
"""

import json
import sys

import torch_bench

PEERS = ["openvino", "torchao"]
COMPONENTS = ["dit", "decode", "text"]


def parse(arguments):
    parser = torch_bench.parser()
    parser.add_argument("--peer", required=True, choices=PEERS)
    parser.add_argument("--quantize", choices=["int8"])
    options = torch_bench.check(parser, parser.parse_args(arguments))
    if other := [component for component in options.component if component not in COMPONENTS]:
        parser.error(f"{other[0]} is not measured in other engines: choose from {', '.join(COMPONENTS)}")
    if options.compile or options.tf32 or options.device not in [None, "cpu"]:
        parser.error("other engines are measured on the CPU, without --compile and --tf32")
    return options


def network(bench, component):
    """A module with tensors alone as inputs, and those."""
    import torch

    class Dit(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = bench.transformer()

        def forward(self, latents, caption, timestep, mask):
            return self.inner(latents, encoder_hidden_states=caption, timestep=timestep,
                              encoder_attention_mask=mask, return_dict=False)[0]

    class Decode(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = bench.autoencoder("decoder")

        def forward(self, latents):
            return self.inner.decode(latents / self.inner.config.scaling_factor, return_dict=False)[0]

    class Text(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = bench.text_encoder()

        def forward(self, embeddings, mask):
            return self.inner(inputs_embeds=embeddings, attention_mask=mask, use_cache=False)[0]

    models, options = bench.models, bench.options
    if component == "text":
        rows, tokens = options.batch, options.tokens or torch_bench.TEXT_TOKENS
        shape = bench.shape(rows, tokens=tokens)
        inputs = [bench.random(rows, tokens, models.text["hidden_size"]),
                  bench.ones(rows, tokens, dtype=torch.int64)]
        return Text(), shape, inputs
    if component == "decode":
        rows = options.batch
        return Decode(), bench.shape(rows, **bench.pixels()), [bench.latents(rows)]
    rows = models.rows(options.batch)
    shape = bench.shape(rows, tokens=bench.image_tokens(), text_tokens=torch_bench.TEXT_TOKENS, **bench.pixels())
    inputs = [bench.latents(rows), bench.random(rows, torch_bench.TEXT_TOKENS, models.transformer["caption_channels"]),
              torch.full((rows,), 500.0), bench.ones(rows, torch_bench.TEXT_TOKENS)]
    return Dit(), shape, inputs


def by_openvino(module, inputs, options):
    import openvino
    import torch

    with torch.no_grad():
        model = openvino.convert_model(module, example_input=tuple(inputs))
    model.reshape({port: list(tensor.shape) for port, tensor in zip(model.inputs, inputs)})
    values = [tensor.numpy() for tensor in inputs]
    if options.quantize:
        import nncf

        # Everything that it quantizes in transformers, on samples of what it will see.
        model = nncf.quantize(model, nncf.Dataset([values]), subset_size=1, model_type=nncf.ModelType.TRANSFORMER)
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": options.dtype}
    if options.threads:
        settings["INFERENCE_NUM_THREADS"] = options.threads
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()

    def run():
        result = request.infer(values, share_inputs=True, share_outputs=True)
        return torch.from_numpy(result[0])

    return run, f"openvino {openvino.__version__}" + (f", nncf {nncf.__version__}" if options.quantize else "")


def by_torchao(module, inputs, options):
    import torch
    import torchao

    if options.quantize:
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

        quantize_(module, Int8DynamicActivationInt8WeightConfig())
    module.compile()
    return lambda: module(*inputs).float(), f"torch {torch.__version__}, torchao {torchao.__version__}"


def main(arguments=None):
    options = parse(arguments)
    import torch

    torch.set_grad_enabled(False)
    if options.threads:
        torch.set_num_threads(options.threads)
    for component in options.component:
        # OpenVINO converts networks in f32 and computes in what it is asked for.
        converted = torch_bench.argparse.Namespace(**{**vars(options), "dtype": "f32"})
        bench = torch_bench.Bench(converted if options.peer == "openvino" else options, "cpu")
        module, shape, inputs = network(bench, component)
        bench.count(module)
        if options.peer == "torchao":
            inputs = [tensor.to(bench.dtype) if tensor.is_floating_point() else tensor for tensor in inputs]
        run, version = {"openvino": by_openvino, "torchao": by_torchao}[options.peer](module, inputs, options)
        record = torch_bench.record(options, bench, component, shape, run, torch_bench.gigaflop(options, component))
        record.update(implementation=options.peer, version=version, quantize=options.quantize)
        if options.json:
            print(json.dumps(record), flush=True)
        else:
            torch_bench.show(record)


if __name__ == "__main__":
    sys.exit(main())
