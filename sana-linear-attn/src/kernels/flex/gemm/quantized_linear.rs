//! A linear layer with a quantized weight, by [`int8`](crate::kernels::flex::gemm::int8).

use crate::kernels::flex::backend::primitive::{Primitive, contiguous, dims, tensor, values};
use crate::kernels::flex::gemm::int8::{Instructions, Weight, gemm};

/// `x W^T + b` with a weight of 8 bits, then SiLU where asked for.
///
/// # Shapes
/// - `x` `[rows, in]`, `weight` `[out, in]`, `scales` and `bias` `[out]`
/// - result `[rows, out]`
pub(crate) fn int8(
    x: Primitive,
    weight: Primitive,
    scales: Primitive,
    bias: Primitive,
    silu: bool,
) -> Primitive {
    let (weight, scales) = (contiguous(weight), contiguous(scales));
    let length = weight.layout().num_elements();
    let weight = Weight::Int8 {
        values: &weight.storage::<i8>()[..length],
        scales: values(&scales),
    };
    forward(x, &weight, bias, silu)
}

/// The same with a weight of 4 bits: its bytes, scales, zero points and the size of its groups.
pub(crate) fn uint4(
    x: Primitive,
    (packed, scales, zero_points, group): (Primitive, Primitive, Primitive, usize),
    bias: Primitive,
    silu: bool,
) -> Primitive {
    let packed = contiguous(packed);
    let (scales, zero_points) = (contiguous(scales), contiguous(zero_points));
    let length = packed.layout().num_elements();
    let weight = Weight::Uint4 {
        packed: &packed.storage::<u8>()[..length],
        scales: values(&scales),
        zero_points: values(&zero_points),
        group,
    };
    forward(x, &weight, bias, silu)
}

fn forward(x: Primitive, weight: &Weight<'_>, bias: Primitive, silu: bool) -> Primitive {
    let (x, bias) = (contiguous(x), contiguous(bias));
    let ([rows, depth], [columns]) = (dims(&x), dims(&bias));
    let shape = [rows, columns, depth];
    let bias = Some(values(&bias));
    let out = gemm(shape, values(&x), weight, bias, silu, Instructions::best());
    tensor(out, [rows, columns])
}
