//! What would make a request fit into memory.

use std::fmt;

use crate::support::units::human;

/// A change that makes a request fit into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemoryAdvice {
    /// [`MemoryPolicy::OneStageAtATime`](crate::memory::MemoryPolicy) and decoding in
    /// [tiles](crate::LoadOptions::tiling).
    LowMemory,
    /// [`LoadOptions::dtype`](crate::LoadOptions::dtype) bf16.
    Bf16,
    /// Both.
    Bf16LowMemory,
    /// One image per prompt: [`Request::count`](crate::Request::count).
    FewerImages,
    /// At most so many prompts at a time.
    FewerPrompts {
        /// How many.
        prompts: usize,
    },
    /// The size in pixels that the model was trained at, where that is smaller.
    Size {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
    },
}

impl fmt::Display for MemoryAdvice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LOW_MEMORY: &str = "one stage in memory at a time and decoding in tiles";
        match self {
            Self::LowMemory => f.write_str(LOW_MEMORY),
            Self::Bf16 => f.write_str("weights in bf16"),
            Self::Bf16LowMemory => write!(f, "weights in bf16, {LOW_MEMORY}"),
            Self::FewerImages => f.write_str("one image per prompt"),
            Self::FewerPrompts { prompts } => write!(f, "{prompts} prompts at a time"),
            Self::Size { width, height } => write!(f, "a size of {width}x{height}"),
        }
    }
}

/// What there is too little of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shortage {
    /// Bytes.
    pub needs: u64,
    /// Bytes.
    pub free: u64,
    /// Whether one tensor alone is too large, and not all of them together.
    pub single_tensor: bool,
}

/// A shortage in words.
pub(crate) fn shortage(short: Shortage) -> String {
    let (needs, free) = (human(short.needs), human(short.free));
    match short.single_tensor {
        true => format!("a single tensor needs {needs}, of which the device gives {free} at once"),
        false => format!("needs {needs}, {free} free"),
    }
}

/// What it fits with, or that there is nothing.
pub(super) fn advised(advice: &[MemoryAdvice]) -> String {
    let words: Vec<String> = advice.iter().map(ToString::to_string).collect();
    match words.as_slice() {
        [] => "nothing makes it fit; free some memory, or take a smaller model".to_owned(),
        words => format!("it fits with {}", words.join(", or with ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_in_words() {
        let size = MemoryAdvice::Size {
            width: 512,
            height: 512,
        };
        assert!(advised(&[]).contains("smaller model"));
        assert_eq!(
            advised(&[MemoryAdvice::Bf16]),
            "it fits with weights in bf16"
        );
        assert_eq!(
            advised(&[MemoryAdvice::FewerImages, size]),
            "it fits with one image per prompt, or with a size of 512x512"
        );
    }
}
