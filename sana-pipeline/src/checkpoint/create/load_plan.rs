//! What loading SANA-1.5 4.8B would do, from files of its real size that hold no data: sparse ones,
//! of which nothing but the headers is written or read.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use sana_linear_attn::LoadOptions as Options;
use sana_linear_attn::weights::check_module;
use sana_linear_attn::{WeightError, Weights};

use super::*;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::describe::MemoryNeed;
use crate::memory::MemoryPolicy;
use crate::pipeline::{LoadOptions, SanaPipeline};

const VARIANT: &str = "sana-1.5-4.8b";
const TRANSFORMER: u64 = 4_721_825_952;
const TEXT_ENCODER: u64 = 2_614_341_888;
const AUTOENCODER: u64 = 312_250_275;
/// Rows of the embedding table, which stays in its file.
const EMBEDDINGS: u64 = 256_000 * 2304;

/// A file with its header and, after it, a hole in place of the tensors.
fn write_hole(
    path: &Path,
    tensors: &[RandomTensor],
    dtype: WeightDtype,
) -> Result<(), PipelineError> {
    let header = header(tensors, dtype);
    let data: u64 = tensors.iter().map(|t| dtype.bytes(&t.shape)).sum();
    let written = File::create(path).and_then(|mut file| {
        file.write_all(&header)?;
        file.set_len(header.len() as u64 + data)
    });
    written.map_err(PipelineError::write(path))
}

/// The checkpoint, and the bytes of tensors in each file of its transformer.
fn checkpoint(variant: &str, folder: &Path, dtype: WeightDtype) -> (Checkpoint, Vec<u64>) {
    let variant = variants::find(variant).unwrap();
    let model = RandomModel::of(variant, &[("tokenizer.json", b"{}")]);
    let parts = model.parts(&Device::flex()).unwrap();
    let mut shards = Vec::new();
    model
        .write_files(folder, parts, dtype, 0, &mut |path, tensors| {
            if path.starts_with(folder.join("transformer")) {
                shards.push(tensors.iter().map(|t| dtype.bytes(&t.shape)).sum());
            }
            write_hole(path, tensors, dtype)
        })
        .unwrap();
    (Checkpoint::open(folder).unwrap(), shards)
}

fn weights(checkpoint: &Checkpoint) -> Weights {
    checkpoint.weights(Component::Transformer, None).unwrap()
}

#[test]
fn config_of_the_largest_model() {
    let config = variants::find(VARIANT).unwrap().transformer();
    config.validate().unwrap();
    assert_eq!((config.num_layers, config.width()), (60, 2240));
    assert!(config.qk_norm.is_some() && !config.guidance_embeds);
    let json = config_json(Component::Transformer, &config);
    let read = SanaTransformerConfig::from_json(&json, Path::new("config.json")).unwrap();
    assert_eq!(variants::recognize(&read).unwrap().name, VARIANT);
}

