//! Tensors of random values that are drawn when they are written.

use std::io::Write;

use burn::tensor::DType;
use half::{bf16, f16};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::checkpoint::component::Component;
use crate::error::CheckpointError;

/// Elements drawn at a time by one thread.
pub(super) const CHUNK: usize = 1 << 16;
/// Standard deviation of the weights, or less where many of them are summed.
pub(super) const DEVIATION: f64 = 0.02;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WeightDtype {
    F32,
    F16,
    Bf16,
}

impl WeightDtype {
    pub(super) fn new(dtype: DType) -> Result<Self, CheckpointError> {
        match dtype {
            DType::F32 => Ok(Self::F32),
            DType::F16 => Ok(Self::F16),
            DType::BF16 => Ok(Self::Bf16),
            other => Err(CheckpointError::WeightDtype {
                found: crate::checkpoint::dtype::name(other),
            }),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
        }
    }

    pub(super) fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    pub(super) fn bytes(self, shape: &[usize]) -> u64 {
        (shape.iter().product::<usize>() * self.size()) as u64
    }

    pub(super) fn append(self, value: f32, bytes: &mut Vec<u8>) {
        match self {
            Self::F32 => bytes.extend(value.to_le_bytes()),
            Self::F16 => bytes.extend(f16::from_f32(value).to_le_bytes()),
            Self::Bf16 => bytes.extend(bf16::from_f32(value).to_le_bytes()),
        }
    }
}

/// A tensor that is drawn when it is written.
#[derive(Debug, Clone)]
pub(super) struct RandomTensor {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) fill: Fill,
    /// Key of its generator; chunk `i` is stream `i`.
    key: [u8; 32],
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fill {
    Constant(f32),
    /// Uniform in `[-bound, bound]`.
    Uniform(f32),
}

impl RandomTensor {
    pub(super) fn new(
        part: Component,
        name: String,
        shape: Vec<usize>,
        seed: u64,
        index: u64,
    ) -> Self {
        let fill = match shape.as_slice() {
            // The scale of Gemma's norms is 1 + weight.
            [_] if part == Component::TextEncoder || name.ends_with("bias") => Fill::Constant(0.0),
            [_] => Fill::Constant(1.0),
            shape => {
                let inputs: usize = shape[1..].iter().product();
                let deviation = DEVIATION.min((inputs as f64).sqrt().recip());
                Fill::Uniform((3f64.sqrt() * deviation) as f32)
            }
        };
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&(part as u64).to_le_bytes());
        key[16..24].copy_from_slice(&index.to_le_bytes());
        Self {
            name,
            shape,
            fill,
            key,
        }
    }

    /// The bytes of chunk `chunk` of `elements` elements.
    pub(super) fn chunk(&self, chunk: usize, elements: usize, dtype: WeightDtype) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(elements * dtype.size());
        match self.fill {
            Fill::Constant(value) => {
                (0..elements).for_each(|_| dtype.append(value, &mut bytes));
            }
            Fill::Uniform(bound) => {
                let mut generator = ChaCha8Rng::from_seed(self.key);
                generator.set_stream(chunk as u64);
                for _ in 0..elements {
                    let unit = generator.next_u32() as i32 as f32 / 2f32.powi(31); // [-1, 1]
                    dtype.append(bound * unit, &mut bytes);
                }
            }
        }
        bytes
    }

    /// Draws and writes it, a few chunks on every core at a time.
    pub(super) fn write(
        &self,
        out: &mut impl Write,
        dtype: WeightDtype,
        report: &mut dyn FnMut(u64),
    ) -> std::io::Result<()> {
        let elements: usize = self.shape.iter().product();
        let chunks: Vec<usize> = (0..elements.div_ceil(CHUNK)).collect();
        for group in chunks.chunks(16 * rayon::current_num_threads()) {
            let drawn: Vec<Vec<u8>> = group
                .par_iter()
                .map(|&chunk| self.chunk(chunk, CHUNK.min(elements - chunk * CHUNK), dtype))
                .collect();
            for bytes in drawn {
                out.write_all(&bytes)?;
                report(bytes.len() as u64);
            }
        }
        Ok(())
    }
}
