#!/usr/bin/env python3
"""Writes the small quantized files that tests of weight loading read, with what other programs make of them.

    python quantized_fixtures.py OUT [gguf] [bitsandbytes] [nunchaku]

Needs numpy and safetensors; for `gguf` the package gguf, for `bitsandbytes` torch and bitsandbytes, which
run on the CPU. The files in the repository are of gguf 0.19.0 and bitsandbytes 0.50.2:

    gguf.gguf                   a tensor of every block type, written by gguf.GGUFWriter
    gguf.safetensors            their values by gguf.quants.dequantize
    bitsandbytes.safetensors    the state of Linear4bit (nf4, nested nf4, fp4) and Linear8bitLt
    bitsandbytes_values.safetensors    their values by bitsandbytes' own dequantization
    nunchaku.safetensors        a block of a tiny transformer, packed as nunchaku packs it

Nothing runs nunchaku's files on a CPU. Its packing is written here from its description, in numpy, and by
another way than the reader: axes are split and permuted. The values are functions of layer, row and column
that the test repeats.
"""

import sys
from pathlib import Path

import numpy as np


def gguf_files(out):
    import gguf
    from gguf import GGMLQuantizationType as Type
    from safetensors.numpy import save_file

    types = [
        Type.F32, Type.F16, Type.BF16, Type.Q8_0, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1,
        Type.Q2_K, Type.Q3_K, Type.Q4_K, Type.Q5_K, Type.Q6_K,
    ]
    # Where the f16 scales of a block are, so that they are numbers of ordinary size.
    halves = {
        Type.Q8_0: [0], Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2],
        Type.Q2_K: [80, 82], Type.Q3_K: [108], Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208],
    }
    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter(str(out / "gguf.gguf"), "gemma2")
    writer.add_block_count(1)
    writer.add_embedding_length(256)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_token_list([b"<pad>", b"<bos>", b"a"])
    writer.add_array("test.lists", [[1, 2], [3]])
    values = {}
    for kind in types:
        name = kind.name.lower()
        shape = (3, 256)
        if kind in halves:
            elements, size = gguf.GGML_QUANT_SIZES[kind]
            blocks = random.integers(0, 256, (3, 256 // elements, size), dtype=np.uint8)
            for place in halves[kind]:
                scale = random.uniform(-0.1, 0.1, blocks.shape[:2]).astype("<f2")
                blocks[:, :, place:place + 2] = scale[..., None].view(np.uint8)
            data = blocks.reshape(3, -1)
            writer.add_tensor(name, data, raw_dtype=kind)
        else:
            data = random.standard_normal(shape).astype(np.float32)
            if kind == Type.F16:
                data = data.astype(np.float16)
                writer.add_tensor(name, data)
            elif kind == Type.BF16:
                data = gguf.quants.quantize(data, kind)
                writer.add_tensor(name, data, raw_dtype=kind)
            else:
                writer.add_tensor(name, data)
        values[name] = gguf.quants.dequantize(data, kind).astype(np.float32).reshape(shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    save_file(values, out / "gguf.safetensors")


def bitsandbytes_files(out):
    import torch
    import bitsandbytes as bnb
    from safetensors.torch import save_file

    torch.manual_seed(0)
    state, values = {}, {}
    # 24 rows of 40: blocks of 64 begin within rows. More than 256 blocks, so that there are several of scales. Its rows
    # are whole blocks: on the CPU bitsandbytes 0.50.2 takes other scales for rows of 144, say, than it quantized with.
    for name, kind, nested, dtype, shape in [
        ("nf4", "nf4", False, torch.bfloat16, (24, 40)),
        ("nested", "nf4", True, torch.bfloat16, (66, 256)),
        ("fp4", "fp4", False, torch.float16, (9, 33)),
    ]:
        weight = torch.randn(shape).to(dtype)
        weight[3] *= 40
        layer = bnb.nn.Linear4bit(
            shape[1], shape[0], compute_dtype=dtype, quant_type=kind, compress_statistics=nested,
        )
        layer.weight = bnb.nn.Params4bit(
            weight, requires_grad=False, quant_type=kind, compress_statistics=nested, blocksize=64,
        )
        layer = layer.to("cpu")
        for key, tensor in layer.state_dict().items():
            state[f"{name}.{key}"] = tensor.contiguous().clone()
        dequantized = bnb.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
        assert dequantized.dtype == dtype
        if not nested:
            values[f"{name}.weight"] = dequantized
        # The same in f32: what is rounded to the dtype above.
        quant_state = layer.weight.quant_state
        quant_state.dtype = torch.float32
        values[f"{name}.weight.f32"] = bnb.functional.dequantize_4bit(layer.weight.data, quant_state)
    weight = torch.randn(12, 20).to(torch.float16)
    weight[5] *= 30
    codes, scales, _ = bnb.functional.int8_vectorwise_quant(weight)
    state["int8.weight"] = codes
    state["int8.SCB"] = scales
    state["int8.weight_format"] = torch.tensor(0, dtype=torch.uint8)
    values["int8.weight"] = bnb.functional.int8_vectorwise_dequant(codes, scales)
    save_file(state, out / "bitsandbytes.safetensors")
    save_file({key: value.contiguous() for key, value in values.items()},
              out / "bitsandbytes_values.safetensors")


def mixed(seed, rows, columns):
    """Whole numbers that look random, from three numbers; the test has the same function."""
    row, column = np.meshgrid(np.arange(rows, dtype=np.uint32), np.arange(columns, dtype=np.uint32), indexing="ij")
    with np.errstate(over="ignore"):
        x = row * np.uint32(73856093) ^ column * np.uint32(19349663) ^ np.uint32(seed * 83492791 & 0xFFFFFFFF)
        x = (x ^ (x >> np.uint32(13))) * np.uint32(0x5BD1E995)
    return (x ^ (x >> np.uint32(15))).astype(np.int64)


def pad(array, divisors, fill):
    """Pads the ends of axes to multiples."""
    width = [(0, -length % divisor) for length, divisor in zip(array.shape, divisors)]
    return np.pad(array, width, constant_values=fill)


def bf16(array):
    """The upper halves of f32, which the values here lose nothing by."""
    bits = np.ascontiguousarray(array, dtype=np.float32).view(np.uint32)
    assert not (bits & 0xFFFF).any(), "a value that bf16 does not have"
    return (bits >> 16).astype(np.uint16)


def pack_weight(codes):
    """[rows, inputs] of -8..7 to bytes [rows, inputs / 2]."""
    rows, inputs = codes.shape
    split = codes.reshape(rows // 128, 8, 2, 8, inputs // 64, 2, 4, 8)
    # n_tile, n_pack, n_in_pack, n_lane, k_tile, k_in_pack, k_lane, value
    ordered = split.transpose(0, 4, 1, 3, 6, 2, 5, 7)
    words = ((ordered & 15) << (4 * np.arange(8))).sum(-1).astype("<u4")
    return words.reshape(-1).view(np.int8).reshape(rows, inputs // 2)


def pack_scale(scale):
    """[rows, groups] to the order of lanes."""
    rows = scale.shape[0]
    return scale.reshape(rows // 128, 8, 2, 4, 2, -1).transpose(0, 5, 1, 3, 2, 4).reshape(-1)


def pack_low_rank(matrix, down):
    """`down` [rank, inputs] or `up` [rows, rank] to tiles of 16 by 16, as [inputs or rows, rank]."""
    first, second = matrix.shape
    tiles = matrix.reshape(first // 16, 16, second // 16, 16)
    tiles = tiles.transpose(2, 0, 1, 3) if down else tiles.transpose(0, 2, 1, 3)
    outer, inner = tiles.shape[:2]
    ordered = tiles.reshape(outer, inner, 2, 8, 2, 4, 2).transpose(0, 1, 3, 5, 2, 4, 6)
    return ordered.reshape((second, first) if down else (first, second))


WIDTH, HIDDEN, RANK = 64, 160, 32


def layer(state, name, matrices, smooth_seed, inputs, order):
    """Adds a quantized layer: published matrices [(seed, rows)], their rows put in the order of the file."""
    codes = [mixed(seed, rows, inputs) % 16 - 8 for seed, rows in matrices]
    scales = [2.0 ** -(2 + mixed(seed + 20, rows, -(-inputs // 64)) % 3) for seed, rows in matrices]
    up = [(mixed(seed + 40, rows, RANK) % 9 - 4) / 8 for seed, rows in matrices]
    bias = [(mixed(seed + 60, rows, 1) % 33 - 16) / 16 for seed, rows in matrices]
    codes, scales, up, bias = [order([pad(part, (1, divisor), fill) for part in parts]) for parts, divisor, fill in
                               [(codes, 128, 5), (scales, 2, 1), (up, 1, 0), (bias, 1, 0)]]
    smooth = 2.0 ** (mixed(smooth_seed + 80, 1, inputs)[0] % 3 - 1)
    down = (mixed(smooth_seed + 100, RANK, inputs) % 9 - 4) / 8
    smooth = pad(smooth, (128,), 0)
    down = pad(down, (1, 128), 3)
    parts = {
        "qweight": pack_weight(pad(codes, (128, 128), 3)),
        "wscales": bf16(pack_scale(pad(scales, (128, 1), 1))).reshape(-1, -(-codes.shape[0] // 128) * 128),
        "smooth": bf16(pack_scale(smooth[:, None])),
        "smooth_orig": bf16(pack_scale(smooth[:, None] + 1)),
        "bias": bf16(pack_scale(pad(bias, (128, 1), 0))),
        "lora_down": bf16(pack_low_rank(down, True)),
        "lora_up": bf16(pack_low_rank(pad(up, (128, 1), 2), False)),
    }
    if name in ("attn.qkv_proj", "ff.point_conv"):
        parts["bias"][:] = 0
    state.update({f"transformer_blocks.0.{name}.{part}": value for part, value in parts.items()})


def rows_as_they_are(parts):
    [matrix] = parts
    return matrix


def query_keys_values(parts):
    query, key, value = [pad(part, (128, 1), 7) for part in parts]
    heads = [part.reshape(-1, 32, part.shape[1]) for part in (key, value)]
    return np.concatenate([query, np.stack(heads, 1).reshape(-1, query.shape[1])])


def taking_turns(parts):
    [matrix] = parts
    halves = matrix.reshape(2, -1, matrix.shape[1]).transpose(1, 0, 2).reshape(matrix.shape)
    return pad(halves, (128, 1), 6)


def nunchaku_files(out):
    import json
    import struct

    state = {}
    layer(state, "attn.qkv_proj", [(1, WIDTH), (2, WIDTH), (3, WIDTH)], 1, WIDTH, query_keys_values)
    layer(state, "attn.out_proj", [(4, WIDTH)], 4, WIDTH, rows_as_they_are)
    layer(state, "cross_attn.q_linear", [(5, WIDTH)], 5, WIDTH, rows_as_they_are)
    layer(state, "cross_attn.out_proj", [(6, WIDTH)], 6, WIDTH, rows_as_they_are)
    layer(state, "ff.inverted_conv", [(7, 2 * HIDDEN)], 7, WIDTH, taking_turns)
    layer(state, "ff.point_conv", [(8, WIDTH)], 8, HIDDEN, rows_as_they_are)
    block = "transformer_blocks.0."
    # No output of attention has a bias in some files, which nunchaku then computes without.
    del state[block + "cross_attn.out_proj.bias"]
    plain = lambda seed, *shape: (mixed(seed, shape[0], int(np.prod(shape[1:]))) % 33 - 16) / 16
    state[block + "cross_attn.kv_linear.weight"] = bf16(plain(9, 2 * WIDTH, WIDTH))
    state[block + "cross_attn.kv_linear.bias"] = bf16(plain(10, 2 * WIDTH, 1)[:, 0])
    depth = taking_turns([plain(11, 2 * HIDDEN, 9)])
    state[block + "ff.depth_conv.weight"] = bf16(depth).reshape(-1, 3, 3, 1)
    state[block + "ff.depth_conv.bias"] = bf16(taking_turns([plain(12, 2 * HIDDEN, 1)])[:, 0])
    state[block + "scale_shift_table"] = bf16(plain(13, 6, WIDTH))
    # By hand: numpy has no bf16.
    header, data = {}, b""
    for name, value in sorted(state.items()):
        value = np.ascontiguousarray(value)
        kind = {"int8": "I8", "uint16": "BF16"}[value.dtype.name]
        begin, data = len(data), data + value.tobytes()
        header[name] = {"dtype": kind, "shape": value.shape, "data_offsets": [begin, len(data)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (out / "nunchaku.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)


def main():
    out, *names = sys.argv[1:]
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    writers = {"gguf": gguf_files, "bitsandbytes": bitsandbytes_files, "nunchaku": nunchaku_files}
    for name in names or writers:
        writers[name](out)


if __name__ == "__main__":
    main()
