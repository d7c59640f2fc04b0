//! Values by hand, bounds of the error, and what is not finite.

use super::rounding::{largest_magnitude, nearest};
use super::*;
use burn::tensor::{Device, TensorData};

fn matrix<const R: usize, const C: usize>(values: [[f32; C]; R]) -> Tensor<2> {
    Tensor::from_data(TensorData::from(values), &Device::flex())
}

fn waves([rows, depth]: [usize; 2]) -> Tensor<2> {
    let value = |i| (i as f32 * 0.731 + (i as f32 * 0.0131).cos()).sin() * (1.0 + i as f32 * 1e-3);
    let values: Vec<f32> = (0..rows * depth).map(value).collect();
    Tensor::from_data(TensorData::new(values, [rows, depth]), &Device::flex())
}

fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// Without an error it is infinite, of a weight of zeros too.
#[test]
fn noise_in_decibels() {
    let weight = || matrix([[3.0, -4.0], [0.0, 0.0]]);
    let near = matrix([[3.0, -3.5], [0.0, 0.0]]);
    assert!((signal_to_noise(weight(), near) - 20.0).abs() < 1e-6);
    assert_eq!(signal_to_noise(weight(), weight()), f64::INFINITY);
    let zeros = || matrix([[0.0; 2]; 2]);
    assert_eq!(signal_to_noise(zeros(), zeros()), f64::INFINITY);
}

#[test]
fn int8_by_hand() {
    let weight = matrix([
        [127.0, -1.0, 0.5, 1.5, -127.0],
        [0.0; 5],
        [1e-3, -2.54e-3, 0.0, 2e-5, -3e-5],
    ]);
    let rows = Int8Rows::quantize(weight);
    assert_eq!(rows.values.dtype(), DType::I8);
    let values: Vec<i8> = rows.values.to_data().iter::<i8>().collect();
    assert_eq!(values[..5], [127, -1, 0, 2, -127]);
    assert_eq!(values[5..10], [0; 5]);
    assert_eq!(values[10..], [50, -127, 0, 1, -2]);
    assert_eq!(floats(rows.scales), [1.0, 0.0, 2.54e-3 / 127.0]);
}

#[test]
fn uint4_by_hand() {
    let weight = matrix([
        [0.0, 15.0, 3.0, 3.4, 5.0, 5.0],
        [-1.0, 2.0, -0.8, 0.0, 4.0, 7.0],
    ]);
    let groups = Uint4Groups::quantize(weight.clone(), 4);
    let packed: Vec<u8> = groups.packed.to_data().iter::<u8>().collect();
    // The second row is -1 + 0.2 q; its last group is 4 + 0.2 q.
    assert_eq!(packed, [0xf0, 0x33, 0x00, 0xf0, 0x51, 0xf0]);
    assert_eq!(floats(groups.scales.clone()), [1.0, 0.0, 0.2, 0.2]);
    assert_eq!(floats(groups.zero_points.clone()), [0.0, 5.0, -1.0, 4.0]);
    let back = floats(groups.dequantize(DType::F32));
    assert_eq!(back[..6], [0.0, 15.0, 3.0, 3.0, 5.0, 5.0]);
    assert_eq!(back, floats(groups.dequantize_on_host(DType::F32)));
}

/// Half of a step: the largest magnitude of a row by 254, the range of a group by 30.
#[test]
fn errors_are_at_most_half_a_step() {
    for dims in [[1, 2], [3, 64], [5, 130], [7, 70]] {
        let weight = waves(dims);
        let exact = floats(weight.clone());
        for quantized in [
            QuantizedMatrix::int8(weight.clone()),
            QuantizedMatrix::uint4(weight.clone()),
        ] {
            assert_eq!(quantized.dims(), dims);
            let back = floats(quantized.dequantize(DType::F32));
            let part = match quantized {
                QuantizedMatrix::Int8Rows(_) => dims[1],
                QuantizedMatrix::Uint4Groups(_) => GROUP,
            };
            for (exact, back) in exact.chunks(dims[1]).zip(back.chunks(dims[1])) {
                for (exact, back) in exact.chunks(part).zip(back.chunks(part)) {
                    let range =
                        |start, f: fn(f32, f32) -> f32| exact.iter().copied().fold(start, f);
                    let (least, largest) = (range(f32::MAX, f32::min), range(f32::MIN, f32::max));
                    let step = match quantized {
                        QuantizedMatrix::Int8Rows(_) => largest.max(-least) / 127.0,
                        QuantizedMatrix::Uint4Groups(_) => (largest - least) / 15.0,
                    };
                    for (exact, back) in exact.iter().zip(back) {
                        assert!(
                            (exact - back).abs() <= 0.501 * step,
                            "{exact} became {back}"
                        );
                    }
                }
            }
        }
    }
}

/// Half of a step of the rounding to 8 bits; a row's scale is that of its largest group.
#[test]
fn four_bits_in_eight() {
    let groups = Uint4Groups::quantize(waves([5, 130]), GROUP);
    let exact = floats(groups.dequantize(DType::F32));
    let rows = groups.to_int8();
    let back = floats(rows.dequantize(DType::F32));
    for (exact, back) in exact.chunks(130).zip(back.chunks(130)) {
        let step = largest_magnitude(exact) / 127.0;
        for (exact, back) in exact.iter().zip(back) {
            assert!(
                (exact - back).abs() <= 0.501 * step,
                "{exact} became {back}"
            );
        }
    }
}

#[test]
fn other_dtypes_and_sizes() {
    let weight = waves([6, 70]);
    let narrow = weight.clone().cast(DType::BF16);
    for quantize in [QuantizedMatrix::int8, QuantizedMatrix::uint4] {
        let ours = quantize(narrow.clone()).dequantize(DType::F32);
        let wide = quantize(narrow.clone().cast(DType::F32)).dequantize(DType::F32);
        assert_eq!(floats(ours), floats(wide));
        let half = quantize(weight.clone()).dequantize(DType::BF16);
        assert_eq!(half.dtype(), DType::BF16);
    }
    assert_eq!(
        QuantizedMatrix::int8(weight.clone()).bytes(),
        6 * 70 + 4 * 6
    );
    assert_eq!(QuantizedMatrix::uint4(weight).bytes(), 6 * (35 + 8 * 2));
    assert_eq!(QuantizedMatrix::int8(waves([0, 4])).dims(), [0, 4]);
    assert_eq!(QuantizedMatrix::uint4(waves([0, 4])).dims(), [0, 4]);
}

#[test]
fn what_is_not_finite_stays_so() {
    for bad in [f32::NAN, f32::INFINITY] {
        let weight = matrix([[1.0, bad], [1.0, 2.0]]);
        for quantize in [QuantizedMatrix::int8, QuantizedMatrix::uint4] {
            let back = floats(quantize(weight.clone()).dequantize(DType::F32));
            assert!(back[0].is_nan() && back[1].is_nan(), "{back:?}");
            assert!(back[2].is_finite() && back[3].is_finite(), "{back:?}");
        }
    }
}

/// 2^22 is the bound of `nearest`; ties go to even.
#[test]
fn nearest_rounds_as_the_standard_library() {
    for x in [
        0.0,
        0.5,
        1.5,
        2.5,
        -0.5,
        -1.5,
        126.5,
        -126.499,
        4_194_303.5f32,
    ] {
        assert_eq!(nearest(x), x.round_ties_even() as i32, "{x}");
    }
}
