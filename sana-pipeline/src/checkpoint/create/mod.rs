//! Checkpoints of released sizes with random weights, for benchmarks and tests at real size,
//! ControlNets to train, networks in memory, checkpoints of another depth, and transformers in
//! another layout.

mod controlnet;
mod convert;
mod depth;
pub(crate) mod folder;
mod quantized;
mod random;
mod trained;

use std::fs;
use std::io::Write;
use std::path::Path;

use burn::tensor::{DType, Device};
use sana_dcae::DcAeConfig;
use sana_linear_attn::weights::parameter_shapes;
use sana_linear_attn::{KeyMap, SanaTransformerConfig};
use sana_text::Gemma2Config;
use serde_json::{Map, Value, json};

use self::folder::{config_json, index_json};
use self::random::{RandomTensor, WeightDtype};
use crate::checkpoint::variants::{self, Variant};
use crate::checkpoint::{CONFIG, Component, INDEX, SanaKeys, Scheduler};
use crate::error::{CheckpointError, PipelineError};
use crate::support::files;
use crate::support::files::write_whole;

pub use controlnet::write_controlnet;
pub use convert::{ConvertOptions, convert_transformer};
pub use depth::write_with_depth;
pub use quantized::{QuantizedOptions, write_quantized};
pub use sana_linear_attn::transformer::TransformerLayout;
pub use trained::{CheckpointFiles, write_autoencoder, write_denoiser};

/// Bytes of tensors in one file: more make shards, as in published checkpoints.
const SHARD_BYTES: u64 = 5_000_000_000;

/// Writes a checkpoint of a released variant with random weights in the published layout.
///
/// Matrices are uniform with mean 0 and standard deviation `min(0.02, 1 / sqrt(inputs))`, which
/// keeps activations finite; biases are 0 and norms 1. The same seed gives the same bytes. The
/// tokenizer is that of the built-in checkpoint, while the vocabulary of the text encoder keeps
/// its 256,000 rows. Tensors are made piece by piece, so the model is never in memory. Every file
/// appears whole or not at all, and `model_index.json` comes last: an interrupted run leaves no
/// folder that could be taken for a checkpoint. `progress(written, all)` counts bytes of weights.
///
/// Any device will do: it is asked for the shapes of the parameters only.
///
/// # Errors
/// [`CheckpointError::UnknownVariant`], [`CheckpointError::WeightDtype`],
/// [`CheckpointError::Exists`], [`PipelineError::Write`], or
/// [`CheckpointError::NoBuiltIn`] in a build without the built-in checkpoint.
pub fn write_checkpoint(
    variant: &str,
    folder: &Path,
    dtype: DType,
    seed: u64,
    device: &Device,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), PipelineError> {
    let variant = variants::find(variant)?;
    let tokenizer = built_in_tokenizer()?;
    RandomModel::of(variant, &tokenizer).write(folder, dtype, seed, device, progress)
}

type File = (&'static str, &'static [u8]);
/// Config, names and shapes of a part.
type PartPlan = (Component, String, Vec<(String, Vec<usize>)>);
type WriteShard<'a> = &'a mut dyn FnMut(&Path, &[RandomTensor]) -> Result<(), PipelineError>;

#[cfg(feature = "scenes-model")]
fn built_in_tokenizer() -> Result<Vec<File>, PipelineError> {
    let files = ["tokenizer.json", "tokenizer_config.json"];
    Ok(files
        .into_iter()
        .filter_map(|name| {
            Some((
                name,
                crate::checkpoint::contents::built_in::file(&format!("tokenizer/{name}"))?,
            ))
        })
        .collect())
}

#[cfg(not(feature = "scenes-model"))]
fn built_in_tokenizer() -> Result<Vec<File>, PipelineError> {
    Err(PipelineError::Checkpoint(CheckpointError::NoBuiltIn {
        needs: "a checkpoint with random weights, for its tokenizer,",
    }))
}

/// A model to write: its configs and the files of its tokenizer.
struct RandomModel<'a> {
    name: &'a str,
    transformer: SanaTransformerConfig,
    autoencoder: DcAeConfig,
    text_encoder: Gemma2Config,
    scheduler: Scheduler,
    tokenizer: &'a [(&'a str, &'a [u8])],
    shard_bytes: u64,
}

impl<'a> RandomModel<'a> {
    fn of(variant: &Variant, tokenizer: &'a [File]) -> Self {
        Self {
            name: variant.name,
            transformer: variant.transformer(),
            autoencoder: variant.autoencoder(),
            text_encoder: variant.text_encoder(),
            scheduler: variant.scheduler(),
            tokenizer,
            shard_bytes: SHARD_BYTES,
        }
    }

    fn write(
        &self,
        folder: &Path,
        dtype: DType,
        seed: u64,
        device: &Device,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), PipelineError> {
        let dtype = WeightDtype::new(dtype)?;
        if folder.join(INDEX).exists() {
            return Err(PipelineError::Checkpoint(CheckpointError::Exists {
                folder: folder.to_path_buf(),
            }));
        }
        let parts = self.parts(device)?;
        let all: u64 = parts
            .iter()
            .flat_map(|(_, _, shapes)| shapes)
            .map(|(_, shape)| dtype.bytes(shape))
            .sum();
        let mut written = 0;
        let mut report = |bytes: u64| {
            written += bytes;
            progress(written, all);
        };
        self.write_files(folder, parts, dtype, seed, &mut |path, tensors| {
            write_shard(path, tensors, dtype, &mut report)
        })
    }

