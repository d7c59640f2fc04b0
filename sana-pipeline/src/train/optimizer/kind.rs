use serde::{Deserialize, Serialize};

/// How parameters are updated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// AdamW.
    #[default]
    AdamW,
    /// Hidden layers' matrices by Muon, the momentum made orthogonal; everything else by AdamW.
    Muon,
    /// CAME, whose second moments of matrices are factored: half of AdamW's memory.
    Came,
    /// CAME with first moments of 8 bits where matrices are large: an eighth of AdamW's memory
    /// (SANA-1.5).
    Came8Bit,
}
