//! Seeded noise from the host, the same on every backend and for every batch size.
//!
//! Each image has a generator of its own: ChaCha8 whose 256-bit key is the seed and the number
//! of the image, 64 bits each in little-endian order, followed by zeros, and whose 64-bit nonce
//! is the purpose ([`Stream`]). So image `i` of a batch equals the image made alone, and a
//! run that was stopped takes the same noise for step `k` when it is resumed.
//!
//! Normal numbers come in pairs from the Box-Muller transform in f64 of two 64-bit words `a`, `b`
//! of the keystream, rounded to f32 at the end:
//!
//! ```text
//! u = ((a >> 11) + 1) / 2^53,   w = (b >> 11) / 2^53
//! sqrt(-2 ln u) cos(2 pi w),    sqrt(-2 ln u) sin(2 pi w)
//! ```
//!
//! A shorter tensor is the beginning of a longer one.

use std::f64::consts::TAU;

use burn::tensor::{DType, Device, Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What an image's noise is for; each has numbers of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// The initial latents. Nonce 0.
    Initial,
    /// The noise that a stochastic sampler adds at this step, from 0. Nonce `2^32 + step`.
    Step(u32),
    /// Whatever else a caller needs (training noise, augmentation). Nonce `2^33 + n`.
    Other(u32),
}

impl Stream {
    fn nonce(self) -> u64 {
        match self {
            Self::Initial => 0,
            Self::Step(step) => 1 << 32 | u64::from(step),
            Self::Other(n) => 2 << 32 | u64::from(n),
        }
    }
}

/// The generator behind the noise of one image, for draws of another kind.
pub fn generator(seed: u64, image: u64, stream: Stream) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&image.to_le_bytes());
    let mut generator = ChaCha8Rng::from_seed(key);
    generator.set_stream(stream.nonce());
    generator
}

/// The unit normal noise of one image's initial latents, row-major, `shape` without the batch.
pub fn standard_normal(seed: u64, image: u64, shape: &[usize]) -> Vec<f32> {
    standard_normal_of(seed, image, Stream::Initial, shape)
}

/// The unit normal noise of one image for `stream`, row-major, `shape` without the batch.
pub fn standard_normal_of(seed: u64, image: u64, stream: Stream, shape: &[usize]) -> Vec<f32> {
    let mut generator = generator(seed, image, stream);
    normals(&mut generator)
        .take(shape.iter().product())
        .map(|value| value as f32)
        .collect()
}

/// Initial latents of a batch, unit normal, f32: images `first_image` and on of the request
/// `seed`.
///
/// # Shapes
/// - `shape`, the result: `[batch, ..]`, usually `[batch, channels, height, width]`
pub fn latents<const D: usize>(
    seed: u64,
    first_image: u64,
    shape: [usize; D],
    device: &Device,
) -> Tensor<D> {
    batch(seed, first_image, Stream::Initial, shape, device)
}

/// The noise that a stochastic sampler adds to a batch at step `step`, unit normal, f32; see
/// [`latents`].
///
/// # Shapes
/// - `shape`, the result: `[batch, ..]`
pub fn step_noise<const D: usize>(
    seed: u64,
    first_image: u64,
    step: u32,
    shape: [usize; D],
    device: &Device,
) -> Tensor<D> {
    batch(seed, first_image, Stream::Step(step), shape, device)
}

/// The unit normal noise of a batch for `stream`, f32; see [`latents`].
///
/// # Shapes
/// - `shape`, the result: `[batch, ..]`
pub fn batch<const D: usize>(
    seed: u64,
    first_image: u64,
    stream: Stream,
    shape: [usize; D],
    device: &Device,
) -> Tensor<D> {
    let values: Vec<f32> = (0..shape[0] as u64)
        .flat_map(|i| standard_normal_of(seed, first_image.wrapping_add(i), stream, &shape[1..]))
        .collect();
    Tensor::from_data(TensorData::new(values, shape), (device, DType::F32))
}

/// Unit normal numbers from any generator, by the transform of the [module](self).
pub fn normals<R: Rng>(generator: &mut R) -> impl Iterator<Item = f64> {
    std::iter::repeat_with(move || normal_pair(generator.next_u64(), generator.next_u64()))
        .flatten()
}

fn normal_pair(a: u64, b: u64) -> [f64; 2] {
    const UNIT: f64 = 1.0 / (1u64 << 53) as f64;
    let u = ((a >> 11) + 1) as f64 * UNIT;
    let w = (b >> 11) as f64 * UNIT;
    let radius = (-2.0 * u.ln()).sqrt();
    let (sin, cos) = (TAU * w).sin_cos();
    [radius * cos, radius * sin]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extreme_words_give_finite_numbers() {
        for a in [0, u64::MAX] {
            for b in [0, u64::MAX] {
                assert!(normal_pair(a, b).iter().all(|value| value.is_finite()));
            }
        }
        assert_eq!(normal_pair(u64::MAX, 0), [0.0, 0.0]);
        // the largest that can be drawn
        assert!(normal_pair(0, 0)[0] < 8.6);
    }

    #[test]
    fn streams_do_not_meet() {
        let nonces = [
            Stream::Initial,
            Stream::Step(0),
            Stream::Step(u32::MAX),
            Stream::Other(0),
            Stream::Other(u32::MAX),
        ]
        .map(Stream::nonce);
        assert_eq!(
            nonces,
            [
                0,
                1 << 32,
                (1 << 33) - 1,
                1 << 33,
                (1 << 33) + (1 << 32) - 1
            ]
        );
    }
}
