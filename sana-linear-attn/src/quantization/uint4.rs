//! 4 bits, scale and zero point for each group.

use burn::module::Module;
use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};

use super::int8::Int8Rows;
use super::rounding::{host_values, largest_magnitude, nearest, scale_of};

/// Weights of a group, where nothing else is said.
pub const GROUP: usize = 64;

/// A matrix `[out, in]` of 4-bit integers: a weight is `value * scale + zero_point`, with those of its
/// group. Groups are neighbours in a row; the last one of a row has fewer weights where the group's
/// size does not divide `in`.
#[derive(Module, Debug)]
pub struct Uint4Groups {
    /// `[out, in / 2]` of dtype [`U8`](DType::U8): two values from 0 to 15 in a byte, the first one in
    /// the low half.
    pub packed: Tensor<2, Int>,
    /// `[out, ceil(in / group)]`, f32.
    pub scales: Tensor<2>,
    /// `[out, ceil(in / group)]`, f32.
    pub zero_points: Tensor<2>,
    /// Weights of a group, an even number.
    pub group: usize,
}

impl Uint4Groups {
    /// The largest value.
    pub const LARGEST: u8 = 15;

    /// A matrix of these bytes, scales and zero points, each row by row.
    ///
    /// # Panics
    /// If their numbers are not those of `[out, in]`, `in` is odd, or `group` is odd or 0.
    pub fn new(
        [rows, depth]: [usize; 2],
        packed: Vec<u8>,
        scales: Vec<f32>,
        zero_points: Vec<f32>,
        group: usize,
        device: &Device,
    ) -> Self {
        check(depth, group);
        let groups = depth.div_ceil(group);
        assert_eq!(packed.len(), rows * depth / 2, "bytes of {rows} rows");
        assert_eq!(scales.len(), rows * groups, "scales of {rows} rows");
        assert_eq!(zero_points.len(), scales.len(), "zero points");
        let float = |values| {
            let data = TensorData::new(values, [rows, groups]);
            Tensor::from_data(data, (device, DType::F32))
        };
        Self {
            packed: Tensor::from_data(
                TensorData::new(packed, [rows, depth / 2]),
                (device, DType::U8),
            ),
            scales: float(scales),
            zero_points: float(zero_points),
            group,
        }
    }

    /// The matrix nearest to a weight `[out, in]` of any float dtype, on its device: a zero point is
    /// the least weight of its group, a scale the range of the group by 15; values are rounded to
    /// nearest, ties to even.
    ///
    /// A group with a value that is not finite becomes NaN.
    ///
    /// # Panics
    /// If `in` is odd, or `group` is odd or 0.
    pub fn quantize(weight: Tensor<2>, group: usize) -> Self {
        let (dims, device) = (weight.dims(), weight.device());
        let [rows, depth] = dims;
        check(depth, group);
        let weight = host_values(weight);
        let mut packed = vec![0; rows * depth / 2];
        let (mut scales, mut zero_points) = (Vec::new(), Vec::new());
        if depth > 0 {
            let rows = weight.chunks(depth).zip(packed.chunks_mut(depth / 2));
            for (weight, packed) in rows {
                let groups = weight.chunks(group).zip(packed.chunks_mut(group / 2));
                for (weight, packed) in groups {
                    let (scale, zero_point) = quantize_group(weight, packed);
                    scales.push(scale);
                    zero_points.push(zero_point);
                }
            }
        }
        Self::new(dims, packed, scales, zero_points, group, &device)
    }

    /// `[out, in]`.
    pub fn dims(&self) -> [usize; 2] {
        let [rows, bytes] = self.packed.dims();
        [rows, 2 * bytes]
    }

    /// Bytes of a matrix `[out, in]`.
    pub const fn bytes(rows: usize, depth: usize, group: usize) -> usize {
        rows * (depth / 2 + 2 * size_of::<f32>() * depth.div_ceil(group))
    }

