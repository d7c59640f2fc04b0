//! How good images are: metrics of sets of images, scores of the built-in model's scenes, and the best of several.

pub mod best_of;
#[cfg(feature = "scenes")]
#[cfg_attr(docsrs, doc(cfg(feature = "scenes")))]
pub mod evaluate;
#[cfg(feature = "metrics")]
#[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
pub mod metrics;