/// Names, shapes, shards and bytes in both dtypes, all components at once and one at a time.
// Elsewhere a hole of this size may take the space.
#[cfg(target_os = "linux")]
#[test]
fn the_largest_model_fits_its_files() {
    let device = Device::flex();
    for (dtype, size, files) in [(WeightDtype::Bf16, 2, 2), (WeightDtype::F32, 4, 4)] {
        let folder = tempfile::tempdir().unwrap();
        let (checkpoint, shards) = checkpoint(VARIANT, folder.path(), dtype);
        assert_eq!(shards.len(), files);
        assert_eq!(shards.iter().sum::<u64>(), size * TRANSFORMER);
        assert!(shards.iter().all(|bytes| *bytes <= SHARD_BYTES));

        let model = checkpoint.transformer_config().unwrap().init(&device);
        let weights = weights(&checkpoint);
        assert_eq!(weights.total_elements() as u64, TRANSFORMER);
        assert_eq!(weights.total_bytes() as u64, size * TRANSFORMER);
        check_module(&model, &weights, &Options::default()).unwrap();
        for (name, shape) in [
            ("patch_embed.proj.weight", &[2240, 32, 1, 1][..]),
            ("caption_projection.linear_1.weight", &[2240, 2304]),
            ("time_embed.linear.weight", &[6 * 2240, 2240]),
            ("transformer_blocks.59.attn1.norm_q.weight", &[2240]),
            ("transformer_blocks.59.attn2.to_k.weight", &[2240, 2240]),
            (
                "transformer_blocks.59.ff.conv_inverted.weight",
                &[11200, 2240, 1, 1],
            ),
            (
                "transformer_blocks.59.ff.conv_depth.weight",
                &[11200, 1, 3, 3],
            ),
            ("proj_out.weight", &[32, 2240]),
        ] {
            assert_eq!(weights.shape(name), Some(shape), "{name}");
        }

        let description = checkpoint.describe(None).unwrap();
        let all = TRANSFORMER + TEXT_ENCODER + AUTOENCODER;
        assert_eq!(description.parameters(), all);
        let need = |dtype, bytes| MemoryNeed {
            dtype,
            all_components: bytes * (all - EMBEDDINGS),
            one_stage: bytes * TRANSFORMER,
        };
        let needs = [need("f32", 4), need("bf16", 2), need("f16", 2)];
        assert_eq!(description.memory, needs);

        let options = LoadOptions {
            dtype: Some(DType::BF16),
            memory: MemoryPolicy::OneStageAtATime,
            ..LoadOptions::default()
        };
        let pipeline = SanaPipeline::from_checkpoint(checkpoint, options, &device).unwrap();
        assert!(pipeline.releases_stages());
        assert_eq!(pipeline.spec().defaults().size, [1024, 1024]);
        let parts = [
            Component::TextEncoder,
            Component::Transformer,
            Component::Vae,
        ];
        assert!(!parts.into_iter().any(|part| pipeline.is_loaded(part)));
    }
}

/// The estimates of docs/memory.md for an image of 1024 x 1024, in gigabytes: all components in memory,
/// one at a time, and that with decoding in tiles.
#[cfg(target_os = "linux")]
#[test]
fn quantized_models_fit_into_less() {
    for variant in ["sana-600m-1024px", "sana-1600m-1024px", VARIANT] {
        let folder = tempfile::tempdir().unwrap();
        let (checkpoint, _) = checkpoint(variant, folder.path(), WeightDtype::Bf16);
        let memory = checkpoint
            .describe_memory(None, Some([1024, 1024]))
            .unwrap();
        let needs: Vec<(&str, [f64; 3])> = memory
            .by_dtype
            .iter()
            .map(|need| {
                let bytes = [need.all_components, need.one_stage, need.one_stage_in_tiles];
                (need.dtype, bytes.map(|bytes| bytes as f64 / 1e9))
            })
            .collect();
        println!("{variant}: {needs:.2?}");
        let [_, bf16, int8, uint4, least] = needs[..] else {
            panic!("{needs:?}")
        };
        assert!(least.1[0] < uint4.1[0] && uint4.1[0] < int8.1[0] && int8.1[0] < bf16.1[0]);
        match variant {
            "sana-1600m-1024px" => assert!(int8.1[0] <= 7.2 && least.1[0] <= 5.6, "{needs:?}"),
            VARIANT => assert!(uint4.1[1] < 8.0, "{needs:?}"),
            _ => {}
        }
    }
}

/// Files of a model of another depth do not pass as those of this one.
#[cfg(target_os = "linux")]
#[test]
fn other_files_do_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let (checkpoint, _) = checkpoint(VARIANT, folder.path(), WeightDtype::Bf16);
    let config = SanaTransformerConfig::sana_1_5_1600m();
    let error = check_module(
        &config.init(&Device::flex()),
        &weights(&checkpoint),
        &Options::default(),
    );
    let Err(WeightError::Mismatch {
        missing,
        unexpected,
        misshapen,
        ..
    }) = error
    else {
        panic!("{error:?}")
    };
    assert!(missing.is_empty() && misshapen.is_empty());
    let blocks: std::collections::BTreeSet<&str> = unexpected
        .iter()
        .filter_map(|name| name.split('.').nth(1))
        .collect();
    assert_eq!(blocks.len(), 40);
    assert!(
        unexpected
            .iter()
            .all(|name| name.starts_with("transformer_blocks."))
    );
}
