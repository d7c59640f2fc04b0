//! What a request needs, stage by stage, and what would make it need less.

use std::fmt;

use serde::Serialize;

/// What is allocated beside weights and tensors: buffers of the matrix products, the tokenizer, the
/// picture files.
const OVERHEAD: u64 = 64 << 20;

/// What one stage needs, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StageEstimate {
    /// `text`, `denoise` or `decode`.
    pub name: &'static str,
    /// Weights in the dtype that they are loaded in; 0 where they were in memory before the pipeline
    /// was made.
    pub weights: u64,
    /// What is alive at once beside the weights, at most.
    pub activations: u64,
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
    pub fn all_parts(&self, in_tiles: bool) -> u64 {
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

    pub(crate) fn need(&self, way: Way) -> u64 {
        match way.one_stage {
            true => self.one_stage_at_a_time(way.in_tiles),
            false => self.all_parts(way.in_tiles),
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

/// A change that makes a request fit into memory. It is told in the words of the `sana` command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemoryAdvice {
    /// `--low-memory`: [`MemoryPolicy::OneStageAtATime`](crate::MemoryPolicy) and decoding in
    /// [tiles](crate::LoadOptions::tiling).
    LowMemory,
    /// `--dtype bf16`: [`LoadOptions::dtype`](crate::LoadOptions::dtype).
    Bf16,
    /// Both.
    Bf16LowMemory,
    /// `--count 1`: fewer pictures at a time.
    FewerPictures,
    /// `--size`: the size in pixels that the model was trained at, where that is smaller.
    Size {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
    },
}

impl fmt::Display for MemoryAdvice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LowMemory => f.write_str("--low-memory"),
            Self::Bf16 => f.write_str("--dtype bf16"),
            Self::Bf16LowMemory => f.write_str("--dtype bf16 with --low-memory"),
            Self::FewerPictures => f.write_str("--count 1"),
            Self::Size { width, height } => write!(f, "--size {width}x{height}"),
        }
    }
}

/// `try a or b`, or that there is nothing.
pub(crate) fn advised(advice: &[MemoryAdvice]) -> String {
    let words: Vec<String> = advice.iter().map(ToString::to_string).collect();
    match words.as_slice() {
        [] => "no option makes it fit; free some memory, or take a smaller model".to_owned(),
        [one] => format!("try {one}"),
        [first @ .., last] => format!("try {} or {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(name: &'static str, weights: u64, activations: u64) -> StageEstimate {
        StageEstimate {
            name,
            weights,
            activations,
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
        assert_eq!(estimate.all_parts(false), 1500 + 900 + OVERHEAD);
        assert_eq!(estimate.all_parts(true), 1500 + 200 + OVERHEAD);
        assert_eq!(estimate.one_stage_at_a_time(false), 1000 + OVERHEAD);
        assert_eq!(estimate.one_stage_at_a_time(true), 820 + OVERHEAD);
        let huge = MemoryEstimate {
            stages: vec![stage("text", u64::MAX, 1); 2],
            decode_in_tiles: stage("decode", 0, 0),
        };
        assert_eq!(huge.all_parts(false), u64::MAX);
        assert_eq!(huge.one_stage_at_a_time(true), u64::MAX);
    }

    #[test]
    fn advice_in_words() {
        let size = MemoryAdvice::Size {
            width: 512,
            height: 512,
        };
        assert!(advised(&[]).contains("no option"));
        assert_eq!(advised(&[MemoryAdvice::Bf16]), "try --dtype bf16");
        assert_eq!(
            advised(&[
                MemoryAdvice::Bf16LowMemory,
                MemoryAdvice::FewerPictures,
                size
            ]),
            "try --dtype bf16 with --low-memory, --count 1 or --size 512x512"
        );
    }
}
