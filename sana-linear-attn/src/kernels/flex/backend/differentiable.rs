//! The CPU kernels as operations of burn's backends: forward on `Flex`, and on `Autodiff<Flex>`
//! with gradients of their own.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;

/// Forward operations. All tensors are f32 but the one that [`widen`](Self::widen) takes.
#[backend_extension(Flex, Autodiff: cfg(feature = "autodiff"))]
pub trait DifferentiableOps: Backend {
    /// See [`conv3x3`](crate::kernels::conv3x3).
    fn conv3x3(x: FloatTensor<Self>, weight: FloatTensor<Self>, stride: usize)
    -> FloatTensor<Self>;
    /// See [`depthwise_tokens`](crate::kernels::depthwise_tokens); `taps` is `[kernel * kernel, channels]`.
    fn depthwise(
        x: FloatTensor<Self>,
        taps: FloatTensor<Self>,
        height: usize,
        width: usize,
    ) -> FloatTensor<Self>;
    /// See [`rms_norm_channels`](crate::kernels::rms_norm_channels), without the shift.
    fn rms_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        eps: f64,
        axis: usize,
    ) -> FloatTensor<Self>;
    /// See [`silu`](crate::kernels::silu).
    fn silu_fused(x: FloatTensor<Self>) -> FloatTensor<Self>;
    /// See [`silu_gate`](crate::kernels::silu_gate).
    fn silu_gate(x: FloatTensor<Self>) -> FloatTensor<Self>;
    /// A tensor of 16-bit floats in f32: see [`cast`](crate::kernels::cast()).
    fn widen(x: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl DifferentiableOps for Flex {
    fn conv3x3(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        stride: usize,
    ) -> FloatTensor<Self> {
        crate::kernels::flex::conv::conv3x3::forward(x, weight, stride)
    }

    fn depthwise(
        x: FloatTensor<Self>,
        taps: FloatTensor<Self>,
        height: usize,
        width: usize,
    ) -> FloatTensor<Self> {
        crate::kernels::flex::conv::depthwise::forward(x, taps, [height, width])
    }

    fn rms_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        eps: f64,
        axis: usize,
    ) -> FloatTensor<Self> {
        crate::kernels::flex::norm::rms_norm::forward(x, weight, None, None, eps, axis)
    }

    fn silu_fused(x: FloatTensor<Self>) -> FloatTensor<Self> {
        crate::kernels::flex::elementwise::silu(x)
    }

    fn silu_gate(x: FloatTensor<Self>) -> FloatTensor<Self> {
        crate::kernels::flex::elementwise::silu_gate(x)
    }

    fn widen(x: FloatTensor<Self>) -> FloatTensor<Self> {
        crate::kernels::flex::gemm::widen::forward(x)
    }
}

pub(crate) fn conv3x3(x: Tensor<4>, weight: Tensor<4>, stride: usize) -> Tensor<4> {
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(<Dispatch as DifferentiableOps>::conv3x3(x, weight, stride))
}

pub(crate) fn depthwise_tokens(
    x: Tensor<3>,
    taps: Tensor<2>,
    [height, width]: [usize; 2],
) -> Tensor<3> {
    let (x, taps) = (x.into_dispatch(), taps.into_dispatch());
    Tensor::from_dispatch(<Dispatch as DifferentiableOps>::depthwise(
        x, taps, height, width,
    ))
}

pub(crate) fn rms_norm<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<1>,
    eps: f64,
    axis: usize,
) -> Tensor<D> {
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(<Dispatch as DifferentiableOps>::rms_norm(
        x, weight, eps, axis,
    ))
}

pub(crate) fn silu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as DifferentiableOps>::silu_fused(
        x.into_dispatch(),
    ))
}

pub(crate) fn silu_gate(x: Tensor<3>) -> Tensor<3> {
    Tensor::from_dispatch(<Dispatch as DifferentiableOps>::silu_gate(
        x.into_dispatch(),
    ))
}

pub(crate) fn widen<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as DifferentiableOps>::widen(x.into_dispatch()))
}

