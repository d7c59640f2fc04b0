//! A checkpoint with networks in 8 or 4 bits.

use std::path::Path;

use burn::tensor::{DType, Device, Tensor, TensorData};
use nalgebra::DMatrix;
use rand::SeedableRng;
use rand::distr::{Distribution, Uniform};
use rand_chacha::ChaCha8Rng;
use sana_linear_attn::layers::LowRank;
use sana_linear_attn::transformer::F16Clamp;
use sana_linear_attn::weights::{LayerNoise, QuantizePlan, file_names};
use serde_json::{Map, Value, json};

use super::depth::{copy, names};
use super::folder::text;
use super::{create_folder, write_text};
use crate::checkpoint::contents::quantize::{CONFIG_KEY, QuantizeComponents};
use crate::checkpoint::contents::weight_files::F16_CLAMP;
use crate::checkpoint::{CONFIG, Checkpoint, Component, INDEX};
use crate::error::{CheckpointError, PipelineError};

/// Rounds of subspace iteration; a test compares the error with the least possible one.
const ROUNDS: usize = 8;

/// What is quantized in a checkpoint that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuantizedOptions {
    /// The networks and their forms.
    pub components: QuantizeComponents,
    /// The rank of what is taken out of each weight before it is quantized, and kept next to it in f32.
    pub rank: Option<usize>,
}

/// Writes the checkpoint with networks quantized, in the form of [SDNQ](https://github.com/Disty0/sdnq)
/// 0.2.8, which diffusers and transformers read with that package installed. The other components are
/// copied, but for a ControlNet. Returns the noise of every layer.
///
/// Every file appears whole or not at all, and `model_index.json` comes last. `progress(done, all)`
/// counts the layers of a network.
///
/// # Errors
/// [`CheckpointError::Exists`], [`CheckpointError::WeightsExist`] for files of weights that would be next to the
/// new ones, [`PipelineError::Read`], [`PipelineError::Write`],
/// [`CheckpointError::NothingToQuantize`] without a network, [`WeightError::Quantized`](sana_linear_attn::WeightError)
/// for one that is quantized already, by whatever program.
pub fn write_quantized(
    checkpoint: &Checkpoint,
    variant: Option<&str>,
    options: &QuantizedOptions,
    folder: &Path,
    device: &Device,
    progress: &mut dyn FnMut(Component, u64, u64),
) -> Result<Vec<(Component, Vec<LayerNoise>)>, PipelineError> {
    if folder.join(INDEX).exists() {
        return Err(PipelineError::Checkpoint(CheckpointError::Exists {
            folder: folder.to_path_buf(),
        }));
    }
    let QuantizeComponents {
        transformer,
        text_encoder,
        ..
    } = options.components;
    if transformer.is_none() && text_encoder.is_none() {
        return Err(PipelineError::Checkpoint(
            CheckpointError::NothingToQuantize,
        ));
    }
    let quantize = options.components.of_transformer();
    for component in checkpoint.parts() {
        let written = match component {
            Component::Transformer if quantize.is_some() => None,
            Component::TextEncoder if text_encoder.is_some() => None,
            Component::ControlNet => continue,
            other => Some(names(checkpoint, other)),
        };
        check_others(component, folder, written)?;
    }
    let mut noise = Vec::new();
    for component in checkpoint.parts() {
        let weights = match component {
            Component::Transformer if quantize.is_some() => {
                checkpoint.weights(component, variant)?
            }
            Component::TextEncoder if text_encoder.is_some() => {
                checkpoint.weights(component, variant)?
            }
            Component::ControlNet => continue,
            other => {
                copy(checkpoint, other, folder)?;
                continue;
            }
        };
        let plan = match (component, quantize, text_encoder) {
            (Component::Transformer, Some(quantize), _) => {
                let config = checkpoint.transformer_config()?;
                config.quantize_plan(&weights, quantize, device)?
            }
            (_, _, Some(form)) => {
                let config = checkpoint.text_config()?;
                config.quantize_plan(&weights, form, device)?
            }
            _ => continue,
        };
        let progress = &mut |done, all| progress(component, done, all);
        let written = write(
            checkpoint,
            component,
            &plan,
            options.rank,
            folder,
            device,
            progress,
        )?;
        noise.push((component, written));
    }
    let index = checkpoint.read(INDEX)?;
    let mut index: Map<String, Value> = parse(checkpoint, INDEX, &index)?;
    index.remove(Component::ControlNet.folder());
    write_text(&folder.join(INDEX), &text(&index.into()))?;
    Ok(noise)
}

/// Refuses files of weights that would be next to those that are written, and be taken for them: of a run
/// that was interrupted and had other options. `copied` are the names of a component that is copied.
fn check_others(
    component: Component,
    folder: &Path,
    copied: Option<Vec<String>>,
) -> Result<(), PipelineError> {
    let Some(stem) = component.weights_stem() else {
        return Ok(());
    };
    let part = folder.join(component.folder());
    let written = copied.unwrap_or_else(|| vec![format!("{stem}.safetensors")]);
    let found = file_names(&part).into_iter();
    let mut others = found.filter(|name| name.starts_with(stem) && !written.contains(name));
    match others.next() {
        Some(name) => Err(PipelineError::Checkpoint(CheckpointError::WeightsExist {
            path: part.join(name),
        })),
        None => Ok(()),
    }
}

