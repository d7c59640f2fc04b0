//! How tensors are laid out for the kernels, and how the kernels' work is cut into cubes.

use burn::backend::TensorMetadata;
use burn::tensor::{DType, Shape};
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::{into_contiguous, untile};
use burn_cubecl::tensor::CubeTensor;

/// Units of a full cube: what WebGPU guarantees, and a multiple of every plane's size.
pub(super) const UNITS: usize = 256;

/// Channels that a unit reads at once: 4, where the axis divides into fours.
pub(super) fn vector_width(channels: usize) -> usize {
    if channels.is_multiple_of(4) { 4 } else { 1 }
}

/// The tensor as a kernel can read it in vectors of its last axis: the tensor itself where that
/// axis is contiguous and every other step is a whole number of vectors, else a copy.
pub(super) fn rows(x: CubeTensor, width: usize) -> CubeTensor {
    let x = untile(x);
    let (shape, strides) = (x.meta.shape(), x.meta.strides());
    let last = shape.num_dims() - 1;
    let readable = (shape[last] == 1 || strides[last] == 1)
        && (0..last).all(|axis| shape[axis] == 1 || strides[axis].is_multiple_of(width));
    if readable { x } else { into_contiguous(x) }
}

/// The tensor with a step of 0 along the axes on which it is broadcast, those of length 1.
pub(super) fn broadcast(mut x: CubeTensor) -> CubeTensor {
    for axis in 0..x.meta.num_dims() {
        if x.meta.shape()[axis] == 1 {
            x.meta.strides_mut()[axis] = 0;
        }
    }
    x
}

/// A new tensor on the device of another, contiguous, of unset values.
pub(super) fn empty(like: &CubeTensor, shape: Shape, dtype: DType) -> CubeTensor {
    let bytes = shape.num_elements() * dtype.size();
    let handle = like.client.empty(bytes);
    CubeTensor::new_contiguous(
        like.client.clone(),
        like.device.clone(),
        shape,
        handle,
        dtype,
    )
}

/// `count` cubes in a line, folded where one dimension of the grid is too short for them. The last
/// ones may be beyond the count: kernels leave where `CUBE_POS` is.
pub(super) fn cubes(count: usize) -> CubeCount {
    let lines = count.div_ceil(usize::from(u16::MAX)).max(1);
    CubeCount::Static(count.div_ceil(lines) as u32, lines as u32, 1)
}

/// The width of addresses that reach every element of these tensors.
pub(super) fn addresses(tensors: &[&CubeTensor]) -> AddressType {
    tensors
        .iter()
        .map(|x| x.required_address_type())
        .max()
        .unwrap_or_default()
}

/// Whether there is nothing to compute.
pub(super) fn is_empty(x: &CubeTensor) -> bool {
    x.shape().num_elements() == 0
}
