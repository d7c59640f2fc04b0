//! The values of a network of another depth, one tensor at a time.

use burn::tensor::{DType, TensorData};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::plan::{BlockSource, DepthPlan};
use crate::weights::{WeightError, Weights};

/// Standard deviation between a block and the one before it in progressive growth.
const PROGRESSIVE: f32 = 0.01;
/// Standard deviation of a new block's weights, as in the authors' `model_growth_utils.py`.
const NEW: f32 = 0.02;
/// That of its depthwise convolution.
const NEW_DEPTHWISE: f32 = 0.2;

/// How a tensor of a new block begins.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fill {
    Constant(f32),
    Normal(f32),
}

impl Fill {
    /// By its name in the block. The three projections that end a residual branch are zero, and so
    /// are the bias vectors behind them: the block is the identity.
    fn of(tail: &str) -> Self {
        match tail {
            "attn1.to_out.0.weight" | "attn2.to_out.0.weight" | "ff.conv_point.weight" => {
                Self::Constant(0.0)
            }
            "attn1.to_out.0.bias"
            | "attn2.to_q.bias"
            | "attn2.to_k.bias"
            | "attn2.to_v.bias"
            | "attn2.to_out.0.bias" => Self::Constant(0.0),
            _ if is_qk_norm(tail) => Self::Constant(1.0),
            _ if tail.starts_with("ff.conv_depth.") => Self::Normal(NEW_DEPTHWISE),
            _ => Self::Normal(NEW),
        }
    }
}

fn is_qk_norm(tail: &str) -> bool {
    tail.contains(".norm_q.") || tail.contains(".norm_k.")
}

/// The block and the name in it of a tensor of a block.
pub(super) fn in_block(name: &str) -> Option<(usize, &str)> {
    let (index, tail) = name.strip_prefix("transformer_blocks.")?.split_once('.')?;
    Some((index.parse().ok()?, tail))
}

/// The tensors of the new network, made from those of the first one.
pub(super) struct Tensors<'a> {
    pub plan: &'a DepthPlan,
    /// Under the names of the published layout.
    pub weights: &'a Weights,
    /// Dtype of the new tensors; that of the first network's where `None`.
    pub dtype: Option<DType>,
    /// The values of the tensor that was made last, where the next block's is made from it.
    previous: Vec<f32>,
}

impl<'a> Tensors<'a> {
    pub fn new(plan: &'a DepthPlan, weights: &'a Weights, dtype: Option<DType>) -> Self {
        Self {
            plan,
            weights,
            dtype,
            previous: Vec::new(),
        }
    }

    /// The dtype that a tensor is written in: where the first network has none of its kind, that of
    /// its projections.
    pub fn dtype_of(&self, name: &str) -> DType {
        let stored = match in_block(name) {
            None => self.weights.dtype(name),
            Some((block, tail)) => {
                let from = match self.plan.blocks[block] {
                    BlockSource::Copy(from) | BlockSource::Between { lower: from, .. } => from,
                    BlockSource::Identity | BlockSource::Previous => 0,
                };
                let dtype = |tail| self.weights.dtype(&block_name(from, tail));
                dtype(tail).or_else(|| dtype("attn1.to_q.weight"))
            }
        };
        self.dtype.or(stored).unwrap_or(DType::F32)
    }

    /// A tensor of the new network, the `index`-th one. Those of one name in all blocks are made
    /// in the order of the blocks.
    ///
    /// # Errors
    /// When the first network's cannot be read.
    pub fn make(
        &mut self,
        index: usize,
        name: &str,
        shape: &[usize],
    ) -> Result<TensorData, WeightError> {
        let dtype = self.dtype_of(name);
        let Some((block, tail)) = in_block(name) else {
            return self.weights.tensor_data(name, Some(dtype));
        };
        let elements = shape.iter().product();
        let made = |values| TensorData::new(values, shape.to_vec()).convert_dtype(dtype);
        if is_qk_norm(tail) && self.plan.adds_qk_norm() {
            return Ok(made(vec![1.0; elements]));
        }
        let values = match self.plan.blocks[block] {
            BlockSource::Copy(from) => {
                if self.plan.blocks.get(block + 1) == Some(&BlockSource::Previous) {
                    self.previous = self.values(from, tail)?;
                }
                let name = block_name(from, tail);
                return self.weights.tensor_data(&name, Some(dtype));
            }
            BlockSource::Identity => self.filled(index, elements, Fill::of(tail)),
            BlockSource::Between {
                lower,
                upper,
                fraction,
            } => {
                let (lower, upper) = (self.values(lower, tail)?, self.values(upper, tail)?);
                let pairs = lower.iter().zip(&upper);
                pairs
                    .map(|(lower, upper)| lower + (upper - lower) * fraction)
                    .collect()
            }
            BlockSource::Previous => {
                let noise = self.filled(index, elements, Fill::Normal(PROGRESSIVE));
                let last = self.previous.iter();
                self.previous = last.zip(&noise).map(|(last, noise)| last + noise).collect();
                self.previous.clone()
            }
        };
        Ok(made(values))
    }

    /// A tensor of a block of the first network, in f32.
    fn values(&self, block: usize, tail: &str) -> Result<Vec<f32>, WeightError> {
        let name = block_name(block, tail);
        let data = self.weights.tensor_data(&name, Some(DType::F32))?;
        Ok(data.iter::<f32>().collect())
    }

    fn filled(&self, index: usize, elements: usize, fill: Fill) -> Vec<f32> {
        match fill {
            Fill::Constant(value) => vec![value; elements],
            Fill::Normal(deviation) => {
                let mut key = [0; 32];
                key[..8].copy_from_slice(&self.plan.seed.to_le_bytes());
                key[8..16].copy_from_slice(&(index as u64).to_le_bytes());
                let mut generator = ChaCha8Rng::from_seed(key);
                let mut draw = || -> f32 { StandardNormal.sample(&mut generator) };
                (0..elements).map(|_| deviation * draw()).collect()
            }
        }
    }
}

fn block_name(block: usize, tail: &str) -> String {
    format!("transformer_blocks.{block}.{tail}")
}
