//! The measures that papers report of generated images.
//!
//! [`Clip`] scores how well images fit texts. [`FidInception`] gives the features of FID.
//! [`FeatureAccumulator`] takes features row by row and never holds all of them; its [`FeatureStatistics`] are read and written in the `.npz` layout of
//! the usual tools, and [`frechet_distance`] compares two of them. [`GenevalScore`] and [`DpgScore`]
//! sum up what the evaluators of these benchmarks wrote.

mod benchmarks;
mod clip;
mod error;
mod frechet;
mod inception;
mod npz;
mod resample;
mod statistics;
#[cfg(test)]
mod tests;

pub use benchmarks::{
    DpgCategory, DpgQuestions, DpgScore, GENEVAL_TAGS, GenevalPrompt, GenevalResult, GenevalScore,
    GenevalTag,
};
pub use clip::{Clip, ClipTokens};
pub use error::MetricsError;
pub use frechet::frechet_distance;
pub use inception::{FidInception, FidResize};
pub use statistics::{FeatureAccumulator, FeatureStatistics, LARGEST_FEATURES};
