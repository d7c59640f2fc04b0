//! Quantized weights. On the CPU, in integers: equal to sums of plain integers bit for bit, and close
//! to the product of the floats that the integers mean. Elsewhere the weight as floats.

use burn::module::Module;
use sana_linear_attn::quantization::{Int8Rows, QuantizedMatrix, Uint4Groups};

use super::*;

/// `[rows, depth, columns]`: one row, tiles, units and groups cut evenly and not, more rows than
/// are packed at a time.
const SHAPES: [[usize; 3]; 7] = [
    [1, 2, 1],
    [1, 70, 13],
    [3, 8, 5],
    [33, 130, 25],
    [40, 64, 36],
    [70, 96, 97],
    [2100, 12, 7],
];

/// A row as integers from -127 to 127, and their scale.
fn quantized(row: &[f32]) -> (Vec<i32>, f32) {
    let largest = row.iter().fold(0f32, |largest, x| largest.max(x.abs()));
    let inverse = 127.0 / largest;
    let integer = |x: &f32| (x * inverse).round_ties_even() as i32;
    (row.iter().map(integer).collect(), largest / 127.0)
}

/// Rows of a weight as integers and their scales.
fn integers(weight: &QuantizedMatrix) -> Vec<(Vec<i32>, f32)> {
    let [_, depth] = weight.dims();
    match weight {
        QuantizedMatrix::Int8Rows(Int8Rows {
            values: integers,
            scales,
        }) => {
            let integers: Vec<i32> = integers.to_data().iter::<i32>().collect();
            let rows = integers.chunks(depth).map(<[i32]>::to_vec);
            rows.zip(values(scales.clone())).collect()
        }
        QuantizedMatrix::Uint4Groups(Uint4Groups {
            scales,
            zero_points,
            group,
            ..
        }) => {
            let groups = depth.div_ceil(*group);
            let (scales, zero_points) = (values(scales.clone()), values(zero_points.clone()));
            let floats = values(weight.dequantize(DType::F32));
            let rows = floats.chunks(depth).enumerate().map(|(row, floats)| {
                let ends = (row * groups..(row + 1) * groups)
                    .flat_map(|g| [zero_points[g], scales[g] * 15.0 + zero_points[g]]);
                let largest = ends.fold(0f32, |largest, end| largest.max(end.abs()));
                let inverse = 127.0 / largest;
                let integer = |w: &f32| (w * inverse).round_ties_even() as i32;
                (floats.iter().map(integer).collect(), largest / 127.0)
            });
            rows.collect()
        }
    }
}

fn both(weight: Tensor<2>) -> [QuantizedMatrix; 2] {
    [
        QuantizedMatrix::int8(weight.clone()),
        QuantizedMatrix::uint4(weight),
    ]
}

#[test]
fn products_of_integers_are_exact() {
    let device = Device::flex();
    for [rows, depth, columns] in SHAPES {
        let x = pseudo_random([rows, depth], 1, &device);
        let bias = pseudo_random([columns], 3, &device);
        let x_rows: Vec<_> = values(x.clone()).chunks(depth).map(quantized).collect();
        for weight in both(pseudo_random([columns, depth], 2, &device)) {
            let w_rows = integers(&weight);
            for bias in [None, Some(bias.clone())] {
                let ours = quantized_linear(x.clone(), &weight, bias.clone(), Epilogue::None);
                let bias = bias.map_or(vec![0.0; columns], values);
                let mut exact = Vec::new();
                for (x, x_scale) in &x_rows {
                    for ((w, w_scale), bias) in w_rows.iter().zip(&bias) {
                        let sum: i32 = x.iter().zip(w).map(|(x, w)| x * w).sum();
                        exact.push(sum as f32 * x_scale * w_scale + bias);
                    }
                }
                let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits);
                let name = format!("{rows}x{depth}->{columns}, {}", bias.len());
                assert!(bits(values(ours)).eq(bits(exact)), "{name}");
            }
        }
    }
}

