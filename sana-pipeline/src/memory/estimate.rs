//! What a request needs, stage by stage, and what would make it need less.

use serde::Serialize;

/// What is allocated next to weights and tensors: buffers of the matrix multiplications, the tokenizer, the
/// image files.
const OVERHEAD: u64 = 64 << 20;

/// What one stage needs, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StageEstimate {
    /// `text`, `denoise` or `decode`.
    pub name: &'static str,
    /// Weights in the dtype that they are loaded in; 0 where they were in memory before the pipeline
    /// was made.
    pub weights: u64,
    /// What is alive at once next to the weights, at most.
    pub activations: u64,
    /// The largest single tensor, in bytes: a GPU gives so much at once or not at all.
    pub largest_tensor: u64,
}

impl StageEstimate {
    /// Weights and activations.
    pub fn total(&self) -> u64 {
        self.weights.saturating_add(self.activations)
    }
}

/// What a request needs before it starts, as an upper estimate; see
/// [`activations`](super::activations) for the formulas.
///
/// Pages of mapped weight files that are read while loading are not counted: the system takes them
/// back when it needs the memory. [`StageReport`](super::StageReport) does count them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemoryEstimate {
    /// The stages in the order in which they run.
    pub stages: Vec<StageEstimate>,
    /// The last of them where the autoencoder works in tiles.
    pub decode_in_tiles: StageEstimate,
}

impl MemoryEstimate {
    /// Bytes with the weights of all stages in memory at once.
    pub fn all_components(&self, in_tiles: bool) -> u64 {
        let stages = || self.stages(in_tiles);
        let weights = stages().fold(0, |sum: u64, stage| sum.saturating_add(stage.weights));
        let activations = stages().map(|stage| stage.activations).max();
        weights
            .saturating_add(activations.unwrap_or(0))
            .saturating_add(OVERHEAD)
    }

    /// Bytes with the weights of one stage in memory at a time.
    pub fn one_stage_at_a_time(&self, in_tiles: bool) -> u64 {
        let largest = self.stages(in_tiles).map(|stage| stage.total()).max();
        largest.unwrap_or(0).saturating_add(OVERHEAD)
    }

    /// Bytes of the largest single tensor of all stages.
    pub fn largest_tensor(&self, in_tiles: bool) -> u64 {
        let stages = self.stages(in_tiles);
        stages.map(|stage| stage.largest_tensor).max().unwrap_or(0)
    }

    pub(crate) fn need(&self, way: Way) -> u64 {
        match way.one_stage {
            true => self.one_stage_at_a_time(way.in_tiles),
            false => self.all_components(way.in_tiles),
        }
    }

    fn stages(&self, in_tiles: bool) -> impl Iterator<Item = StageEstimate> + '_ {
        let tiled = self.decode_in_tiles;
        let tiled = move |stage: StageEstimate| match in_tiles && stage.name == tiled.name {
            true => tiled,
            false => stage,
        };
        self.stages.iter().copied().map(tiled)
    }
}

/// A way to run a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Way {
    pub one_stage: bool,
    pub in_tiles: bool,
}

/// What to do when a request does not fit into memory by the estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MemoryShortage {
    /// Refuse it before any weights are read.
    #[default]
    Refuse,
    /// Try it in the way that needs least.
    Try,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(name: &'static str, weights: u64, activations: u64) -> StageEstimate {
        StageEstimate {
            name,
            weights,
            activations,
            largest_tensor: activations / 2,
        }
    }

    #[test]
    fn sums_and_largest() {
        let estimate = MemoryEstimate {
            stages: vec![
                stage("text", 800, 20),
                stage("denoise", 600, 30),
                stage("decode", 100, 900),
            ],
            decode_in_tiles: stage("decode", 100, 200),
        };
        assert_eq!(estimate.all_components(false), 1500 + 900 + OVERHEAD);
        assert_eq!(estimate.all_components(true), 1500 + 200 + OVERHEAD);
        assert_eq!(estimate.one_stage_at_a_time(false), 1000 + OVERHEAD);
        assert_eq!(estimate.one_stage_at_a_time(true), 820 + OVERHEAD);
        let huge = MemoryEstimate {
            stages: vec![stage("text", u64::MAX, 1); 2],
            decode_in_tiles: stage("decode", 0, 0),
        };
        assert_eq!(huge.all_components(false), u64::MAX);
        assert_eq!(huge.one_stage_at_a_time(true), u64::MAX);
    }
}
