//! A linear layer in one pass: the sums start at the bias, and SiLU is applied while the
//! result is still in cache. On AVX-512 and AVX2 the GEMM is [`dense`](crate::kernels::flex::gemm::dense), elsewhere that
//! of the crate `gemm`.

#[cfg(target_arch = "x86_64")]
use burn::tensor::DType;
use rayon::prelude::*;

use crate::kernels::flex::backend::primitive::{Primitive, contiguous, dims, tensor, values};
use crate::kernels::flex::elementwise::silu_in_place;
#[cfg(target_arch = "x86_64")]
use crate::kernels::flex::gemm::dense::{Stored, gemm};
use crate::kernels::flex::gemm::{Strides, parallel_gemm};

/// Elements of one parallel task of the passes around the GEMM.
const CHUNK: usize = 1 << 15;

/// Elements of a result that GEMM treats on its own, at most.
const SMALLEST: usize = 256;

/// `x W^T + b`, then SiLU where asked for.
///
/// # Shapes
/// - `x` `[rows, in]`, `weight` `[out, in]`, f32 or, where [`supports`](crate::kernels::flex::backend::supports) says so, bf16, `bias` `[out]`
/// - result `[rows, out]`
pub(crate) fn forward(
    x: Primitive,
    weight: Primitive,
    bias: Option<Primitive>,
    silu: bool,
) -> Primitive {
    let (x, weight) = (contiguous(x), contiguous(weight));
    let bias = bias.map(contiguous);
    let ([count, depth], [columns, _]) = (dims(&x), dims(&weight));
    let bias = bias.as_ref().map(values);
    #[cfg(target_arch = "x86_64")]
    {
        let stored = match weight.dtype() {
            DType::BF16 => Stored::Bf16,
            _ => Stored::F32,
        };
        if stored.is_supported(depth) {
            let bytes = &weight.bytes()[..weight.dtype().size() * columns * depth];
            let shape = [count, columns, depth];
            let out = gemm(shape, values(&x), (bytes, stored), bias, silu);
            return tensor(out, [count, columns]);
        }
    }
    // A row is the same alone and among others: rows of zeros keep it out of the form
    // that the crate has for results of so few elements, which sums in another order.
    let rows = match count * columns <= SMALLEST {
        true => (SMALLEST / columns + 1).max(2),
        false => count.max(2),
    };
    let mut padded = Vec::new();
    let x = match rows > count {
        true => {
            padded.extend_from_slice(values(&x));
            padded.resize(rows * depth, 0.0);
            padded.as_slice()
        }
        false => values(&x),
    };
    let mut out = vec![0f32; rows * columns];
    if let Some(bias) = bias {
        let rows_per_task = CHUNK.div_ceil(columns.max(1));
        out.par_chunks_mut(rows_per_task * columns)
            .for_each(|rows| {
                for row in rows.chunks_exact_mut(columns) {
                    row.copy_from_slice(bias);
                }
            });
    }
    parallel_gemm(
        [rows, columns, depth],
        &mut out,
        Strides::rows(columns),
        bias.is_some(),
        x,
        Strides::rows(depth),
        values(&weight),
        Strides::columns(depth),
        gemm::Parallelism::Rayon(0),
    );
    if silu {
        out.par_chunks_mut(CHUNK).for_each(silu_in_place);
    }
    out.truncate(count * columns);
    tensor(out, [count, columns])
}
