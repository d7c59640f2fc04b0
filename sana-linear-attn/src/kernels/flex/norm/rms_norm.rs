use burn::backend::TensorMetadata;
use multiversion::multiversion;
use rayon::prelude::*;

use crate::kernels::flex::backend::primitive::{
    Primitive, contiguous, sum_in_order, tensor, values,
};
use crate::kernels::flex::disjoint::{Disjoint, filled};

/// The tensor as `[outer, channels, inner]`, the norm running over `channels`.
struct View {
    outer: usize,
    channels: usize,
    inner: usize,
}

impl View {
    fn new(x: &Primitive, axis: usize) -> Self {
        let shape = x.shape().to_vec();
        Self {
            outer: shape[..axis].iter().product(),
            channels: shape[axis],
            inner: shape[axis + 1..].iter().product(),
        }
    }

    fn slab(&self) -> usize {
        self.channels * self.inner
    }

    /// Slabs of one task, so that norms over the last axis do not make a task of every row.
    fn slabs_per_task(&self) -> usize {
        (8192 / self.slab().max(1)).max(1)
    }
}

/// `1 / sqrt(mean(x^2) + eps)` of each column of a slab.
fn reciprocal_rms(x: &[f32], view: &View, eps: f64) -> Vec<f32> {
    let mut sums = vec![0f32; view.inner];
    if view.inner == 1 {
        let mut lanes = [0f32; 8];
        let (chunks, rest) = x.as_chunks::<8>();
        for chunk in chunks {
            for (lane, x) in lanes.iter_mut().zip(chunk) {
                *lane += x * x;
            }
        }
        sums[0] = lanes.iter().sum::<f32>() + rest.iter().map(|x| x * x).sum::<f32>();
    } else {
        for row in x.chunks_exact(view.inner) {
            for (sum, x) in sums.iter_mut().zip(row) {
                *sum += x * x;
            }
        }
    }
    for sum in &mut sums {
        *sum = 1.0 / (*sum / view.channels as f32 + eps as f32).sqrt();
    }
    sums
}

fn shaped(values: Vec<f32>, like: &Primitive) -> Primitive {
    use burn::backend::{Flex, ops::FloatTensorOps};
    let length = values.len();
    Flex::float_reshape(tensor(values, [length]), like.shape())
}

/// Pixels of one task where channels are not innermost: what they take stays in the second-level
/// cache.
const TASK_ELEMENTS: usize = 1 << 16;

/// The norm, shifted by `bias` and added to `residual` where there are.
pub(crate) fn forward(
    x: Primitive,
    weight: Primitive,
    bias: Option<Primitive>,
    residual: Option<Primitive>,
    eps: f64,
    axis: usize,
) -> Primitive {
    let (x, weight) = (contiguous(x), contiguous(weight));
    let (bias, residual) = (bias.map(contiguous), residual.map(contiguous));
    let view = View::new(&x, axis);
    let affine = Affine {
        weight: values(&weight),
        bias: bias.as_ref().map_or(&[], values),
        residual: residual.as_ref().map_or(&[], values),
    };
    let out = match view.inner {
        1 => rows(values(&x), &view, affine, eps as f32),
        _ => columns(values(&x), &view, affine, eps as f32),
    };
    shaped(out, &x)
}

/// What comes after the division; without what is empty of bias and residual.
#[derive(Clone, Copy)]
struct Affine<'a> {
    weight: &'a [f32],
    bias: &'a [f32],
    residual: &'a [f32],
}

/// The norm with channels innermost.
fn rows(x: &[f32], view: &View, affine: Affine, eps: f32) -> Vec<f32> {
    let many = view.channels * view.slabs_per_task();
    let mut out = vec![0.0; x.len()];
    out.par_chunks_mut(many)
        .zip(x.par_chunks(many))
        .enumerate()
        .for_each(|(task, (out, x))| {
            let rows = out
                .chunks_exact_mut(view.channels)
                .zip(x.chunks_exact(view.channels));
            for (row, (out, x)) in rows.enumerate() {
                let start = task * many + row * view.channels;
                norm_row(out, x, affine, start, eps);
            }
        });
    out
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
fn norm_row(out: &mut [f32], x: &[f32], affine: Affine, start: usize, eps: f32) {
    let mut lanes = [0f32; 16];
    let (chunks, rest) = x.as_chunks::<16>();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += x * x;
        }
    }
    let sum = lanes.iter().sum::<f32>() + rest.iter().map(|x| x * x).sum::<f32>();
    let r = 1.0 / (sum / x.len() as f32 + eps).sqrt();
    for ((out, x), w) in out.iter_mut().zip(x).zip(affine.weight) {
        *out = x * r * w;
    }
    for (out, bias) in out.iter_mut().zip(affine.bias) {
        *out += bias;
    }
    let residual = affine.residual.get(start..).unwrap_or(&[]);
    for (out, residual) in out.iter_mut().zip(residual) {
        *out += residual;
    }
}

