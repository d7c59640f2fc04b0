//! What a single file of weights is.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use burn::tensor::Device;
use sana_linear_attn::transformer::{NunchakuLayout, OriginalLayout};
use sana_linear_attn::{SanaTransformerConfig, Weights};
use serde::Serialize;

use crate::error::PipelineError;
use crate::support::escape::escaped;
use crate::support::units::{grouped, human};

/// Extensions of files that hold weights.
const EXTENSIONS: [&str; 7] = ["safetensors", "sft", "gguf", "pth", "pt", "bin", "ckpt"];

/// What a file of weights can be used as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightFileKind {
    /// A transformer under the names of diffusers.
    Transformer,
    /// A transformer under the names of its authors.
    OriginalTransformer,
    /// A transformer with the 4-bit blocks of nunchaku.
    NunchakuTransformer,
    /// Gemma-2 under the names of transformers.
    TextEncoder,
    /// A GGUF file of Gemma-2.
    GgufTextEncoder,
    /// A GGUF file of another model.
    OtherGguf,
    /// Anything else: a LoRA, a whole model, another network.
    Other,
}

/// A file of weights at a glance. Its [`fmt::Display`] is a table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WeightFileDescription {
    /// The file.
    pub origin: String,
    /// What it can be used as.
    pub kind: WeightFileKind,
    /// Number of tensors, of those that quantized ones stand for.
    pub tensors: usize,
    /// Number of parameters, of those that quantized ones stand for.
    pub parameters: u64,
    /// Number of tensors of each dtype, or of each form of quantized ones.
    pub dtypes: BTreeMap<String, usize>,
    /// Bytes of the tensors on disk.
    pub bytes: u64,
}

impl WeightFileDescription {
    /// Whether a file is of weights, by its name.
    pub fn is_one(path: &Path) -> bool {
        let extension = path.extension().unwrap_or_default();
        let mut known = EXTENSIONS.iter();
        path.is_file() && known.any(|known| extension.eq_ignore_ascii_case(known))
    }

    /// Reads the header of a safetensors, GGUF or PyTorch file.
    ///
    /// # Errors
    /// When it is damaged, or of a format that is not read.
    pub fn open(path: &Path) -> Result<Self, PipelineError> {
        let mut weights = Weights::open_file(path)?;
        let kind = kind(&weights);
        // Of what it stands for, several tensors are made of one in the file.
        let bytes = weights.total_bytes() as u64;
        if kind == WeightFileKind::NunchakuTransformer {
            // Only these names and shapes are those that it stands for.
            let base = SanaTransformerConfig::default();
            if let Ok(inferred) = SanaTransformerConfig::infer(&weights, &base)
                && let Some(layout) = NunchakuLayout::of(&weights)
            {
                let config = inferred.config;
                let model = config.init(&Device::default());
                weights = layout.published(&weights, &config, &model)?;
            }
        }
        Ok(Self {
            origin: path.display().to_string(),
            kind,
            tensors: weights.names().count(),
            parameters: weights.total_elements() as u64,
            dtypes: weights.dtypes(),
            bytes,
        })
    }
}

fn kind(weights: &Weights) -> WeightFileKind {
    let ends = |mark: &str| weights.names().any(|name| name.ends_with(mark));
    match weights.metadata("general.architecture") {
        Some("gemma2") => return WeightFileKind::GgufTextEncoder,
        Some(_) => return WeightFileKind::OtherGguf,
        None => {}
    }
    if NunchakuLayout::of(weights).is_some() {
        WeightFileKind::NunchakuTransformer
    } else if OriginalLayout::of(weights).is_some() {
        WeightFileKind::OriginalTransformer
    } else if ends("caption_projection.linear_1.weight") {
        WeightFileKind::Transformer
    } else if ends("layers.0.pre_feedforward_layernorm.weight") {
        WeightFileKind::TextEncoder
    } else {
        WeightFileKind::Other
    }
}

impl fmt::Display for WeightFileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Transformer => "transformer, with the names of diffusers",
            Self::OriginalTransformer => "transformer, with the names of its authors",
            Self::NunchakuTransformer => "transformer, 4-bit blocks of nunchaku (SVDQuant)",
            Self::TextEncoder => "text encoder (Gemma-2)",
            Self::GgufTextEncoder => "text encoder (Gemma-2) as GGUF",
            Self::OtherGguf => "GGUF of another model",
            Self::Other => "no whole network of Sana",
        })
    }
}

impl fmt::Display for WeightFileDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dtypes = self.dtypes.iter();
        let dtypes: Vec<String> = dtypes
            .map(|(name, count)| format!("{} ({count})", escaped(name)))
            .collect();
        writeln!(f, "file        {}", escaped(&self.origin))?;
        writeln!(f, "kind        {}", self.kind)?;
        writeln!(f, "tensors     {}: {}", self.tensors, dtypes.join(", "))?;
        writeln!(f, "parameters  {}", grouped(self.parameters))?;
        write!(f, "on disk     {}", human(self.bytes))
    }
}
