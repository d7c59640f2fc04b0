//! RMS norm over channels with scale, shift and residual, in the memory layout of its input.

use burn::tensor::Shape;
use burn_cubecl::cubecl::ir::ElemType;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::kernel::{into_contiguous, untile};
use burn_cubecl::tensor::CubeTensor;

use crate::kernels::cube::layout::{UNITS, addresses, cubes, empty, is_empty, rows, vector_width};
use crate::kernels::cube::norm::reduce::{RowUnits, sum_of_row};

/// What is normed, and what is added to it.
pub(crate) struct Norm {
    pub x: CubeTensor,
    pub weight: CubeTensor,
    pub bias: Option<CubeTensor>,
    pub residual: Option<CubeTensor>,
    pub eps: f64,
    pub axis: usize,
}

/// Units along the channels in `norm_columns`, where neighbours take neighbouring columns.
const COLUMN_LANES: usize = 8;

/// The norm of rows whose channels are contiguous.
///
/// # Shapes
/// - `x`, `residual` `[a, b, c, channels]`, `out` the same, contiguous
/// - `weight`, `bias` `[channels]`
///
/// Without `shifted` the bias is not read, without `added` the residual.
#[cube(launch_unchecked, address_type = "dynamic")]
fn norm_rows<F: Float, W: Float, N: Size>(
    x: &Tensor<Vector<F, N>>,
    weight: &Tensor<Vector<W, N>>,
    bias: &Tensor<Vector<W, N>>,
    residual: &Tensor<Vector<F, N>>,
    out: &mut Tensor<Vector<F, N>>,
    eps: f32,
    #[comptime] width: usize,
    #[comptime] lanes: usize,
    #[comptime] per_cube: usize,
    #[comptime] shifted: bool,
    #[comptime] added: bool,
    #[define(F, W)] _dtypes: [ElemType; 2],
) {
    let (length_b, length_c, channels) = (x.shape(1), x.shape(2), x.shape(3));
    let vectors = channels / width;
    let count = x.shape(0) * length_b * length_c;
    if CUBE_POS * per_cube >= count {
        terminate!();
    }
    let lane = UNIT_POS as usize % lanes;
    let row = CUBE_POS * per_cube + UNIT_POS as usize / lanes;
    let inside = row < count;
    // Units beyond the last row work on it again, so that all meet at the sum, and write nothing.
    let row = min(row, count - 1);
    let c = row % length_c;
    let b = row / length_c % length_b;
    let a = row / (length_c * length_b);
    let start = (a * x.stride(0) + b * x.stride(1) + c * x.stride(2)) / width;

    let mut sums = Shared::<[f32]>::new_slice(comptime![lanes * per_cube]);
    let mut sum = Vector::<f32, N>::new(0.0f32);
    let mut i = lane;
    while i < vectors {
        let value = Vector::<f32, N>::cast_from(x[start + i]);
        sum += value * value;
        i += lanes;
    }
    let mean_square = sum_of_row::<N>(&mut sums, sum, width, lanes) / f32::cast_from(channels);
    let reciprocal = 1.0f32 / (mean_square + eps).sqrt();

    if inside {
        let mut i = lane;
        while i < vectors {
            let scale = Vector::<f32, N>::cast_from(weight[i]) * Vector::new(reciprocal);
            let mut y = Vector::<f32, N>::cast_from(x[start + i]) * scale;
            if shifted {
                y += Vector::cast_from(bias[i]);
            }
            if added {
                let row = a * residual.stride(0) + b * residual.stride(1) + c * residual.stride(2);
                y += Vector::cast_from(residual[row / width + i]);
            }
            out[row * vectors + i] = Vector::cast_from(y);
            i += lanes;
        }
    }
}

/// The norm of columns: channels are `inner` elements apart.
///
/// # Shapes
/// - `x`, `residual` and `out` `[outer, channels, inner]`, contiguous
/// - `weight`, `bias` `[channels]`
///
/// Without `shifted` the bias is not read, without `added` the residual.
#[cube(launch_unchecked, address_type = "dynamic")]
fn norm_columns<F: Float, W: Float>(
    x: &Tensor<F>,
    weight: &Tensor<W>,
    bias: &Tensor<W>,
    residual: &Tensor<F>,
    out: &mut Tensor<F>,
    eps: f32,
    #[comptime] lanes: usize,
    #[comptime] per_cube: usize,
    #[comptime] shifted: bool,
    #[comptime] added: bool,
    #[define(F, W)] _dtypes: [ElemType; 2],
) {
    let (channels, inner) = (x.shape(1), x.shape(2));
    let count = x.shape(0) * inner;
    if CUBE_POS * per_cube >= count {
        terminate!();
    }
    let place = UNIT_POS as usize % per_cube;
    let lane = UNIT_POS as usize / per_cube;
    let column = CUBE_POS * per_cube + place;
    let inside = column < count;
    let column = min(column, count - 1);
    let start = column / inner * inner * channels + column % inner;

    let mut sums = Shared::<[f32]>::new_slice(comptime![lanes * per_cube]);
    let mut sum = 0.0f32;
    let mut i = lane;
    while i < channels {
        let value = f32::cast_from(x[start + i * inner]);
        sum += value * value;
        i += lanes;
    }
    sums[UNIT_POS as usize] = sum;
    sync_cube();
    let mut sum = 0.0f32;
    #[unroll]
    for other in 0..lanes {
        sum += sums[other * per_cube + place];
    }
    let reciprocal = 1.0f32 / (sum / f32::cast_from(channels) + eps).sqrt();

    if inside {
        let mut i = lane;
        while i < channels {
            let at = start + i * inner;
            let mut y = f32::cast_from(x[at]) * (f32::cast_from(weight[i]) * reciprocal);
            if shifted {
                y += f32::cast_from(bias[i]);
            }
            if added {
                y += f32::cast_from(residual[at]);
            }
            out[at] = F::cast_from(y);
            i += lanes;
        }
    }
}