/// The norm with channels outermost: a task takes some pixels of all channels.
fn columns(x: &[f32], view: &View, affine: Affine, eps: f32) -> Vec<f32> {
    let pixels = (TASK_ELEMENTS / view.channels.max(1))
        .max(64)
        .min(view.inner);
    let tasks: Vec<(usize, usize)> = (0..view.outer)
        .flat_map(|slab| {
            (0..view.inner)
                .step_by(pixels)
                .map(move |first| (slab, first))
        })
        .collect();
    let write = |target: &Disjoint<'_>| {
        tasks
            .into_par_iter()
            .for_each_init(Vec::new, |scratch, (slab, first)| {
                let count = pixels.min(view.inner - first);
                let start = slab * view.slab() + first;
                scratch.clear();
                scratch.resize(2 * count, 0.0);
                let (sums, line) = scratch.split_at_mut(count);
                for channel in 0..view.channels {
                    add_squares(sums, &x[start + channel * view.inner..][..count]);
                }
                for sum in sums.iter_mut() {
                    *sum = 1.0 / (*sum / view.channels as f32 + eps).sqrt();
                }
                for channel in 0..view.channels {
                    let at = start + channel * view.inner;
                    let shift = affine.bias.get(channel).copied().unwrap_or(0.0);
                    let residual = match affine.residual {
                        [] => &[],
                        residual => &residual[at..][..count],
                    };
                    scale_line(
                        line,
                        &x[at..][..count],
                        sums,
                        affine.weight[channel],
                        shift,
                        residual,
                    );
                    // SAFETY: a task writes its own pixels of each channel, inside the slab.
                    #[allow(unsafe_code)]
                    unsafe {
                        target.write(at, line);
                    }
                }
            });
    };
    // SAFETY: the tasks have all pixels of all slabs between them.
    #[allow(unsafe_code)]
    unsafe {
        filled(x.len(), write)
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
fn add_squares(sums: &mut [f32], x: &[f32]) {
    for (sum, x) in sums.iter_mut().zip(x) {
        *sum += x * x;
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
fn scale_line(out: &mut [f32], x: &[f32], r: &[f32], weight: f32, bias: f32, residual: &[f32]) {
    for ((out, x), r) in out.iter_mut().zip(x).zip(r) {
        *out = x * r * weight + bias;
    }
    for (out, residual) in out.iter_mut().zip(residual) {
        *out += residual;
    }
}

/// With `r = 1 / sqrt(mean(x^2) + eps)`: `dx = r w g - x r^3 / channels * sum(x w g)`.
pub(crate) fn input_gradient(
    x: Primitive,
    weight: Primitive,
    grad: Primitive,
    (eps, axis): (f64, usize),
) -> Primitive {
    let (x, weight, grad) = (contiguous(x), contiguous(weight), contiguous(grad));
    let view = View::new(&x, axis);
    let (slab, many) = (view.slab(), view.slabs_per_task());
    let weight = values(&weight);
    let mut out = vec![0.0; view.outer * slab];
    out.par_chunks_mut(slab * many)
        .zip(values(&x).par_chunks(slab * many))
        .zip(values(&grad).par_chunks(slab * many))
        .for_each(|((out, x), grad)| {
            let slabs = out
                .chunks_exact_mut(slab)
                .zip(x.chunks_exact(slab))
                .zip(grad.chunks_exact(slab));
            for ((out, x), grad) in slabs {
                let r = reciprocal_rms(x, &view, eps);
                let mut projection = vec![0f32; view.inner];
                for (channel, &w) in weight.iter().enumerate() {
                    let row = channel * view.inner..(channel + 1) * view.inner;
                    for ((p, x), g) in projection.iter_mut().zip(&x[row.clone()]).zip(&grad[row]) {
                        *p += x * w * g;
                    }
                }
                for (p, r) in projection.iter_mut().zip(&r) {
                    *p *= r * r * r / view.channels as f32;
                }
                for (channel, &w) in weight.iter().enumerate() {
                    let row = channel * view.inner..(channel + 1) * view.inner;
                    let (x, g) = (&x[row.clone()], &grad[row.clone()]);
                    for (i, out) in out[row].iter_mut().enumerate() {
                        *out = r[i] * w * g[i] - x[i] * projection[i];
                    }
                }
            }
        });
    shaped(out, &x)
}

/// `dw = sum(x r g)` over everything but channels.
pub(crate) fn weight_gradient(
    x: Primitive,
    _: Primitive,
    grad: Primitive,
    (eps, axis): (f64, usize),
) -> Primitive {
    let (x, grad) = (contiguous(x), contiguous(grad));
    let view = View::new(&x, axis);
    let (slab, many) = (view.slab(), view.slabs_per_task());
    let parts: Vec<Vec<f32>> = values(&x)
        .par_chunks(slab * many)
        .zip(values(&grad).par_chunks(slab * many))
        .map(|(x, grad)| {
            let mut sums = vec![0f32; view.channels];
            for (x, grad) in x.chunks_exact(slab).zip(grad.chunks_exact(slab)) {
                let r = reciprocal_rms(x, &view, eps);
                if view.inner == 1 {
                    for ((sum, x), g) in sums.iter_mut().zip(x).zip(grad) {
                        *sum += x * r[0] * g;
                    }
                } else {
                    let rows = x
                        .chunks_exact(view.inner)
                        .zip(grad.chunks_exact(view.inner));
                    for (sum, (x, g)) in sums.iter_mut().zip(rows) {
                        *sum += x
                            .iter()
                            .zip(g)
                            .zip(&r)
                            .map(|((x, g), r)| x * g * r)
                            .sum::<f32>();
                    }
                }
            }
            sums
        })
        .collect();
    tensor(sum_in_order(parts), [view.channels])
}
