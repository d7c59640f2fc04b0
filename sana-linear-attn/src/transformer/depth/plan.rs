//! Where each block of a network of another depth comes from.

use crate::transformer::config::SanaTransformerConfig;

/// Where a block of a network of another depth comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum BlockSource {
    /// This block of the first network.
    Copy(usize),
    /// A new block that passes its input on: both attention output projections and the last
    /// projection of the feed-forward are zero, the rest is small and random.
    Identity,
    /// `(1 - fraction) * lower + fraction * upper` of two blocks of the first network.
    Between {
        /// The block before.
        lower: usize,
        /// The block after.
        upper: usize,
        /// In [0, 1].
        fraction: f32,
    },
    /// The block before it in the new network, with noise of standard deviation 0.01.
    Previous,
}

/// A transformer of another depth, block by block: from [`SanaTransformerConfig::grow`] or
/// [`SanaTransformerConfig::keep_blocks`]. What is outside the blocks is copied.
#[derive(Debug, Clone, PartialEq)]
pub struct DepthPlan {
    pub(super) source: SanaTransformerConfig,
    pub(super) config: SanaTransformerConfig,
    pub(super) blocks: Vec<BlockSource>,
    pub(super) seed: u64,
}

impl DepthPlan {
    pub(super) fn new(
        source: SanaTransformerConfig,
        config: SanaTransformerConfig,
        blocks: Vec<BlockSource>,
        seed: u64,
    ) -> Self {
        Self {
            source,
            config,
            blocks,
            seed,
        }
    }

    /// The config of the new network.
    pub fn config(&self) -> &SanaTransformerConfig {
        &self.config
    }

    /// Where each of its blocks comes from.
    pub fn blocks(&self) -> &[BlockSource] {
        &self.blocks
    }

    /// How many of its blocks are copies.
    pub fn copies(&self) -> usize {
        let copies = self.blocks.iter();
        copies
            .filter(|source| matches!(source, BlockSource::Copy(_)))
            .count()
    }

    /// Whether the new network has norms of queries and keys that the first one does not have.
    pub fn adds_qk_norm(&self) -> bool {
        self.config.qk_norm.is_some() && self.source.qk_norm.is_none()
    }
}
