//! Strict loading and saving of safetensors checkpoints.
//!
//! A file is mapped, its header checked, and every name and shape compared with the module's
//! parameters before anything is allocated. Missing, unexpected and mis-shaped tensors are one
//! error that lists them.
//!
//! On the CPU backend `flex` a parameter that keeps its file's dtype is not copied: it stays where
//! it is in the mapped file, or in the bytes given, for as long as the parameter lives. Operations
//! never write to it. Parameters on an autodiff device, on another device, of another dtype, or at
//! an odd place in the file have memory of their own.

pub(crate) mod encoded;
pub(crate) mod error;
pub(crate) mod file;
pub(crate) mod load;
pub(crate) mod names;
mod packed;
pub(crate) mod save;
pub(crate) mod tensors;
pub(crate) mod widen;

pub(crate) use error::{LISTED, WeightError, listed, mismatch_lists};
pub(crate) use load::{LoadOptions, load_module};
pub(crate) use names::KeyMap;
pub(crate) use save::{PlannedTensor, write_planned};
pub(crate) use tensors::Weights;
pub(crate) use tensors::view::{NewTensor, RowShare};

#[doc(hidden)]
pub use file::folder::{file_names, has_variant, shard_paths, weight_file_names, weight_variants};
#[doc(hidden)]
pub use file::read::{LARGEST_CONFIG, read_bounded, read_text_bounded};
#[doc(hidden)]
pub use file::replace::{check_replaceable, follow_links, replace_file};
pub use load::check_module;
pub use names::parameter_shapes;
#[doc(hidden)]
pub use packed::load_quantized;
pub use packed::{LayerNoise, QuantizePlan, TakeLowRank};
#[doc(hidden)]
pub use save::write_tensors;
