//! The measures that papers report of generated images.
//!
//! [`FeatureAccumulator`] takes features row by row and never holds all of them; its
//! [`FeatureStatistics`] are read and written in the `.npz` layout of the usual tools, and
//! [`frechet_distance`] compares two of them.

mod error;
mod frechet;
mod npz;
mod statistics;

pub use error::MetricsError;
pub use frechet::frechet_distance;
pub use statistics::{FeatureAccumulator, FeatureStatistics, LARGEST_FEATURES};
