use crate::transformer::config::SanaTransformerConfig;

/// The blocks whose self-attention is replaced by the identity in perturbed attention guidance
/// (Ahn et al., arXiv 2403.17377), by exact index: block 1 is that one, not 10 to 19 as well.
///
/// From [`SanaTransformerConfig::perturbed_blocks`]. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PerturbedBlocks {
    /// Rising, without repetition.
    indices: Vec<usize>,
}

/// A choice of blocks that a transformer cannot perturb.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PerturbedBlocksError {
    /// No block.
    #[error(
        "perturbed attention names no block: this transformer has {blocks}, 0 to {}",
        blocks.saturating_sub(1)
    )]
    Empty {
        /// Number of blocks of the transformer.
        blocks: usize,
    },
    /// A block that is not there.
    #[error(
        "perturbed attention names block {index}: this transformer has {blocks}, 0 to {}",
        blocks.saturating_sub(1)
    )]
    OutOfRange {
        /// The block.
        index: usize,
        /// Number of blocks of the transformer.
        blocks: usize,
    },
}

impl PerturbedBlocks {
    /// The 0-based indices, rising and without repetition.
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }

    /// The first of them: what comes before it, the perturbed path shares with the other.
    pub(in crate::transformer) fn first(&self) -> usize {
        self.indices[0]
    }
}

impl SanaTransformerConfig {
    /// Blocks to perturb, by 0-based index, in any order.
    ///
    /// # Errors
    /// Without a block, or with one that this network does not have.
    pub fn perturbed_blocks(
        &self,
        indices: impl IntoIterator<Item = usize>,
    ) -> Result<PerturbedBlocks, PerturbedBlocksError> {
        let blocks = self.num_layers;
        let mut indices: Vec<usize> = indices.into_iter().collect();
        indices.sort_unstable();
        indices.dedup();
        match indices.last() {
            None => Err(PerturbedBlocksError::Empty { blocks }),
            Some(&index) if index >= blocks => {
                Err(PerturbedBlocksError::OutOfRange { index, blocks })
            }
            Some(_) => Ok(PerturbedBlocks { indices }),
        }
    }

    /// The block that published pipelines perturb: 8 of the 20 of the 1.6B models, 14 of the 28 of
    /// the 0.6B ones; the middle one of models that none is published for.
    pub fn default_perturbed_block(&self) -> usize {
        match self.num_layers {
            20 => 8,
            blocks => blocks / 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_exact_and_those_of_the_network() {
        let config = SanaTransformerConfig::sana_1600m_1024px();
        let chosen = config.perturbed_blocks([14, 8, 8]).unwrap();
        assert_eq!(chosen.indices(), [8, 14]);
        assert_eq!(chosen.first(), 8);
        assert_eq!(config.perturbed_blocks([19]).unwrap().indices(), [19]);

        let error = config.perturbed_blocks([1, 20]).unwrap_err();
        let expected = PerturbedBlocksError::OutOfRange {
            index: 20,
            blocks: 20,
        };
        assert_eq!(error, expected);
        assert!(error.to_string().contains("block 20"), "{error}");
        assert!(error.to_string().contains("has 20, 0 to 19"), "{error}");

        let error = config.perturbed_blocks([]).unwrap_err();
        assert_eq!(error, PerturbedBlocksError::Empty { blocks: 20 });
        assert!(error.to_string().contains("no block"), "{error}");
    }

    #[test]
    fn defaults_by_size() {
        let default = |config: SanaTransformerConfig| config.default_perturbed_block();
        assert_eq!(default(SanaTransformerConfig::sana_1600m_512px()), 8);
        assert_eq!(default(SanaTransformerConfig::sana_1_5_1600m()), 8);
        assert_eq!(default(SanaTransformerConfig::sana_600m_512px()), 14);
        assert_eq!(default(SanaTransformerConfig::sana_1_5_4800m()), 30);
        let one = SanaTransformerConfig {
            num_layers: 1,
            ..SanaTransformerConfig::default()
        };
        assert!(one.perturbed_blocks([default(one.clone())]).is_ok());
    }
}
