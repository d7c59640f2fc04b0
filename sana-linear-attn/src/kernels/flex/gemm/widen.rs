//! 16-bit floats to f32 on all cores, into large pages.

use burn::backend::ops::FloatTensorOps;
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::{DType, FloatDType, TensorData};

use crate::kernels::flex::backend::primitive::{Primitive, contiguous};
use crate::weights::widen::{Target, widened};

pub(crate) fn forward(x: Primitive) -> Primitive {
    let x = contiguous(x);
    let (shape, dtype) = (x.shape(), x.dtype());
    let length = dtype.size() * shape.num_elements();
    match widened(&x.bytes()[..length], dtype, Target::Pages) {
        Some(values) => {
            let data = TensorData::from_bytes(values, shape, DType::F32);
            Flex::float_from_data(data, &Default::default())
        }
        None => Flex::float_cast(x, FloatDType::F32),
    }
}
