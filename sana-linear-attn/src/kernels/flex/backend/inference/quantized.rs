//! Linear layers with quantized weights.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;

use crate::kernels::flex::gemm::quantized_linear;
use crate::quantization::{Int8Rows, QuantizedMatrix, Uint4Groups};

/// Forward operations of untracked f32 tensors with weights of integers.
#[backend_extension(Flex)]
pub trait QuantizedOps: Backend {
    /// See [`quantized_linear`](crate::kernels::quantized_linear) of [`Int8Rows`].
    fn int8_linear(
        x: FloatTensor<Self>,
        values: IntTensor<Self>,
        scales: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        silu: bool,
    ) -> FloatTensor<Self>;
    /// See [`quantized_linear`](crate::kernels::quantized_linear) of [`Uint4Groups`].
    fn uint4_linear(
        x: FloatTensor<Self>,
        packed: IntTensor<Self>,
        scales: FloatTensor<Self>,
        zero_points: FloatTensor<Self>,
        group: usize,
        bias: FloatTensor<Self>,
        silu: bool,
    ) -> FloatTensor<Self>;
}

impl QuantizedOps for Flex {
    fn int8_linear(
        x: FloatTensor<Self>,
        values: IntTensor<Self>,
        scales: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        silu: bool,
    ) -> FloatTensor<Self> {
        quantized_linear::int8(x, values, scales, bias, silu)
    }

    fn uint4_linear(
        x: FloatTensor<Self>,
        packed: IntTensor<Self>,
        scales: FloatTensor<Self>,
        zero_points: FloatTensor<Self>,
        group: usize,
        bias: FloatTensor<Self>,
        silu: bool,
    ) -> FloatTensor<Self> {
        quantized_linear::uint4(x, (packed, scales, zero_points, group), bias, silu)
    }
}

pub(crate) fn quantized_linear(
    x: Tensor<2>,
    weight: &QuantizedMatrix,
    bias: Option<Tensor<1>>,
    silu: bool,
) -> Tensor<2> {
    let [columns, _] = weight.dims();
    let bias = bias.unwrap_or_else(|| Tensor::zeros([columns], (&x.device(), x.dtype())));
    let (x, bias) = (x.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(match weight {
        QuantizedMatrix::Int8Rows(Int8Rows { values, scales }) => {
            let (values, scales) = (
                values.clone().into_dispatch(),
                scales.clone().into_dispatch(),
            );
            <Dispatch as QuantizedOps>::int8_linear(x, values, scales, bias, silu)
        }
        QuantizedMatrix::Uint4Groups(Uint4Groups {
            packed,
            scales,
            zero_points,
            group,
        }) => <Dispatch as QuantizedOps>::uint4_linear(
            x,
            packed.clone().into_dispatch(),
            scales.clone().into_dispatch(),
            zero_points.clone().into_dispatch(),
            *group,
            bias,
            silu,
        ),
    })
}
