//! Products with quantized weights, which CubeK computes. In f32 sums are taken in another order, and on CUDA in TF32.
//! In f16 and bf16 scales, weights and results are rounded, a few roundings each.

use burn::module::Module;
use sana_linear_attn::parity::tolerance;
use sana_linear_attn::quantization::{Quantization, QuantizedMatrix, Uint4Groups};

use super::*;

/// `[rows, depth, columns]`: one row, tiles cut unevenly, one group of 120, three of 64, and 2 of 70, which are no
/// whole words and take the plain form.
const SHAPES: [[usize; 3]; 4] = [[1, 128, 40], [33, 120, 25], [70, 192, 97], [5, 140, 9]];

/// In f32 and in f16.
fn bounds() -> [f64; 2] {
    let f32 = match std::env::var("SANA_TEST_DEVICE").as_deref() {
        Ok("wgpu") => 1e-5,
        _ => tolerance(),
    };
    [f32, 2e-3]
}

fn weight(source: &Source, size: [usize; 2], to: Quantization) -> QuantizedMatrix {
    // On the CPU in f32 in any case: the same integers.
    let cpu = Source {
        device: Device::flex(),
        dtype: DType::F32,
        pending: false,
    };
    to.quantize(cpu.tensor(size, 2)).to_device(&source.device)
}

#[test]
#[ignore = "compares with the device that SANA_TEST_DEVICE names"]
fn products_with_quantized_weights() {
    for [rows, depth, columns] in SHAPES {
        for to in [Quantization::Int8, Quantization::Uint4] {
            let layer = |source: &Source, product: fn(_, &_, _, _) -> Tensor<2>| {
                let x: Tensor<2> = source.tensor([rows, depth], 1);
                let bias: Tensor<1> = source.tensor([columns], 3);
                let weight = weight(source, [columns, depth], to);
                product(x, &weight, Some(bias), Epilogue::Silu)
            };
            check_within(
                &format!("{to} {rows}x{depth}->{columns}"),
                bounds(),
                |source| layer(source, quantized_linear),
                |source| layer(source, plain::quantized_linear),
            );
        }
    }
}

/// A transposed input, one of which no axis is contiguous, and one of no rows.
#[test]
#[ignore = "compares with the device that SANA_TEST_DEVICE names"]
fn views_and_nothing() {
    for to in [Quantization::Int8, Quantization::Uint4] {
        check_within(
            &format!("{to}, a view"),
            bounds(),
            |source| {
                let x: Tensor<2> = source.tensor([64, 20], 1);
                let weight = weight(source, [12, 64], to);
                quantized_linear(x.transpose(), &weight, None, Epilogue::None)
            },
            |source| {
                let x: Tensor<2> = source.tensor([64, 20], 1);
                let weight = weight(source, [12, 64], to);
                plain::quantized_linear(x.transpose(), &weight, None, Epilogue::None)
            },
        );
        let stepped = |source: &Source| -> Tensor<2> {
            let x: Tensor<3> = source.tensor([20, 64, 2], 1);
            x.narrow(2, 1, 1).reshape([20, 64])
        };
        check_within(
            &format!("{to}, with steps"),
            bounds(),
            |source| {
                let weight = weight(source, [12, 64], to);
                quantized_linear(stepped(source), &weight, None, Epilogue::None)
            },
            |source| {
                let weight = weight(source, [12, 64], to);
                plain::quantized_linear(stepped(source), &weight, None, Epilogue::None)
            },
        );
        let source = Source {
            device: gpu(),
            dtype: DType::F32,
            pending: false,
        };
        let none: Tensor<2> = source.tensor([0, 64], 1);
        let weight = weight(&source, [12, 64], to);
        let y = quantized_linear(none, &weight, None, Epilogue::None);
        assert_eq!(y.dims(), [0, 12]);
    }
}

/// Groups other than those of 64, and their zero points.
#[test]
#[ignore = "compares with the device that SANA_TEST_DEVICE names"]
fn groups_of_other_sizes() {
    for group in [8, 96] {
        let layer = |source: &Source, product: fn(_, &_, _, _) -> Tensor<2>| {
            let cpu = Source {
                device: Device::flex(),
                dtype: DType::F32,
                pending: false,
            };
            // All weights between 1 and 2: what the zero points give is most of it.
            let weight: Tensor<2> = cpu.tensor([24, 192], 2) * 0.5 + 1.5;
            let weight = QuantizedMatrix::Uint4Groups(Uint4Groups::quantize(weight, group));
            let weight = weight.to_device(&source.device);
            product(source.tensor([40, 192], 1), &weight, None, Epilogue::None)
        };
        check_within(
            &format!("groups of {group}"),
            bounds(),
            |source| layer(source, quantized_linear),
            |source| layer(source, plain::quantized_linear),
        );
    }
}