/// Half of a step of 127 in both factors, and of a weight's 4 bits in 8, is a part in 254 of the
/// largest; sums of such errors grow as those of what they are errors of.
#[test]
fn close_to_the_weights_as_floats() {
    let device = Device::flex();
    for [rows, depth, columns] in SHAPES {
        let x = pseudo_random([rows, depth], 1, &device);
        let bias = pseudo_random([columns], 3, &device);
        for weight in both(pseudo_random([columns, depth], 2, &device)) {
            for epilogue in [Epilogue::None, Epilogue::Silu] {
                let name = format!("{rows}x{depth}->{columns}, {epilogue:?}");
                let bias = Some(bias.clone());
                let ours = quantized_linear(x.clone(), &weight, bias.clone(), epilogue);
                let plain = plain::quantized_linear(x.clone(), &weight, bias, epilogue);
                assert_close(&name, &values(ours), &values(plain), 1.5e-2);
            }
        }
    }
}

/// Against the plain form of what is rounded, and 4 bits against their 8.
#[test]
fn the_plain_form_of_the_roundings() {
    let device = Device::flex();
    let [rows, depth, columns] = [33, 130, 25];
    let x = pseudo_random([rows, depth], 1, &device);
    let weight = Uint4Groups::quantize(pseudo_random([columns, depth], 2, &device), 32);
    let eight = QuantizedMatrix::Int8Rows(weight.to_int8());
    let four = QuantizedMatrix::Uint4Groups(weight);
    let ours = |weight| values(quantized_linear(x.clone(), weight, None, Epilogue::None));
    assert_eq!(ours(&four), ours(&eight));
    let rounded = plain::quantized_rows(x.clone());
    let plain = plain::linear(rounded, eight.dequantize(DType::F32), None, Epilogue::None);
    assert_close("plain", &ours(&eight), &values(plain), 1e-5);
}

/// Rows alone as among others, of a view; the dtype of `x`; its gradients by the weight as floats.
#[test]
fn a_layer() {
    let device = Device::flex();
    let x = pseudo_random([64, 50], 4, &device).transpose();
    let bias = pseudo_random([40], 5, &device).cast(DType::BF16);
    for weight in both(pseudo_random([40, 64], 6, &device)) {
        let layer = |x| quantized_linear(x, &weight, Some(bias.clone()), Epilogue::None);
        let together = values(layer(x.clone()));
        for row in [0, 17, 49] {
            let alone = values(layer(x.clone().narrow(0, row, 1)));
            assert!(alone == together[40 * row..40 * (row + 1)], "row {row}");
        }
        assert_eq!(layer(x.clone().cast(DType::BF16)).dtype(), DType::BF16);

        let tracked = Tensor::<2>::from_data(x.to_data(), &device.clone().autodiff());
        let tracked = tracked.require_grad();
        let on_autodiff = weight.clone().to_device(&tracked.device());
        let y = quantized_linear(tracked.clone(), &on_autodiff, None, Epilogue::None);
        let grads = y.sum().backward();
        let gradient = tracked.grad(&grads).expect("a gradient of x");
        let columns = weight.dequantize(DType::F32).sum_dim(0).repeat(&[50, 1]);
        assert_close("gradient", &values(gradient), &values(columns), 1e-5);
    }
}

#[test]
fn nothing_and_what_is_not_finite() {
    let device = Device::flex();
    for weight in both(pseudo_random([6, 10], 1, &device)) {
        let layer = |x| quantized_linear(x, &weight, None, Epilogue::None);
        assert_eq!(layer(Tensor::zeros([0, 10], &device)).dims(), [0, 6]);
        let x = Tensor::<2>::zeros([2, 10], &device);
        assert!(values(layer(x)).iter().all(|y| *y == 0.0));
        let x = Tensor::<2>::full([2, 10], f32::NAN, &device);
        assert!(values(layer(x)).iter().all(|y| y.is_nan()));
    }
}
