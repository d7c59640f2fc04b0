//! Checkpoints of a transformer: the layouts they come in and what their weights show.

mod infer;
mod nunchaku;
mod original;
mod prefix;

use burn::tensor::DType;

use crate::weights::Weights;

pub use infer::InferredConfig;
pub use nunchaku::NunchakuLayout;
pub use original::OriginalLayout;
pub(super) use original::{LOSS_WEIGHTING, original_name};
pub(super) use prefix::without_prefix;

/// Whether self-attention outputs are limited to the range of f16.
///
/// Checkpoints trained in f16 without qk norm have activations beyond that range and were trained
/// with the limit, so they need it whatever the compute dtype.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum F16Clamp {
    /// On for a model without qk norm whose weights are f16, in the file or in memory.
    #[default]
    Auto,
    /// Always on.
    On,
    /// Always off.
    Off,
}

impl F16Clamp {
    /// Whether the limit is on for a network of these weights.
    pub(in crate::transformer) fn is_on(
        self,
        qk_norm: bool,
        weights: &Weights,
        dtype: Option<DType>,
    ) -> bool {
        match self {
            Self::On => true,
            Self::Off => false,
            Self::Auto => {
                let f16_weights = weights.dtypes().contains_key("f16");
                !qk_norm && (f16_weights || dtype == Some(DType::F16))
            }
        }
    }
}