    /// Config and shapes of the parameters of every part.
    fn parts(&self, device: &Device) -> Result<[PartPlan; 3], PipelineError> {
        Ok([
            (
                Component::TextEncoder,
                self.text_encoder.to_json(),
                parameter_shapes(&self.text_encoder.init(device)?, KeyMap::default()),
            ),
            (
                Component::Transformer,
                config_json(Component::Transformer, &self.transformer),
                parameter_shapes(&self.transformer.init(device), KeyMap::default()),
            ),
            (
                Component::Vae,
                self.autoencoder.to_json(),
                parameter_shapes(&self.autoencoder.init(device), KeyMap::default()),
            ),
        ])
    }

    /// Writes the folder; `write_shard` writes the files of weights.
    fn write_files(
        &self,
        folder: &Path,
        parts: [PartPlan; 3],
        dtype: WeightDtype,
        seed: u64,
        write_shard: WriteShard<'_>,
    ) -> Result<(), PipelineError> {
        for (part, config, shapes) in parts {
            let tensors: Vec<RandomTensor> = shapes
                .into_iter()
                .enumerate()
                .map(|(index, (name, shape))| {
                    RandomTensor::new(part, name, shape, seed, index as u64)
                })
                .collect();
            let part_folder = create_folder(folder, part)?;
            write_text(&part_folder.join(CONFIG), &config)?;
            let stem = part.weights_stem().unwrap_or_default();
            write_weights(
                &part_folder,
                stem,
                tensors,
                dtype,
                self.shard_bytes,
                write_shard,
            )?;
        }
        let tokenizer = create_folder(folder, Component::Tokenizer)?;
        for (name, bytes) in self.tokenizer {
            let path = tokenizer.join(name);
            write_whole(&path, |file| file.write_all(bytes))
                .map_err(PipelineError::write(&path))?;
        }
        let scheduler = create_folder(folder, Component::Scheduler)?;
        write_text(
            &scheduler.join("scheduler_config.json"),
            &self.scheduler.to_json(),
        )?;
        let keys = SanaKeys {
            variant: Some(format!("{} (random weights)", self.name)),
            ..SanaKeys::default()
        };
        let index = index_json(&self.scheduler, "GemmaTokenizerFast", &keys);
        write_text(&folder.join(INDEX), &index)
    }
}

fn create_folder(folder: &Path, part: Component) -> Result<std::path::PathBuf, PipelineError> {
    let path = folder.join(part.folder());
    fs::create_dir_all(&path).map_err(|source| PipelineError::Write {
        path: path.clone(),
        source,
    })?;
    Ok(path)
}

fn write_text(path: &Path, text: &str) -> Result<(), PipelineError> {
    files::write_text(path, text).map_err(PipelineError::write(path))
}

/// Writes tensors as `STEM.safetensors`, or as shards with an index when they are more than
/// `shard_bytes`.
fn write_weights(
    folder: &Path,
    stem: &str,
    tensors: Vec<RandomTensor>,
    dtype: WeightDtype,
    shard_bytes: u64,
    write_shard: WriteShard<'_>,
) -> Result<(), PipelineError> {
    let total: u64 = tensors
        .iter()
        .map(|tensor| dtype.bytes(&tensor.shape))
        .sum();
    let mut shards: Vec<Vec<RandomTensor>> = vec![Vec::new()];
    let mut filled = 0;
    for tensor in tensors {
        let bytes = dtype.bytes(&tensor.shape);
        if filled > 0 && filled + bytes > shard_bytes {
            shards.push(Vec::new());
            filled = 0;
        }
        filled += bytes;
        if let Some(shard) = shards.last_mut() {
            shard.push(tensor);
        }
    }
    if let [tensors] = shards.as_slice() {
        let path = folder.join(format!("{stem}.safetensors"));
        return write_shard(&path, tensors);
    }
    let mut map = Map::new();
    let count = shards.len();
    for (number, tensors) in (1..).zip(&shards) {
        let file = format!("{stem}-{number:05}-of-{count:05}.safetensors");
        write_shard(&folder.join(&file), tensors)?;
        map.extend(
            tensors
                .iter()
                .map(|tensor| (tensor.name.clone(), Value::from(file.as_str()))),
        );
    }
    let index = json!({ "metadata": { "total_size": total }, "weight_map": map });
    write_text(
        &folder.join(format!("{stem}.safetensors.index.json")),
        &format!("{index:#}\n"),
    )
}

/// What a safetensors file begins with: the length of the header and the header as JSON.
fn header(tensors: &[RandomTensor], dtype: WeightDtype) -> Vec<u8> {
    let mut header = Map::from_iter([("__metadata__".to_owned(), json!({ "format": "pt" }))]);
    let mut offset = 0;
    for tensor in tensors {
        let end = offset + dtype.bytes(&tensor.shape);
        let entry = json!({
            "dtype": dtype.name(),
            "shape": tensor.shape,
            "data_offsets": [offset, end],
        });
        header.insert(tensor.name.clone(), entry);
        offset = end;
    }
    let mut header = Value::Object(header).to_string();
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes
}

/// One safetensors file: the header and the tensors.
fn write_shard(
    path: &Path,
    tensors: &[RandomTensor],
    dtype: WeightDtype,
    report: &mut dyn FnMut(u64),
) -> Result<(), PipelineError> {
    write_whole(path, |file| {
        file.write_all(&header(tensors, dtype))?;
        tensors
            .iter()
            .try_for_each(|tensor| tensor.write(file, dtype, report))
    })
    .map_err(PipelineError::write(path))
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod load_plan;
#[cfg(test)]
#[cfg(feature = "flex")]
mod tests;
