//! Transformers of another depth (SANA-1.5, arXiv 2501.18427).
//!
//! Growing (section 2.2): a trained network of few blocks begins one of many.
//! [`SanaTransformerConfig::grow`](crate::SanaTransformerConfig::grow) says where each block of the
//! larger network comes from, a [`DepthPlan`]; [`DepthPlan::write`] writes its weights, tensor by
//! tensor.
//!
//! ```
//! use sana_linear_attn::SanaTransformerConfig;
//! use sana_linear_attn::transformer::depth::{BlockSource, GrowthOptions};
//!
//! let small = SanaTransformerConfig::sana_1600m_1024px();
//! let plan = small.grow(&GrowthOptions::new(60))?;
//! assert_eq!(plan.config(), &SanaTransformerConfig::sana_1_5_4800m());
//! assert_eq!(plan.blocks()[17], BlockSource::Copy(17));
//! assert_eq!(plan.blocks()[18], BlockSource::Identity);
//! # Ok::<(), sana_linear_attn::transformer::depth::GrowthError>(())
//! ```
//!
//! Pruning (section 2.4): blocks that change their input little, which [`BlockImportance`] measures,
//! can be removed, by
//! [`SanaTransformerConfig::keep_blocks`](crate::SanaTransformerConfig::keep_blocks).

mod growth;
mod importance;
mod plan;
mod tensors;
mod write;

pub use growth::{GrowthError, GrowthOptions, GrowthStrategy};
pub use importance::BlockImportance;
pub use plan::{BlockSource, DepthPlan};
