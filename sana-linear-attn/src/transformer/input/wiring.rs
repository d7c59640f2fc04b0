//! Where a ControlNet is joined to the transformer.

use serde::{Deserialize, Serialize};

/// Between which blocks of the transformer a ControlNet's blocks sit. The weights are of the same
/// shapes, but trained for one of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ControlWiring {
    /// That of diffusers: the first copied block sees the embedded latents, and residual `i` is
    /// added to the output of block `i + 1`.
    #[default]
    Diffusers,
    /// That of the authors' code: the first copied block sees the output of block 0, and residual
    /// `i` is added to the input of block `i + 1`.
    Original,
}
