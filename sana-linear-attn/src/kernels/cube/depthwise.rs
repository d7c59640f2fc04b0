//! Depthwise convolution over the tokens of a grid, alone or with bias and SiLU gate.

use burn::backend::TensorMetadata;
use burn::tensor::Shape;
use burn_cubecl::cubecl::ir::ElemType;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::layout::{UNITS, addresses, cubes, empty, is_empty, rows, vector_width};

/// Neighbouring pixels of a row that one unit computes: each pixel that it reads and each tap
/// serve several of them.
const RUN: usize = 4;

/// Bytes of taps that a cube keeps in shared memory, of the 16 KiB that WebGPU guarantees.
const TAP_BYTES: usize = 12 << 10;

/// `[v | g] = conv(x) + bias`, result `v * silu(g)`; or, not gated, `conv(x)`.
///
/// A cube takes `lanes` vectors of channels of several runs of pixels. Its taps are read once into
/// shared memory, turned so that neighbouring units read neighbouring channels.
///
/// # Shapes
/// - `x` `[batch, height * width, parts * channels]`, two parts where gated
/// - `weight` `[parts * channels, taps]`, `bias` `[parts * channels]`, both contiguous
/// - `out` `[batch, height * width, channels]`, contiguous
#[cube(launch_unchecked, address_type = "dynamic")]
fn depthwise_runs<F: Float, N: Size>(
    x: &Tensor<Vector<F, N>>,
    weight: &Tensor<F>,
    bias: &Tensor<F>,
    out: &mut Tensor<Vector<F, N>>,
    image_height: usize,
    image_width: usize,
    slices: usize,
    count: usize,
    #[comptime] kernel: usize,
    #[comptime] width: usize,
    #[comptime] lanes: usize,
    #[comptime] run: usize,
    #[comptime] gated: bool,
    #[define(F)] _dtype: ElemType,
) {
    if CUBE_POS >= count {
        terminate!();
    }
    let parts = comptime![if gated { 2usize } else { 1usize }];
    let taps = comptime![kernel * kernel];
    let channels = out.shape(2);
    let vectors = channels / width;
    let unit = UNIT_POS as usize;
    let units = CUBE_DIM as usize;
    let slice = CUBE_POS % slices * lanes;

    let mut tap_values = Shared::<[Vector<f32, N>]>::new_slice(comptime![parts * taps * lanes]);
    let mut i = unit;
    while i < comptime![parts * taps * lanes] {
        let lane = i % lanes;
        let tap = i / lanes % taps;
        let part = i / comptime![lanes * taps];
        // Beyond the last channel its taps are read again, and used by no unit.
        let vector = min(slice + lane, vectors - 1);
        let mut value = Vector::<f32, N>::new(0.0f32);
        #[unroll]
        for j in 0..width {
            let channel = part * channels + vector * width + j;
            value.insert(j, f32::cast_from(weight[channel * taps + tap]));
        }
        tap_values[i] = value;
        i += units;
    }
    sync_cube();

    let lane = unit % lanes;
    let vector = slice + lane;
    let runs = image_width.div_ceil(run);
    let place = CUBE_POS / slices * (units / lanes) + unit / lanes;
    let column = place % runs * run;
    let line = place / runs;
    let batch = line / image_height;
    if vector >= vectors || batch >= x.shape(0) {
        terminate!();
    }
    let line = line % image_height;

    let mut sums = Array::<Vector<f32, N>>::new(comptime![parts * run]);
    #[unroll]
    for part in 0..parts {
        let mut start = Vector::<f32, N>::new(0.0f32);
        if gated {
            #[unroll]
            for j in 0..width {
                let channel = part * channels + vector * width + j;
                start.insert(j, f32::cast_from(bias[channel]));
            }
        }
        #[unroll]
        for m in 0..run {
            sums[part * run + m] = start;
        }
    }
    for ky in 0..kernel {
        let y = line + ky;
        // Coordinates of the image with its border of zeros.
        if y >= comptime![kernel / 2] && y < image_height + comptime![kernel / 2] {
            let y = y - comptime![kernel / 2];
            #[unroll]
            for dx in 0..comptime![run + kernel - 1] {
                let padded = column + dx;
                if padded >= comptime![kernel / 2] && padded < image_width + comptime![kernel / 2] {
                    let token = y * image_width + padded - comptime![kernel / 2];
                    let start = batch * x.stride(0) + token * x.stride(1) + vector * width;
                    #[unroll]
                    for part in 0..parts {
                        let pixel =
                            Vector::<f32, N>::cast_from(x[(start + part * channels) / width]);
                        #[unroll]
                        for m in 0..run {
                            if comptime![dx >= m && dx - m < kernel] {
                                let tap = ky * kernel + comptime![dx - m];
                                sums[part * run + m] +=
                                    pixel * tap_values[(part * taps + tap) * lanes + lane];
                            }
                        }
                    }
                }
            }
        }
    }

    #[unroll]
    for m in 0..run {
        if column + m < image_width {
            let token = line * image_width + column + m;
            let mut y = sums[m];
            if gated {
                let gate = sums[run + m];
                let one = Vector::<f32, N>::new(1.0f32);
                y = y * gate / (one + (-gate).exp());
            }
            out[(batch * image_height * image_width + token) * vectors + vector] =
                Vector::cast_from(y);
        }
    }
}