    /// The weights as floats, `[out, in]`: computed in f32 and rounded once.
    pub fn dequantize(&self, dtype: DType) -> Tensor<2> {
        let [rows, depth] = self.dims();
        let device = self.packed.device();
        if !device.supports_dtype(DType::U8) {
            return self.dequantize_on_host(dtype);
        }
        let packed = self.packed.clone().cast(FloatDType::F32);
        let high = (packed.clone() / 16.0).floor();
        let low = packed - high.clone() * 16.0;
        let values: Tensor<3> = Tensor::stack(vec![low, high], 2); // [out, in / 2, 2]
        let values = values.reshape([rows, depth]);
        let [_, groups] = self.scales.dims();
        // One for each weight.
        let spread = |of_groups: &Tensor<2>| {
            let of_groups: Tensor<3> = of_groups.clone().unsqueeze_dim(2);
            let of_weights = of_groups.repeat_dim(2, self.group);
            let of_weights = of_weights.reshape([rows, groups * self.group]);
            of_weights.narrow(1, 0, depth)
        };
        (values * spread(&self.scales) + spread(&self.zero_points)).cast(dtype)
    }

    /// The weights rounded to 8 bits: what the CPU's integer kernel multiplies. The scale of a row is the
    /// least one that holds the range of all its groups, used or not, so that it is known from their
    /// scales and zero points alone.
    pub fn to_int8(&self) -> Int8Rows {
        let [rows, depth] = self.dims();
        let [_, groups] = self.scales.dims();
        let scales: Vec<f32> = self.scales.to_data().iter::<f32>().collect();
        let zero_points: Vec<f32> = self.zero_points.to_data().iter::<f32>().collect();
        let weight = host_values(self.dequantize_on_host(DType::F32));
        let mut values = vec![0; rows * depth];
        let mut row_scales = vec![0.0; rows];
        for (row, row_scale) in row_scales.iter_mut().enumerate() {
            let ends = (row * groups..(row + 1) * groups)
                .map(|group| (scales[group], zero_points[group]))
                .flat_map(|(scale, zero)| [zero, scale * f32::from(Self::LARGEST) + zero]);
            let ends: Vec<f32> = ends.collect();
            let inverse;
            (*row_scale, inverse) = scale_of(largest_magnitude(&ends));
            let place = row * depth..(row + 1) * depth;
            for (value, weight) in values[place.clone()].iter_mut().zip(&weight[place]) {
                *value = if inverse > 0.0 {
                    nearest(weight * inverse) as i8
                } else {
                    0
                };
            }
        }
        Int8Rows::new([rows, depth], values, row_scales, &self.packed.device())
    }

    /// [`dequantize`](Self::dequantize) for a device without integers of 8 bits: it stores them all the same,
    /// but computes nothing with them.
    pub(super) fn dequantize_on_host(&self, dtype: DType) -> Tensor<2> {
        let [rows, depth] = self.dims();
        let [_, groups] = self.scales.dims();
        let packed: Vec<u8> = self.packed.to_data().iter::<u8>().collect();
        let scales: Vec<f32> = self.scales.to_data().iter::<f32>().collect();
        let zero_points: Vec<f32> = self.zero_points.to_data().iter::<f32>().collect();
        let weight = (0..rows * depth).map(|index| {
            let byte = packed[index / 2];
            let value = if index % 2 == 0 { byte & 15 } else { byte >> 4 };
            let group = index / depth * groups + index % depth / self.group;
            f32::from(value) * scales[group] + zero_points[group]
        });
        let weight: Vec<f32> = weight.collect();
        let data = TensorData::new(weight, [rows, depth]);
        Tensor::from_data(data, (&self.packed.device(), dtype))
    }
}

fn check(depth: usize, group: usize) {
    assert!(
        depth.is_multiple_of(2),
        "rows of {depth} values are not whole bytes"
    );
    assert!(
        group > 0 && group.is_multiple_of(2),
        "groups of {group} values are not whole bytes"
    );
}

/// Quantizes a group and returns its scale and zero point.
fn quantize_group(weight: &[f32], packed: &mut [u8]) -> (f32, f32) {
    if weight.iter().any(|weight| !weight.is_finite()) {
        return (f32::NAN, f32::NAN);
    }
    let limit = f32::from(Uint4Groups::LARGEST);
    let least = weight.iter().copied().fold(f32::INFINITY, f32::min);
    let largest = weight.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let scale = (largest - least) / limit;
    if scale > 0.0 {
        let (pairs, _) = weight.as_chunks::<2>();
        for (byte, pair) in packed.iter_mut().zip(pairs) {
            let [low, high] =
                pair.map(|weight| nearest(((weight - least) / scale).clamp(0.0, limit)) as u8);
            *byte = low | high << 4;
        }
    }
    (scale, least)
}
