//! The kernels themselves, on the CPU backend's tensors in f32: rayon over rows, planes or tiles,
//! inner loops that the compiler vectorises, products by the GEMM that burn's CPU backend uses or, of
//! linear layers on AVX-512, by `wide_product`.

pub(super) mod attention;
pub(super) mod conv3x3;
pub(super) mod depthwise;
mod disjoint;
pub(super) mod elementwise;
pub(super) mod gated_depthwise;
pub(super) mod grouped;
pub(super) mod layout;
pub(super) mod linear;
pub(super) mod modulate;
mod prefetch;
mod product;
pub(super) mod rms_norm;
pub(super) mod softmax_attention;
#[cfg(target_arch = "x86_64")]
mod wide_product;
pub(super) mod widen;
pub(super) mod winograd;

use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::TensorData;

type Primitive = FloatTensor<Flex>;

/// The tensor in row-major order with its data starting at the front of its storage.
fn contiguous(x: Primitive) -> Primitive {
    if x.is_contiguous() && x.layout().start_offset() == 0 {
        x
    } else {
        x.to_contiguous()
    }
}

/// Values of a tensor that [`contiguous`] has seen.
fn values(x: &Primitive) -> &[f32] {
    let length = x.layout().num_elements();
    &x.storage::<f32>()[..length]
}

/// [`values`], to be changed in place: `None` where another tensor shares them.
fn unique_values(x: &mut Primitive) -> Option<&mut [f32]> {
    let length = x.layout().num_elements();
    Some(&mut x.try_storage_mut::<f32>()?[..length])
}

fn dims<const D: usize>(x: &Primitive) -> [usize; D] {
    x.shape().dims()
}

fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Primitive {
    Flex::float_from_data(TensorData::new(values, shape), &Default::default())
}

/// The sum of partial results, always in the same order, so that a run can be repeated bit for bit.
fn sum_in_order(parts: Vec<Vec<f32>>) -> Vec<f32> {
    let mut parts = parts.into_iter();
    let mut total = parts.next().unwrap_or_default();
    for part in parts {
        for (total, part) in total.iter_mut().zip(part) {
            *total += part;
        }
    }
    total
}