#[cfg(feature = "autodiff")]
mod gradients {
    use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
    use burn::backend::autodiff::grads::Gradients;
    use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, binary, unary};
    use burn::backend::ops::FloatTensorOps;
    use burn::backend::tensor::FloatTensor;
    use burn::backend::{Autodiff, Flex};

    use super::DifferentiableOps;
    use crate::kernels::flex::conv::{conv3x3, depthwise};
    use crate::kernels::flex::elementwise;
    use crate::kernels::flex::norm::rms_norm;

    type Primitive = FloatTensor<Flex>;

    /// An operation of one tracked input whose gradient needs that input and `Extra`.
    macro_rules! unary_gradient {
        ($name:ident, $gradient:path) => {
            #[derive(Debug)]
            struct $name;
            impl Backward<Flex, 1> for $name {
                type State = Primitive;
                fn backward(
                    self,
                    ops: Ops<Self::State, 1>,
                    grads: &mut Gradients,
                    _: &mut Checkpointer,
                ) {
                    let x = ops.state;
                    unary::<Flex, _>(ops.parents, ops.node, grads, |grad| $gradient(x, grad));
                }
            }
        };
    }

    /// The gradient in the dtype of the narrow tensor.
    fn narrowed(x: Primitive, grad: Primitive) -> Primitive {
        Flex::float_cast(grad, x.dtype().into())
    }

    unary_gradient!(Widen, narrowed);
    unary_gradient!(Silu, elementwise::silu_gradient);
    unary_gradient!(SiluGate, elementwise::silu_gate_gradient);

    /// An operation of an input and a weight, whose gradients need both and `Extra`.
    macro_rules! weighted_gradient {
        ($name:ident, $extra:ty, $input:path, $weight:path) => {
            #[derive(Debug)]
            struct $name;
            impl Backward<Flex, 2> for $name {
                type State = (Primitive, Primitive, $extra);
                fn backward(
                    self,
                    ops: Ops<Self::State, 2>,
                    grads: &mut Gradients,
                    _: &mut Checkpointer,
                ) {
                    let (x, weight, extra) = ops.state;
                    binary::<Flex, _, _>(
                        ops.parents,
                        ops.node,
                        grads,
                        |grad| $input(x.clone(), weight.clone(), grad, extra),
                        |grad| $weight(x.clone(), weight.clone(), grad, extra),
                    );
                }
            }
        };
    }

    weighted_gradient!(
        Conv3x3,
        usize,
        conv3x3::input_gradient,
        conv3x3::weight_gradient
    );
    weighted_gradient!(
        Depthwise,
        [usize; 2],
        depthwise::input_gradient,
        depthwise::taps_gradient
    );
    weighted_gradient!(
        RmsNorm,
        (f64, usize),
        rms_norm::input_gradient,
        rms_norm::weight_gradient
    );

    impl<C: CheckpointStrategy> DifferentiableOps for Autodiff<Flex, C> {
        fn conv3x3(
            x: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            stride: usize,
        ) -> FloatTensor<Self> {
            let nodes = [x.node(), weight.node()];
            let (x, weight) = (x.into_primitive(), weight.into_primitive());
            let y = Flex::conv3x3(x.clone(), weight.clone(), stride);
            match Conv3x3.prepare::<C>(nodes).compute_bound().stateful() {
                OpsKind::Tracked(prep) => prep.finish((x, weight, stride), y),
                OpsKind::UnTracked(prep) => prep.finish(y),
            }
        }

        fn depthwise(
            x: FloatTensor<Self>,
            taps: FloatTensor<Self>,
            height: usize,
            width: usize,
        ) -> FloatTensor<Self> {
            let nodes = [x.node(), taps.node()];
            let (x, taps) = (x.into_primitive(), taps.into_primitive());
            let y = Flex::depthwise(x.clone(), taps.clone(), height, width);
            match Depthwise.prepare::<C>(nodes).compute_bound().stateful() {
                OpsKind::Tracked(prep) => prep.finish((x, taps, [height, width]), y),
                OpsKind::UnTracked(prep) => prep.finish(y),
            }
        }

        fn rms_norm(
            x: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            eps: f64,
            axis: usize,
        ) -> FloatTensor<Self> {
            let nodes = [x.node(), weight.node()];
            let (x, weight) = (x.into_primitive(), weight.into_primitive());
            let y = Flex::rms_norm(x.clone(), weight.clone(), eps, axis);
            match RmsNorm.prepare::<C>(nodes).compute_bound().stateful() {
                OpsKind::Tracked(prep) => prep.finish((x, weight, (eps, axis)), y),
                OpsKind::UnTracked(prep) => prep.finish(y),
            }
        }

        fn silu_fused(x: FloatTensor<Self>) -> FloatTensor<Self> {
            let nodes = [x.node()];
            let x = x.into_primitive();
            let y = Flex::silu_fused(x.clone());
            match Silu.prepare::<C>(nodes).compute_bound().stateful() {
                OpsKind::Tracked(prep) => prep.finish(x, y),
                OpsKind::UnTracked(prep) => prep.finish(y),
            }
        }

        fn silu_gate(x: FloatTensor<Self>) -> FloatTensor<Self> {
            let nodes = [x.node()];
            let x = x.into_primitive();
            let y = Flex::silu_gate(x.clone());
            match SiluGate.prepare::<C>(nodes).compute_bound().stateful() {
                OpsKind::Tracked(prep) => prep.finish(x, y),
                OpsKind::UnTracked(prep) => prep.finish(y),
            }
        }

        fn widen(x: FloatTensor<Self>) -> FloatTensor<Self> {
            let nodes = [x.node()];
            let x = x.into_primitive();
            let y = Flex::widen(x.clone());
            match Widen.prepare::<C>(nodes).compute_bound().stateful() {
                OpsKind::Tracked(prep) => prep.finish(x, y),
                OpsKind::UnTracked(prep) => prep.finish(y),
            }
        }
    }
}
