//! How a transformer grows, and which of its blocks are kept.

use super::plan::{BlockSource, DepthPlan};
use crate::transformer::config::{ConfigError, QkNorm, SanaTransformerConfig};

/// Blocks at the end that partial preservation leaves out: the most specific to the trained task,
/// behind which new blocks were seen to learn nothing (section 3.3 of the paper).
const DROPPED: usize = 2;

/// How the blocks of the larger network begin, `kept` blocks of the smaller one given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum GrowthStrategy {
    /// Partial preservation, the paper's choice: the kept blocks, then new ones that change nothing
    /// yet.
    #[default]
    Partial,
    /// Block `i` is a copy of block `i mod kept`. The paper reports a loss that is NaN.
    Cyclic,
    /// Each block `layers / kept` times in a row. The paper reports a loss that is NaN.
    Block,
    /// Block `i` lies at `i * kept / layers` between the two nearest blocks.
    Interpolation,
    /// The kept blocks, then each the one before it with noise of standard deviation 0.01.
    Progressive,
}

/// How to grow. The default values are those of each field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct GrowthOptions {
    /// Blocks of the larger network.
    pub layers: usize,
    /// Blocks kept of the smaller one, its first ones. Default: all but the last two for
    /// [`GrowthStrategy::Partial`], else all.
    pub keep: Option<usize>,
    /// Where the other blocks come from. Default: partial preservation.
    pub strategy: GrowthStrategy,
    /// Whether all blocks get norms of queries and keys, of ones, where the smaller network has
    /// none. This changes its output until it is trained. Default: true.
    pub add_qk_norm: bool,
    /// Seed of the new weights. Default: 0.
    pub seed: u64,
}

impl GrowthOptions {
    /// Partial preservation to this number of blocks.
    pub fn new(layers: usize) -> Self {
        Self {
            layers,
            keep: None,
            strategy: GrowthStrategy::default(),
            add_qk_norm: true,
            seed: 0,
        }
    }

    /// Sets the number of blocks that are kept.
    pub fn keep(mut self, blocks: usize) -> Self {
        self.keep = Some(blocks);
        self
    }

    /// Sets where the other blocks come from.
    pub fn strategy(mut self, strategy: GrowthStrategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// Sets whether norms of queries and keys are added.
    pub fn add_qk_norm(mut self, add: bool) -> Self {
        self.add_qk_norm = add;
        self
    }

    /// Sets the seed of the new weights.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }
}

/// A change of depth that is not possible.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GrowthError {
    /// More blocks to keep than there are, or none.
    #[error(
        "cannot keep {keep} blocks: this transformer has {blocks}, so 1 to {blocks} can be kept"
    )]
    Keep {
        /// Blocks to keep.
        keep: usize,
        /// Blocks of the network.
        blocks: usize,
    },
    /// No block would be added.
    #[error("cannot grow to {layers} blocks: {keep} are kept, so at least {} are needed", keep + 1)]
    Layers {
        /// Blocks asked for.
        layers: usize,
        /// Blocks that are kept.
        keep: usize,
    },
    /// Repeating each block needs a whole number of times.
    #[error(
        "repeating each of {keep} blocks gives a multiple of {keep}, such as {}, and not {layers}",
        layers.div_ceil(*keep) * keep
    )]
    Multiple {
        /// Blocks asked for.
        layers: usize,
        /// Blocks that are kept.
        keep: usize,
    },
    /// Blocks that are not there, or not in rising order.
    #[error(
        "cannot keep the blocks {kept:?}: they must be rising and below {blocks}, the blocks of \
         this transformer"
    )]
    Blocks {
        /// Blocks to keep.
        kept: Vec<usize>,
        /// Blocks of the network.
        blocks: usize,
    },
    /// A block's importance is not known.
    #[error("the importance of block {block} is not a finite number")]
    Importance {
        /// The block.
        block: usize,
    },
    /// The network that results is not one.
    #[error("{0}")]
    Config(#[from] ConfigError),
}

impl SanaTransformerConfig {
    /// Where each block of a deeper network comes from.
    ///
    /// # Errors
    /// When no block would be kept or added, or [`GrowthStrategy::Block`] does not divide.
    pub fn grow(&self, options: &GrowthOptions) -> Result<DepthPlan, GrowthError> {
        let GrowthOptions {
            layers, strategy, ..
        } = *options;
        let blocks = self.num_layers;
        let usual = match strategy {
            GrowthStrategy::Partial => blocks.saturating_sub(DROPPED).max(1),
            _ => blocks,
        };
        let keep = options.keep.unwrap_or(usual);
        if keep == 0 || keep > blocks {
            return Err(GrowthError::Keep { keep, blocks });
        }
        if layers <= keep {
            return Err(GrowthError::Layers { layers, keep });
        }
        if strategy == GrowthStrategy::Block && !layers.is_multiple_of(keep) {
            return Err(GrowthError::Multiple { layers, keep });
        }
        let source = |index: usize| match strategy {
            GrowthStrategy::Cyclic => BlockSource::Copy(index % keep),
            GrowthStrategy::Block => BlockSource::Copy(index / (layers / keep)),
            GrowthStrategy::Interpolation => interpolated(index, keep, layers),
            _ if index < keep => BlockSource::Copy(index),
            GrowthStrategy::Partial => BlockSource::Identity,
            GrowthStrategy::Progressive => BlockSource::Previous,
        };
        let config = Self {
            num_layers: layers,
            qk_norm: match options.add_qk_norm {
                true => Some(QkNorm::RmsNormAcrossHeads),
                false => self.qk_norm,
            },
            ..self.clone()
        };
        config.validate()?;
        let sources = (0..layers).map(source).collect();
        Ok(DepthPlan::new(self.clone(), config, sources, options.seed))
    }

    /// The same network with some of its blocks alone, by index in rising order.
    ///
    /// # Errors
    /// Without a block, or with one that is not there.
    pub fn keep_blocks(&self, kept: &[usize]) -> Result<DepthPlan, GrowthError> {
        let blocks = self.num_layers;
        let keep = kept.len();
        if keep == 0 || keep > blocks {
            return Err(GrowthError::Keep { keep, blocks });
        }
        let rising = kept.windows(2).all(|pair| pair[0] < pair[1]);
        if !rising || kept.iter().any(|index| *index >= blocks) {
            return Err(GrowthError::Blocks {
                kept: kept.to_vec(),
                blocks,
            });
        }
        let config = Self {
            num_layers: kept.len(),
            ..self.clone()
        };
        let sources = kept.iter().copied().map(BlockSource::Copy).collect();
        Ok(DepthPlan::new(self.clone(), config, sources, 0))
    }
}

/// The place of block `index` of `layers` among `kept` blocks.
fn interpolated(index: usize, kept: usize, layers: usize) -> BlockSource {
    let lower = index * kept / layers;
    let upper = (lower + 1).min(kept - 1);
    match index * kept % layers {
        0 => BlockSource::Copy(lower),
        _ if upper == lower => BlockSource::Copy(lower),
        rest => BlockSource::Between {
            lower,
            upper,
            fraction: rest as f32 / layers as f32,
        },
    }
}
