//! Layer norm and modulation in one pass over rows of channels.

use burn::backend::TensorMetadata;
use burn_cubecl::cubecl::ir::ElemType;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use crate::kernels::cube::layout::{
    addresses, broadcast, cubes, empty, is_empty, rows, vector_width,
};
use crate::kernels::cube::norm::reduce::{RowUnits, sum_of_row};

/// `(x - mean) / sqrt(var + eps) * (1 + scale) + shift`.
///
/// A cube takes `lanes` units for each of several rows. The row is read three times, twice out of
/// the cache: mean first, then the mean of squared distances from it, without the cancellation of a
/// difference of squares.
///
/// # Shapes
/// - `x` `[batch, tokens, channels]`, `out` the same, contiguous
/// - `scale`, `shift` `[batch, tokens, channels]`, with steps of 0 where they are broadcast
#[cube(launch_unchecked, address_type = "dynamic")]
fn norm_modulate_rows<F: Float, N: Size>(
    x: &Tensor<Vector<F, N>>,
    scale: &Tensor<Vector<F, N>>,
    shift: &Tensor<Vector<F, N>>,
    out: &mut Tensor<Vector<F, N>>,
    eps: f32,
    #[comptime] width: usize,
    #[comptime] lanes: usize,
    #[comptime] per_cube: usize,
    #[define(F)] _dtype: ElemType,
) {
    let tokens = x.shape(1);
    let channels = x.shape(2);
    let vectors = channels / width;
    let count = x.shape(0) * tokens;
    if CUBE_POS * per_cube >= count {
        terminate!();
    }
    let lane = UNIT_POS as usize % lanes;
    let row = CUBE_POS * per_cube + UNIT_POS as usize / lanes;
    let inside = row < count;
    // Units beyond the last row work on it again, so that all meet at the sums, and write nothing.
    let row = min(row, count - 1);
    let batch = row / tokens;
    let token = row % tokens;
    let start = batch * x.stride(0) + token * x.stride(1);

    let mut sums = Shared::<[f32]>::new_slice(comptime![lanes * per_cube]);
    let mut sum = Vector::<f32, N>::new(0.0f32);
    let mut i = lane;
    while i < vectors {
        sum += Vector::cast_from(x[start / width + i]);
        i += lanes;
    }
    let mean = sum_of_row::<N>(&mut sums, sum, width, lanes) / f32::cast_from(channels);

    let mut sum = Vector::<f32, N>::new(0.0f32);
    let mut i = lane;
    while i < vectors {
        let distance = Vector::<f32, N>::cast_from(x[start / width + i]) - Vector::new(mean);
        sum += distance * distance;
        i += lanes;
    }
    let variance = sum_of_row::<N>(&mut sums, sum, width, lanes) / f32::cast_from(channels);
    let reciprocal = 1.0f32 / (variance + eps).sqrt();

    if inside {
        let scale_start = batch * scale.stride(0) + token * scale.stride(1);
        let shift_start = batch * shift.stride(0) + token * shift.stride(1);
        let mut i = lane;
        while i < vectors {
            let normed = (Vector::<f32, N>::cast_from(x[start / width + i]) - Vector::new(mean))
                * Vector::new(reciprocal);
            let scale = Vector::<f32, N>::cast_from(scale[scale_start / width + i]);
            let shift = Vector::<f32, N>::cast_from(shift[shift_start / width + i]);
            out[row * vectors + i] =
                Vector::cast_from(normed * (scale + Vector::new(1.0f32)) + shift);
            i += lanes;
        }
    }
}

/// See [`norm_modulate`](crate::kernels::norm_modulate).
pub(crate) fn norm_modulate(
    x: CubeTensor,
    scale: CubeTensor,
    shift: CubeTensor,
    eps: f64,
) -> CubeTensor {
    let shape = x.shape();
    let channels = shape[2];
    let width = vector_width(channels);
    let out = empty(&x, shape.clone(), x.dtype);
    if is_empty(&out) {
        return out;
    }
    let x = rows(x, width);
    let [scale, shift] = [scale, shift].map(|x| broadcast(rows(x, width)));
    let units = RowUnits::new(channels / width);
    let dtype = burn::backend::cubecl::dtype_to_storage_type(x.dtype);
    // SAFETY: rows are clamped to the last one and read within their channels; `scale` and `shift`
    // have the channels of `x` and, elsewhere, its lengths or steps of 0, as `supports` has checked.
    unsafe {
        norm_modulate_rows::launch_unchecked(
            &x.client.clone(),
            cubes((shape[0] * shape[1]).div_ceil(units.per_cube)),
            units.dim(),
            addresses(&[&x, &scale, &shift, &out]),
            width,
            x.into_tensor_arg(),
            scale.into_tensor_arg(),
            shift.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            eps as f32,
            width,
            units.lanes,
            units.per_cube,
            dtype,
        );
    }
    out
}