/// Weights and config of a component.
fn write(
    checkpoint: &Checkpoint,
    component: Component,
    plan: &QuantizePlan<'_>,
    rank: Option<usize>,
    folder: &Path,
    device: &Device,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Vec<LayerNoise>, PipelineError> {
    let part = create_folder(folder, component)?;
    let stem = component.weights_stem().unwrap_or_default();
    let path = part.join(format!("{stem}.safetensors"));
    let take = |weight: Tensor<2>| low_rank(weight, rank.unwrap_or(1));
    let take = rank.is_some().then_some(&take as _);
    let noise = plan.write(take, &path, device, progress)?;
    let file = component.config_file();
    let mut config: Map<String, Value> = parse(checkpoint, file, &checkpoint.read(file)?)?;
    config.insert(CONFIG_KEY.to_owned(), plan.config(rank));
    if component == Component::Transformer && checkpoint.f16_clamp()? == F16Clamp::On {
        let [outer, clamp] = F16_CLAMP;
        config.insert(outer.to_owned(), json!({ clamp: true }));
    }
    write_text(&part.join(CONFIG), &text(&config.into()))?;
    Ok(noise)
}

fn parse(
    checkpoint: &Checkpoint,
    file: &str,
    bytes: &[u8],
) -> Result<Map<String, Value>, PipelineError> {
    serde_json::from_slice(bytes).map_err(|source| {
        PipelineError::Checkpoint(CheckpointError::Json {
            origin: checkpoint.name_of(file),
            source,
        })
    })
}

/// The nearest matrix of a rank to a weight, about: its projection onto the leading left singular
/// vectors, which randomised subspace iteration finds
/// ([Halko, Martinsson, Tropp 2011](https://doi.org/10.1137/090771806), algorithm 4.4).
///
/// # Shapes
/// - weight `[out, in]`
/// - `up` `[out, rank]` with orthonormal columns, `down` `[rank, in]`, in f32
fn low_rank(weight: Tensor<2>, rank: usize) -> LowRank {
    let weight = weight.cast(DType::F32);
    let [rows, inputs] = weight.dims();
    let rank = rank.min(rows).min(inputs);
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let start: Vec<f32> = match Uniform::new(-1.0f32, 1.0) {
        Ok(uniform) => uniform.sample_iter(&mut rng).take(inputs * rank).collect(),
        Err(_) => vec![1.0; inputs * rank],
    };
    let start = TensorData::new(start, [inputs, rank]);
    let start = Tensor::<2>::from_data(start, (&weight.device(), DType::F32));
    let mut up = orthonormal(weight.clone().matmul(start));
    for _ in 0..ROUNDS {
        let right = orthonormal(weight.clone().transpose().matmul(up));
        up = orthonormal(weight.clone().matmul(right));
    }
    let down = up.clone().transpose().matmul(weight);
    LowRank { down, up }
}

/// An orthonormal basis of the columns.
fn orthonormal(columns: Tensor<2>) -> Tensor<2> {
    let ([rows, rank], device) = (columns.dims(), columns.device());
    let values: Vec<f32> = columns.into_data().iter::<f32>().collect();
    let basis = DMatrix::from_row_slice(rows, rank, &values).qr().q();
    // Its storage is by columns.
    let values: Vec<f32> = basis.transpose().iter().copied().collect();
    let data = TensorData::new(values, [rows, rank]);
    Tensor::from_data(data, (&device, DType::F32))
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use super::*;

    /// The error is that of the singular values that are left out, as nalgebra finds them.
    #[test]
    fn the_low_rank_part_is_the_largest() {
        let (rows, inputs, rank) = (48, 30, 5);
        let value = |index: usize| {
            let (row, column) = ((index / inputs) as f32, (index % inputs) as f32);
            // Of full rank, and one direction dominates.
            let noise = (index * 7919 % 1009) as f32 / 1009.0 - 0.5;
            noise + 3.0 * (row * 0.11).cos() * (column * 0.2).sin()
        };
        let values: Vec<f32> = (0..rows * inputs).map(value).collect();
        let matrix = DMatrix::from_row_slice(rows, inputs, &values);
        let mut singular: Vec<f32> = matrix.singular_values().iter().copied().collect();
        singular.sort_by(|a, b| b.total_cmp(a));
        let best: f32 = singular[rank..].iter().map(|value| value * value).sum();

        let device = Device::flex();
        let weight = Tensor::<2>::from_data(TensorData::new(values, [rows, inputs]), &device);
        let LowRank { down, up } = low_rank(weight.clone(), rank);
        assert_eq!([up.dims(), down.dims()], [[rows, rank], [rank, inputs]]);
        let rest = weight.clone() - up.matmul(down);
        let error: f32 = (rest.clone() * rest).sum().into_scalar();
        assert!(error < 1.02 * best, "{error} instead of {best}");
        // More than there is.
        let all = low_rank(weight.clone(), 99);
        let rest = weight - all.up.matmul(all.down);
        let error: f32 = rest.abs().max().into_scalar();
        assert!(error < 1e-4, "{error}");
    }
}
