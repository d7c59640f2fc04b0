//! Values onto a device, in the order in which its kernels read them.

use burn::tensor::{Bytes, DType, Device, Tensor, TensorData};

use crate::precision::is_cpu;

/// The values as a tensor in `dtype`.
///
/// Kernels of convolutions `[out, in, height, width]` go to GPUs flat, with their input channels
/// innermost. Burn lays the rows of a tensor of several axes out at multiples of 16 bytes on CUDA, which
/// for rows of three 16-bit numbers takes 2.7 times the memory, a copy row by row, and one more copy
/// at every use, since its convolutions read input channels innermost.
pub(super) fn upload<const D: usize>(data: TensorData, dtype: DType, device: &Device) -> Tensor<D> {
    match is_cpu(device) || device.is_autodiff() || D != 4 {
        true => Tensor::from_data(data, (device, dtype)),
        false => kernel(data, dtype, device),
    }
}

/// The kernel of a convolution, flat, with its input channels innermost.
fn kernel<const D: usize>(data: TensorData, dtype: DType, device: &Device) -> Tensor<D> {
    let shape: [usize; D] = data.shape().dims();
    let [out, input, height, width] = [shape[0], shape[1], shape[2], shape[3]];
    let data = data.convert_dtype(dtype);
    let flat = |data: TensorData| {
        let length = data.shape().num_elements();
        let flat = TensorData::from_bytes(data.into_bytes(), [length], dtype);
        Tensor::<1>::from_data(flat, (device, dtype))
    };
    if input == 1 || height * width == 1 {
        return flat(data).reshape(shape);
    }
    let (mut innermost, mut axes) = ([0; D], [0isize; D]);
    innermost.copy_from_slice(&[out, height, width, input]);
    axes.copy_from_slice(&[0, 3, 1, 2]);
    let turned = flat(channels_innermost(data, shape)).reshape(innermost);
    turned.permute(axes)
}

/// `[out, in, height, width]` as `[out, height, width, in]`.
fn channels_innermost<const D: usize>(data: TensorData, shape: [usize; D]) -> TensorData {
    let (dtype, size) = (data.dtype(), data.dtype().size());
    let (input, taps) = (shape[1], shape[2] * shape[3]);
    let bytes = data.as_bytes();
    let mut turned = vec![0u8; bytes.len()];
    let kernel = input * taps * size;
    for (from, to) in bytes
        .chunks_exact(kernel)
        .zip(turned.chunks_exact_mut(kernel))
    {
        for (tap, row) in to.chunks_exact_mut(input * size).enumerate() {
            for (channel, element) in row.chunks_exact_mut(size).enumerate() {
                let start = (channel * taps + tap) * size;
                element.copy_from_slice(&from[start..start + size]);
            }
        }
    }
    let shape = [shape[0], shape[2], shape[3], input];
    TensorData::from_bytes(Bytes::from_bytes_vec(turned), shape, dtype)
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use super::*;
    use crate::parity::{device, values};

    #[test]
    fn channels_move_to_the_end() {
        for dtype in [DType::F32, DType::BF16] {
            let shape = [2, 3, 2, 2];
            let numbers: Vec<f32> = (0..24).map(|i| i as f32).collect();
            let data = TensorData::new(numbers.clone(), shape).convert_dtype(dtype);
            let turned = channels_innermost(data, shape);
            assert_eq!(turned.shape().as_slice(), [2, 2, 2, 3]);
            let turned: Vec<f32> = turned.iter::<f32>().collect();
            for (i, value) in turned.into_iter().enumerate() {
                let (o, tap, c) = (i / 12, i / 3 % 4, i % 3);
                assert_eq!(value, numbers[(o * 3 + c) * 4 + tap]);
            }
        }
    }

    /// Whatever lies where on the device, an index gives its own value.
    #[test]
    fn kernels_keep_their_values() {
        let device = device();
        for shape in [[4, 3, 3, 3], [5, 1, 3, 3], [4, 6, 1, 1], [2, 4, 2, 2]] {
            let count: usize = shape.iter().product();
            let numbers: Vec<f32> = (0..count).map(|i| i as f32 - 7.0).collect();
            let data = TensorData::new(numbers.clone(), shape);
            for dtype in [DType::F32, DType::F16] {
                let tensor: Tensor<4> = kernel(data.clone(), dtype, &device);
                assert_eq!((tensor.dims(), tensor.dtype()), (shape, dtype));
                assert_eq!(values(tensor), numbers);
            }
            let tensor: Tensor<4> = upload(data, DType::F32, &device);
            assert_eq!(values(tensor), numbers);
        }
    }
}
