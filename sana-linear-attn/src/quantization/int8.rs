//! 8 bits, a scale for each row.

use burn::module::Module;
use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};

use super::rounding::{host_values, largest_magnitude, nearest};

/// A matrix `[out, in]` of 8-bit integers: a weight is `value * scale`, with the scale of its row.
#[derive(Module, Debug)]
pub struct Int8Rows {
    /// `[out, in]` of dtype [`I8`](DType::I8), from -127 to 127.
    pub values: Tensor<2, Int>,
    /// `[out]`, f32.
    pub scales: Tensor<1>,
}

impl Int8Rows {
    /// The largest value; the smallest is its negative.
    pub const LARGEST: i8 = 127;

    /// A matrix of these values, row by row, and scales.
    ///
    /// # Panics
    /// If their numbers are not those of `[out, in]`, or a value is -128.
    pub fn new(
        [rows, depth]: [usize; 2],
        values: Vec<i8>,
        scales: Vec<f32>,
        device: &Device,
    ) -> Self {
        assert_eq!(values.len(), rows * depth, "values of {rows} rows");
        assert_eq!(scales.len(), rows, "scales of {rows} rows");
        assert!(!values.contains(&i8::MIN), "-128 among the values");
        Self {
            values: Tensor::from_data(TensorData::new(values, [rows, depth]), (device, DType::I8)),
            scales: Tensor::from_data(TensorData::new(scales, [rows]), (device, DType::F32)),
        }
    }

    /// The matrix nearest to a weight `[out, in]` of any float dtype, on its device: a scale is the
    /// largest magnitude of its row by 127, values are rounded to nearest, ties to even.
    ///
    /// A row with a value that is not finite becomes NaN, a row of zeros zeros.
    pub fn quantize(weight: Tensor<2>) -> Self {
        let (dims, device) = (weight.dims(), weight.device());
        let [rows, depth] = dims;
        let weight = host_values(weight);
        let mut values = vec![0; rows * depth];
        let mut scales = vec![0.0; rows];
        for (row, scale) in scales.iter_mut().enumerate() {
            let place = row * depth..(row + 1) * depth;
            *scale = quantize_row(&weight[place.clone()], &mut values[place]);
        }
        Self::new(dims, values, scales, &device)
    }

    /// `[out, in]`.
    pub fn dims(&self) -> [usize; 2] {
        self.values.dims()
    }

    /// Bytes of a matrix `[out, in]`.
    pub const fn bytes(rows: usize, depth: usize) -> usize {
        rows * depth + size_of::<f32>() * rows
    }

    /// The weights as floats, `[out, in]`: computed in f32 and rounded once.
    pub fn dequantize(&self, dtype: DType) -> Tensor<2> {
        let device = self.values.device();
        if device.supports_dtype(DType::I8) {
            let values = self.values.clone().cast(FloatDType::F32);
            return (values * self.scales.clone().unsqueeze_dim(1)).cast(dtype);
        }
        // A device without integers of 8 bits stores them all the same, but computes nothing with them.
        let dims = self.dims();
        let values = self.values.to_data();
        let scales: Vec<f32> = self.scales.to_data().iter::<f32>().collect();
        let weight: Vec<f32> = values
            .iter::<f32>()
            .enumerate()
            .map(|(index, value)| value * scales[index / dims[1]])
            .collect();
        Tensor::from_data(TensorData::new(weight, dims), (&device, dtype))
    }
}

/// Quantizes a row and returns its scale.
fn quantize_row(weight: &[f32], values: &mut [i8]) -> f32 {
    let limit = f32::from(Int8Rows::LARGEST);
    let largest = largest_magnitude(weight);
    if !largest.is_finite() {
        return f32::NAN;
    }
    let scale = largest / limit;
    if scale > 0.0 {
        for (value, weight) in values.iter_mut().zip(weight) {
            *value = nearest((weight / scale).clamp(-limit, limit)) as i8;
        }
    }
    scale
}
