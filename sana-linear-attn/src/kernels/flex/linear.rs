//! A linear layer in one pass: the bias is where the product starts, and SiLU is applied while the
//! result is still in cache.

use rayon::prelude::*;

use super::elementwise::silu_in_place;
use super::product::{Strides, parallel_product};
use super::{Primitive, contiguous, dims, tensor, values};

/// Elements of one parallel task of the passes beside the product.
const CHUNK: usize = 1 << 15;

/// `x W^T + b`, then SiLU where asked for.
///
/// # Shapes
/// - `x` `[rows, in]`, `weight` `[out, in]`, `bias` `[out]`, result `[rows, out]`
pub(in super::super) fn forward(
    x: Primitive,
    weight: Primitive,
    bias: Primitive,
    silu: bool,
) -> Primitive {
    let (x, weight, bias) = (contiguous(x), contiguous(weight), contiguous(bias));
    let ([rows, depth], [columns, _]) = (dims(&x), dims(&weight));
    let bias = values(&bias);
    let mut out = vec![0f32; rows * columns];
    let rows_per_task = CHUNK.div_ceil(columns.max(1));
    out.par_chunks_mut(rows_per_task * columns)
        .for_each(|rows| {
            for row in rows.chunks_exact_mut(columns) {
                row.copy_from_slice(bias);
            }
        });
    parallel_product(
        [rows, columns, depth],
        &mut out,
        Strides::rows(columns),
        true,
        values(&x),
        Strides::rows(depth),
        values(&weight),
        Strides::columns(depth),
        gemm::Parallelism::Rayon(0),
    );
    if silu {
        out.par_chunks_mut(CHUNK).for_each(silu_in_place);
    }
    tensor(out, [rows, columns])
}
