//! A transformer's weights in the other layout.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::DType;
use sana_linear_attn::SanaTransformerConfig;
use sana_linear_attn::transformer::TransformerLayout;
use sana_linear_attn::weights::{LARGEST_CONFIG, file_names, read_text_bounded};

use super::folder::transformer_json;
use super::random::WeightDtype;
use super::write_text;
use crate::checkpoint::external::TransformerFile;
use crate::checkpoint::{CONFIG, Component, INDEX};
use crate::error::{CheckpointError, PipelineError};

/// A transformer to convert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvertOptions {
    /// A safetensors or PyTorch file in either layout, a folder like a checkpoint's `transformer`, or
    /// a checkpoint.
    pub from: PathBuf,
    /// Variant of the weight files of a folder.
    pub variant: Option<String>,
    /// The names to write.
    pub layout: TransformerLayout,
    /// Dtype of the weights; that of the file when `None`, and then their values bit for bit.
    pub dtype: Option<DType>,
    /// The `config.json` of the transformer, in place of the one next to the weights, or of what
    /// their shapes show.
    pub config: Option<PathBuf>,
}

impl ConvertOptions {
    /// To the layout of diffusers, with the dtype of the file.
    pub fn new(from: impl Into<PathBuf>) -> Self {
        Self {
            from: from.into(),
            variant: None,
            layout: TransformerLayout::Diffusers,
            dtype: None,
            config: None,
        }
    }
}

/// Writes a transformer under other names: in the layout of diffusers a folder with `config.json` and
/// weights, in the original one a safetensors file. Files appear whole or not at all, `config.json`
/// last. `progress(written, all)` counts bytes of weights. Returns notes: what was assumed of a
/// config that is not next to the weights, and what the new file does not say.
///
/// Of an original file, the embedding of the empty caption, the position table and the loss
/// weighting are not converted: inference needs none of them.
///
/// # Errors
/// [`CheckpointError::WeightsExist`] when there are weights or a config at `out` already,
/// [`CheckpointError::NoVariant`], [`CheckpointError::WeightDtype`], [`PipelineError::Write`], or
/// when the weights are not those of a transformer.
pub fn convert_transformer(
    options: &ConvertOptions,
    out: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Vec<String>, PipelineError> {
    options.dtype.map(WeightDtype::new).transpose()?;
    check_new(options.layout, out)?;
    let inner = options.from.join(Component::Transformer.folder());
    let from = if inner.is_dir() {
        &inner
    } else {
        &options.from
    };
    let variant = options.variant.as_deref();
    let mut file = match &options.config {
        Some(path) => TransformerFile::with_config(from, variant, read_config(path)?)?,
        None => TransformerFile::open(from, variant, &SanaTransformerConfig::default())?,
    };
    file.check_variant(variant)?;
    let mut notes: Vec<String> = file.note.take().into_iter().collect();
    let (weights, config) = (&file.weights, &file.config);
    let in_f16 = file.f16 || weights.dtypes().contains_key("f16");
    let clamp = config.qk_norm.is_none() && in_f16;
    if options.layout == TransformerLayout::Original {
        config.convert(weights, options.layout, options.dtype, out, progress)?;
        let named = out.to_string_lossy().contains(".fp16");
        if clamp && !named && options.dtype.is_some_and(|dtype| dtype != DType::F16) {
            notes.push(
                "the model was trained in f16, which the new file does not show: with .fp16 in its \
                 name it is loaded as such a one"
                    .to_owned(),
            );
        }
        return Ok(notes);
    }
    fs::create_dir_all(out).map_err(PipelineError::write(out))?;
    let target = out.join(format!("{}.safetensors", stem()));
    config.convert(weights, options.layout, options.dtype, &target, progress)?;
    write_text(&out.join(CONFIG), &transformer_json(config, clamp))?;
    Ok(notes)
}

fn stem() -> &'static str {
    Component::Transformer.weights_stem().unwrap_or_default()
}

/// Refuses a place with something that would be replaced or mixed with what is written.
fn check_new(layout: TransformerLayout, out: &Path) -> Result<(), CheckpointError> {
    let taken = match layout {
        TransformerLayout::Original => out.symlink_metadata().is_ok(),
        TransformerLayout::Diffusers => {
            let theirs =
                |name: &String| name == CONFIG || name == INDEX || name.starts_with(stem());
            (out.exists() && !out.is_dir()) || file_names(out).iter().any(theirs)
        }
    };
    match taken {
        true => Err(CheckpointError::WeightsExist {
            path: out.to_path_buf(),
        }),
        false => Ok(()),
    }
}

fn read_config(path: &Path) -> Result<SanaTransformerConfig, PipelineError> {
    let text = read_text_bounded(path, LARGEST_CONFIG).map_err(|source| PipelineError::Read {
        path: path.to_path_buf(),
        source,
    })?;
    Ok(SanaTransformerConfig::from_json(&text, path)?)
}