impl Norm {
    /// See [`rms_norm_residual`](crate::kernels::rms_norm_residual).
    ///
    /// The result has the layout of the input where its channels are contiguous: an image whose
    /// channels are innermost in memory, as convolutions leave it, stays so.
    pub fn run(self) -> CubeTensor {
        let x = untile(self.x.clone());
        let (shape, strides) = (x.meta.shape().clone(), x.meta.strides().clone());
        let rank = shape.num_dims();
        let channels_last = shape[self.axis] == 1 || strides[self.axis] == 1;
        if rank <= 4 && (self.axis == rank - 1 || channels_last) {
            self.run_rows(x)
        } else {
            self.run_columns(x)
        }
    }

    fn run_rows(self, x: CubeTensor) -> CubeTensor {
        let axis = self.axis;
        let shape = x.meta.shape().clone();
        let channels = shape[axis];
        let width = vector_width(channels);
        let last = shape.num_dims() - 1;
        let x = rows(axis_last(x, axis), width);
        let weight = into_contiguous(self.weight);
        let (shifted, added) = (self.bias.is_some(), self.residual.is_some());
        let bias = self.bias.map_or_else(|| weight.clone(), into_contiguous);
        let residual = self
            .residual
            .map_or_else(|| x.clone(), |x| rows(axis_last(x, axis), width));
        let out = empty(&x, x.meta.shape().clone(), x.dtype);
        if !is_empty(&out) {
            let count = out.meta.shape().num_elements() / channels;
            let units = RowUnits::new(channels / width);
            let dtypes = [x.dtype, weight.dtype].map(burn::backend::cubecl::dtype_to_storage_type);
            // SAFETY: rows are clamped to the last one and read within their channels, for each of
            // which `weight` and `bias` have a value; `residual` has the lengths of `x`, as `supports`
            // has checked.
            unsafe {
                norm_rows::launch_unchecked(
                    &x.client.clone(),
                    cubes(count.div_ceil(units.per_cube)),
                    units.dim(),
                    addresses(&[&x, &weight, &residual, &out]),
                    width,
                    x.into_tensor_arg(),
                    weight.into_tensor_arg(),
                    bias.into_tensor_arg(),
                    residual.into_tensor_arg(),
                    out.clone().into_tensor_arg(),
                    self.eps as f32,
                    width,
                    units.lanes,
                    units.per_cube,
                    shifted,
                    added,
                    dtypes,
                );
            }
        }
        axis_back(out, axis, last)
    }

    fn run_columns(self, x: CubeTensor) -> CubeTensor {
        let shape = x.meta.shape().clone();
        let axis = self.axis;
        let outer: usize = (0..axis).map(|axis| shape[axis]).product();
        let inner: usize = (axis + 1..shape.num_dims())
            .map(|axis| shape[axis])
            .product();
        let folded = Shape::from([outer, shape[axis], inner]);
        let fold = |x: CubeTensor, shape: &Shape| {
            let x = into_contiguous(x);
            CubeTensor::new_contiguous(x.client, x.device, shape.clone(), x.handle, x.dtype)
        };
        let x = fold(x, &folded);
        let weight = into_contiguous(self.weight);
        let (shifted, added) = (self.bias.is_some(), self.residual.is_some());
        let bias = self.bias.map_or_else(|| weight.clone(), into_contiguous);
        let residual = self
            .residual
            .map_or_else(|| x.clone(), |x| fold(x, &folded));
        let out = empty(&x, folded, x.dtype);
        if !is_empty(&out) {
            let per_cube = UNITS / COLUMN_LANES;
            let dtypes = [x.dtype, weight.dtype].map(burn::backend::cubecl::dtype_to_storage_type);
            // SAFETY: columns are clamped to the last one and read within their channels;
            // `residual` has the shape of `x`, as `supports` has checked, and all are contiguous.
            unsafe {
                norm_columns::launch_unchecked(
                    &x.client.clone(),
                    cubes((outer * inner).div_ceil(per_cube)),
                    CubeDim::new_1d(UNITS as u32),
                    addresses(&[&x, &weight, &out]),
                    x.into_tensor_arg(),
                    weight.into_tensor_arg(),
                    bias.into_tensor_arg(),
                    residual.into_tensor_arg(),
                    out.clone().into_tensor_arg(),
                    self.eps as f32,
                    COLUMN_LANES,
                    per_cube,
                    shifted,
                    added,
                    dtypes,
                );
            }
        }
        CubeTensor::new_contiguous(out.client, out.device, shape, out.handle, out.dtype)
    }
}

/// The tensor with its channels as the last of four axes, and axes of length 1 before the others.
fn axis_last(x: CubeTensor, axis: usize) -> CubeTensor {
    let mut x = untile(x);
    for axis in axis..x.meta.num_dims() - 1 {
        x.meta.swap(axis, axis + 1);
    }
    while x.meta.num_dims() < 4 {
        x.meta.insert(0, 1, 0);
    }
    x
}

/// The inverse of [`axis_last`] for a tensor whose last axis was `last`.
fn axis_back(mut x: CubeTensor, axis: usize, last: usize) -> CubeTensor {
    while x.meta.num_dims() > last + 1 {
        x.meta.remove(0);
    }
    for axis in (axis..last).rev() {
        x.meta.swap(axis, axis + 1);
    }
    x
}
