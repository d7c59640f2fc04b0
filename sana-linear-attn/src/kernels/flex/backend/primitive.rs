//! Tensors of the CPU backend as slices of values.

use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::TensorData;

pub(crate) type Primitive = FloatTensor<Flex>;

/// The tensor in row-major order with its data starting at the front of its storage.
pub(crate) fn contiguous(x: Primitive) -> Primitive {
    if x.is_contiguous() && x.layout().start_offset() == 0 {
        x
    } else {
        x.to_contiguous()
    }
}

/// Values of a tensor that [`contiguous`] has seen.
pub(crate) fn values(x: &Primitive) -> &[f32] {
    let length = x.layout().num_elements();
    &x.storage::<f32>()[..length]
}

/// [`values`], to be changed in place: `None` where another tensor shares them.
pub(crate) fn unique_values(x: &mut Primitive) -> Option<&mut [f32]> {
    let length = x.layout().num_elements();
    Some(&mut x.try_storage_mut::<f32>()?[..length])
}

pub(crate) fn dims<const D: usize>(x: &Primitive) -> [usize; D] {
    x.shape().dims()
}

pub(crate) fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Primitive {
    Flex::float_from_data(TensorData::new(values, shape), &Default::default())
}

/// The sum of partial results, always in the same order, so that a run can be repeated bit for bit.
pub(crate) fn sum_in_order(parts: Vec<Vec<f32>>) -> Vec<f32> {
    let mut parts = parts.into_iter();
    let mut total = parts.next().unwrap_or_default();
    for part in parts {
        for (total, part) in total.iter_mut().zip(part) {
            *total += part;
        }
    }
    total
}
