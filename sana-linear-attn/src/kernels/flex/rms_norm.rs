use burn::backend::TensorMetadata;
use rayon::prelude::*;

use super::{Primitive, contiguous, sum_in_order, tensor, values};

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

pub(in super::super) fn forward(
    x: Primitive,
    weight: Primitive,
    eps: f64,
    axis: usize,
) -> Primitive {
    let (x, weight) = (contiguous(x), contiguous(weight));
    let view = View::new(&x, axis);
    let (slab, many) = (view.slab(), view.slabs_per_task());
    let weight = values(&weight);
    let mut out = vec![0.0; view.outer * slab];
    out.par_chunks_mut(slab * many)
        .zip(values(&x).par_chunks(slab * many))
        .for_each(|(out, x)| {
            for (out, x) in out.chunks_exact_mut(slab).zip(x.chunks_exact(slab)) {
                let r = reciprocal_rms(x, &view, eps);
                if view.inner == 1 {
                    for ((out, x), w) in out.iter_mut().zip(x).zip(weight) {
                        *out = x * r[0] * w;
                    }
                } else {
                    let rows = out
                        .chunks_exact_mut(view.inner)
                        .zip(x.chunks_exact(view.inner));
                    for ((out, x), w) in rows.zip(weight) {
                        for ((out, x), r) in out.iter_mut().zip(x).zip(&r) {
                            *out = x * r * w;
                        }
                    }
                }
            }
        });
    shaped(out, &x)
}

/// With `r = 1 / sqrt(mean(x^2) + eps)`: `dx = r w g - x r^3 / channels * sum(x w g)`.
pub(in super::super) fn input_gradient(
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
pub(in super::super) fn weight_gradient(
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
