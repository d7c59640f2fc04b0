#!/usr/bin/env python3
"""Compares quantized checkpoints of `sana quantize` with SDNQ, in both directions.

    sdnq_check.py SANA [--fixtures FOLDER]

SANA is the command. Needs torch, diffusers, transformers and sdnq of requirements-sdnq.txt, and runs
on the CPU. For the built-in model, in int8, in uint4 and in uint4 with a low-rank part:

1. diffusers and transformers load what `sana quantize` wrote, and compute outputs of the transformer and
   the text encoder; --fixtures stores them for the tests of this repository;
2. SDNQ quantizes the same dense model itself, with the same settings: its tensors are equal, floats in
   the same dtype, but for layers with a low-rank part, which begins from random numbers;
3. `sana generate` makes the same image from what SDNQ wrote, except with low-rank parts, where the
   difference is printed.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from diffusers import SanaTransformer2DModel
from diffusers.quantizers.quantization_config import QuantizationConfigMixin  # noqa: F401
from safetensors.torch import load_file, save_file
from sdnq import SDNQConfig, sdnq_post_load_quant
from sdnq.loader import save_sdnq_model
from transformers import Gemma2Model

SCENES = Path(__file__).parents[2] / "sana-pipeline/assets/scenes"
CASES = {
    "int8": ["--to", "int8"],
    "uint4": ["--to", "uint4", "--to", "uint4:text_encoder"],
    "uint4-svd": ["--to", "uint4", "--to", "uint4:text_encoder", "--svd", "4"],
}


def numbers(shape, seed):
    """Values without a pattern, the same in the tests of the repository."""
    count = torch.Size(shape).numel()
    index = torch.arange(count, dtype=torch.float32)
    return (torch.sin(index * 0.7 + seed * 1.3) * 0.9).reshape(shape)


def transformer_output(model):
    with torch.no_grad():
        return model(
            numbers((1, 32, 4, 4), 1.0),
            encoder_hidden_states=numbers((1, 6, 128), 2.0),
            encoder_attention_mask=torch.ones(1, 6),
            timestep=torch.tensor([500.0]),
            return_dict=False,
        )[0]


def text_output(model):
    ids = torch.tensor([[2, 17, 40, 123, 250, 399]])
    with torch.no_grad():
        return model(ids, attention_mask=torch.ones(1, 6, dtype=torch.long)).last_hidden_state


def quantized_by_sdnq(model, settings, folder):
    """The dense model, quantized by SDNQ with the settings that `sana quantize` wrote."""
    known = {
        key: settings[key]
        for key in (
            "weights_dtype",
            "group_size",
            "quant_conv",
            "use_svd",
            "svd_rank",
            "modules_to_not_convert",
            "modules_quant_config",
        )
    }
    known.update(add_skip_keys=False, minimum_allowed_numel=0, minimum_allowed_channel_size=0)
    quantized = sdnq_post_load_quant(model, torch_dtype=torch.float32, **known)
    save_sdnq_model(quantized, str(folder))


def compare_tensors(ours, theirs):
    ours, theirs = load_file(ours), load_file(theirs)
    assert ours.keys() == theirs.keys(), ours.keys() ^ theirs.keys()
    low_rank = {name.rsplit(".", 1)[0] for name in ours if name.endswith("svd_up")}
    same = 0
    for name, tensor in ours.items():
        other = theirs[name]
        assert tensor.shape == other.shape, (name, tensor.shape, other.shape)
        if name.rsplit(".", 1)[0] in low_rank and not name.endswith("bias"):
            continue
        other = other.to(tensor.dtype) if other.is_floating_point() else other
        assert torch.equal(tensor, other), name
        same += 1
    return same, len(ours)


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def image(sana, model, out):
    run(sana, "generate", "a red circle", "--model", model, "--steps", "4", "--seed", "1",
        "--device", "flex", "--out", out)  # fmt: skip
    from PIL import Image

    return Image.open(out).convert("RGB").tobytes()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sana", type=Path)
    parser.add_argument("--fixtures", type=Path)
    args = parser.parse_args()
    stored = {}
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        for case, options in CASES.items():
            folder = work / case
            run(args.sana, "quantize", *options, "--out", folder)
            transformer = SanaTransformer2DModel.from_pretrained(
                folder / "transformer", torch_dtype=torch.float32
            ).eval()
            text = Gemma2Model.from_pretrained(
                folder / "text_encoder", dtype=torch.float32
            ).eval()
            outputs = {
                "transformer": transformer_output(transformer),
                "text_encoder": text_output(text),
            }
            for name, output in outputs.items():
                assert output.isfinite().all()
                stored[f"{case}.{name}"] = output.contiguous().to(torch.float32)

            # The folder of SDNQ itself, with what is not quantized as it is.
            other = work / f"{case}-sdnq"
            run("cp", "-r", folder, other)
            networks = [
                ("transformer", SanaTransformer2DModel, "diffusion_pytorch_model"),
                ("text_encoder", Gemma2Model, "model"),
            ]
            for name, kind, stem in networks:
                settings = json.loads((folder / name / "config.json").read_text())
                settings = settings["quantization_config"]
                for file in (other / name).iterdir():
                    file.unlink()
                dense = kind.from_pretrained(SCENES / name).to(torch.float32).eval()
                quantized_by_sdnq(dense, settings, other / name)
                file = f"{name}/{stem}.safetensors"
                same, all_of_them = compare_tensors(folder / file, other / file)
                print(f"{case} {name}: {same} of {all_of_them} tensors the same as SDNQ's")
            pixels = [image(args.sana, path, work / "image.png") for path in (folder, other)]
            largest = max(abs(a - b) for a, b in zip(*pixels))
            print(f"{case}: largest difference of the images {largest}")
            assert largest == 0 or "svd" in case, largest
    if args.fixtures:
        args.fixtures.mkdir(parents=True, exist_ok=True)
        path = args.fixtures / "sdnq.safetensors"
        save_file(stored, path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        print(f"wrote {path}, {path.stat().st_size} bytes, {digest[:16]}")


if __name__ == "__main__":
    sys.exit(main())