/// Whether the taps of a square kernel fit shared memory.
pub(super) fn fits(kernel: usize) -> bool {
    kernel <= 9
}

/// See [`depthwise_tokens`](crate::kernels::depthwise_tokens).
pub(super) fn depthwise(x: CubeTensor, weight: CubeTensor, grid: [usize; 2]) -> CubeTensor {
    launch(x, weight, None, grid)
}

/// See [`depthwise_gate`](crate::kernels::depthwise_gate).
pub(super) fn gate(
    x: CubeTensor,
    weight: CubeTensor,
    bias: CubeTensor,
    grid: [usize; 2],
) -> CubeTensor {
    launch(x, weight, Some(bias), grid)
}

fn launch(
    x: CubeTensor,
    weight: CubeTensor,
    bias: Option<CubeTensor>,
    [height, image_width]: [usize; 2],
) -> CubeTensor {
    let gated = bias.is_some();
    let parts = 1 + usize::from(gated);
    let [batch, tokens, channels] = x.shape().dims();
    let channels = channels / parts;
    let kernel = weight.shape()[3];
    let width = vector_width(channels);
    let out = empty(&x, Shape::from([batch, tokens, channels]), x.dtype);
    if is_empty(&out) {
        return out;
    }
    let x = rows(x, width);
    let weight = into_contiguous(weight);
    let bias = bias.map_or_else(|| weight.clone(), into_contiguous);

    let vectors = channels / width;
    let tap_bytes = parts * kernel * kernel * width * size_of::<f32>();
    let most = (TAP_BYTES / tap_bytes).max(1);
    // A power of two, so that it divides the units.
    let lanes = vectors.next_power_of_two().min(1 << most.ilog2()).min(32);
    let slices = vectors.div_ceil(lanes);
    let places = batch * height * image_width.div_ceil(RUN);
    let count = slices * places.div_ceil(UNITS / lanes);
    let dtype = burn::backend::cubecl::dtype_to_storage_type(x.dtype);
    // SAFETY: with the shapes that `supports` has checked, taps and biases are read at channels clamped to
    // the last one; pixels are read inside the grid only, whose tokens `x` has, and written below its
    // width, height and batch.
    unsafe {
        depthwise_runs::launch_unchecked(
            &x.client.clone(),
            cubes(count),
            CubeDim::new_1d(UNITS as u32),
            addresses(&[&x, &weight, &out]),
            width,
            x.into_tensor_arg(),
            weight.into_tensor_arg(),
            bias.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            height,
            image_width,
            slices,
            count,
            kernel,
            width,
            lanes,
            RUN,
            gated,
            dtype,
        );
    }
    out
}
