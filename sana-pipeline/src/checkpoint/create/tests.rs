use crate::error::CheckpointError;
use std::path::PathBuf;

use sana_linear_attn::Weights;
use sana_linear_attn::precision::Bf16Gemm;
use tempfile::TempDir;

use super::random::{CHUNK, DEVIATION};
use super::*;
use crate::checkpoint::Checkpoint;
use crate::pipeline::StepAction;
use crate::pipeline::{LoadOptions, SanaPipeline};
use crate::request::Request;

/// A fixture of this crate, whatever `SANA_FIXTURES` names: sizes of it stand in these tests.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/pipeline")
        .join(name)
}

/// A model of the fixtures' size.
fn tiny(sprint: bool) -> RandomModel<'static> {
    let name = if sprint { "sprint" } else { "sana" };
    let checkpoint = Checkpoint::open(&fixture(name)).unwrap();
    RandomModel {
        name: "tiny",
        transformer: checkpoint.transformer_config().unwrap(),
        autoencoder: checkpoint.vae_config().unwrap(),
        text_encoder: checkpoint.text_config().unwrap(),
        scheduler: checkpoint.scheduler().unwrap(),
        tokenizer: &[],
        shard_bytes: SHARD_BYTES,
    }
}

fn tokenizer() -> Vec<u8> {
    fs::read(fixture("sana/tokenizer/tokenizer.json")).unwrap()
}

fn written(model: &RandomModel<'_>, dtype: DType, seed: u64) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut calls = Vec::new();
    model
        .write(
            folder.path(),
            dtype,
            seed,
            &Device::flex(),
            &mut |done, all| {
                calls.push((done, all));
            },
        )
        .unwrap();
    assert!(calls.windows(2).all(|pair| pair[0].0 < pair[1].0));
    let (done, all) = calls[calls.len() - 1];
    assert_eq!(done, all);
    folder
}

#[test]
fn random_checkpoints_run_and_stay_finite() {
    let tokenizer = tokenizer();
    for sprint in [false, true] {
        let model = RandomModel {
            tokenizer: &[("tokenizer.json", &tokenizer)],
            ..tiny(sprint)
        };
        for dtype in [DType::BF16, DType::F16, DType::F32] {
            let folder = written(&model, dtype, 1);
            let mut pipeline = SanaPipeline::load(folder.path(), &Device::flex()).unwrap();
            let request = Request::new("a red circle").size(64, 32).steps(2);
            let generation = pipeline
                .generate(&request, &mut |_| StepAction::Continue)
                .unwrap();
            let image = generation.images[0].as_raw();
            assert!(image.iter().any(|value| *value != image[0]));
        }
    }
}

/// On the CPU a 16-bit checkpoint makes the same image with its weights kept in 16 bits as with
/// all of them widened when they are loaded.
#[test]
fn weights_kept_in_16_bits_change_no_pixel() {
    let tokenizer = tokenizer();
    let model = RandomModel {
        tokenizer: &[("tokenizer.json", &tokenizer)],
        ..tiny(false)
    };
    for dtype in [DType::BF16, DType::F16] {
        let folder = written(&model, dtype, 1);
        let image = |dtype| {
            let options = LoadOptions {
                dtype,
                bf16_gemm: Bf16Gemm::Widened,
                ..LoadOptions::default()
            };
            let checkpoint = Checkpoint::open(folder.path()).unwrap();
            let mut pipeline =
                SanaPipeline::from_checkpoint(checkpoint, options, &Device::flex()).unwrap();
            let request = Request::new("a red circle").size(64, 32).steps(2);
            let generation = pipeline.generate(&request, &mut |_| StepAction::Continue);
            let in_memory = pipeline.transformer().unwrap().dtype();
            (in_memory, generation.unwrap().images)
        };
        let (kept, ours) = image(Some(dtype));
        let (widened, expected) = image(None);
        assert_eq!((kept, widened), (dtype, DType::F32));
        assert_eq!(ours, expected);
    }
}

/// What [`write_checkpoint`] writes, but for the size of its networks: the tokenizer of the built-in
/// checkpoint next to a text encoder with more rows than it has tokens.
#[cfg(feature = "scenes-model")]
#[test]
fn the_built_in_tokenizer_is_carried() {
    const ROWS: usize = 700;
    let tokenizer = built_in_tokenizer().unwrap();
    let released = RandomModel::of(variants::find("sana-600m-512px").unwrap(), &tokenizer);
    assert_eq!(released.text_encoder.vocab_size, 256_000);
    let tiny = tiny(false);
    let model = RandomModel {
        transformer: tiny.transformer,
        autoencoder: tiny.autoencoder,
        text_encoder: Gemma2Config {
            vocab_size: ROWS,
            ..tiny.text_encoder
        },
        ..released
    };
    let folder = written(&model, DType::BF16, 2);

    let files = ["tokenizer.json", "tokenizer_config.json"];
    assert!(tokenizer.iter().map(|(name, _)| *name).eq(files));
    for (name, bytes) in &tokenizer {
        let file = folder.path().join("tokenizer").join(name);
        assert_eq!(fs::read(file).unwrap(), *bytes, "{name}");
    }
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert!(checkpoint.tokenizer().unwrap().vocab_size() < ROWS);
    assert_eq!(checkpoint.text_config().unwrap().vocab_size, ROWS);
    let weights = checkpoint.weights(Component::TextEncoder, None).unwrap();
    assert_eq!(weights.shape("embed_tokens.weight"), Some(&[ROWS, 48][..]));

    let mut pipeline = SanaPipeline::load(folder.path(), &Device::flex()).unwrap();
    let request = Request::new("a red circle").size(64, 32).steps(1);
    let conditioning = pipeline.encode_prompt(&request).unwrap();
    assert_eq!(conditioning.prompt.embeds.dims(), [1, 300, 48]);
}

#[test]
fn the_seed_decides() {
    let weights = |seed| {
        let folder = written(&tiny(false), DType::BF16, seed);
        fs::read(
            folder
                .path()
                .join("vae/diffusion_pytorch_model.safetensors"),
        )
        .unwrap()
    };
    assert_eq!(weights(1), weights(1));
    assert_ne!(weights(1), weights(2));
}

#[test]
fn values_have_the_promised_scale() {
    let folder = written(&tiny(false), DType::F32, 3);
    let open =
        |part: &str, stem| Weights::open_folder(&folder.path().join(part), stem, None).unwrap();
    let values = |weights: &Weights, name: &str| -> Vec<f64> {
        let bytes = weights.bytes(name).unwrap();
        let (elements, _) = bytes.as_chunks::<4>();
        elements
            .iter()
            .map(|b| f32::from_le_bytes(*b).into())
            .collect()
    };
    let transformer = open("transformer", "diffusion_pytorch_model");
    let weights = values(&transformer, "transformer_blocks.0.ff.conv_inverted.weight");
    let mean = weights.iter().sum::<f64>() / weights.len() as f64;
    let deviation = (weights.iter().map(|w| w * w).sum::<f64>() / weights.len() as f64).sqrt();
    assert!(mean.abs() < 1e-3, "{mean}");
    assert!((deviation / DEVIATION - 1.0).abs() < 0.03, "{deviation}");
    assert!(
        values(&transformer, "caption_norm.weight")
            .iter()
            .all(|w| *w == 1.0)
    );
    assert!(
        values(&transformer, "proj_out.bias")
            .iter()
            .all(|w| *w == 0.0)
    );
    let text = open("text_encoder", "model");
    assert!(values(&text, "norm.weight").iter().all(|w| *w == 0.0));
}

/// Chunks are independent of each other, so threads do not matter.
#[test]
fn a_tensor_of_many_chunks_equals_its_chunks() {
    let shape = vec![3, CHUNK + 5];
    let tensor = RandomTensor::new(Component::Vae, "w".to_owned(), shape, 9, 4);
    let mut bytes = Vec::new();
    tensor
        .write(&mut bytes, WeightDtype::Bf16, &mut |_| {})
        .unwrap();
    assert_eq!(bytes.len(), 2 * 3 * (CHUNK + 5));
    assert_eq!(
        bytes[2 * CHUNK..4 * CHUNK],
        tensor.chunk(1, CHUNK, WeightDtype::Bf16)
    );
    assert_eq!(bytes[6 * CHUNK..], tensor.chunk(3, 15, WeightDtype::Bf16));
}

#[test]
fn large_parts_are_written_as_shards() {
    let tokenizer = tokenizer();
    let sharded = RandomModel {
        shard_bytes: 100_000,
        tokenizer: &[("tokenizer.json", &tokenizer)],
        ..tiny(false)
    };
    let folder = written(&sharded, DType::BF16, 5);
    for (part, stem) in [
        ("transformer", "diffusion_pytorch_model"),
        ("text_encoder", "model"),
    ] {
        let part = folder.path().join(part);
        assert!(
            part.join(format!("{stem}.safetensors.index.json"))
                .is_file()
        );
        let shards: Vec<_> = part
            .read_dir()
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| {
                entry
                    .file_name()
                    .to_string_lossy()
                    .ends_with(".safetensors")
            })
            .collect();
        assert!(shards.len() > 1);
        // Headers come on top; the largest tensor may be larger than a shard.
        let embeddings = 2 * 525 * 48;
        assert!(
            shards
                .iter()
                .all(|shard| shard.metadata().unwrap().len() < 120_000 + embeddings)
        );
    }
    let whole = written(&tiny(false), DType::BF16, 5);
    let open = |folder: &TempDir| {
        let folder = folder.path().join("transformer");
        Weights::open_folder(&folder, "diffusion_pytorch_model", None).unwrap()
    };
    let (sharded, whole) = (open(&folder), open(&whole));
    assert!(sharded.names().eq(whole.names()));
    assert!(
        sharded
            .names()
            .all(|name| sharded.bytes(name) == whole.bytes(name))
    );
    SanaPipeline::load(folder.path(), &Device::flex())
        .unwrap()
        .transformer()
        .unwrap();
}

/// The numbers of parameters of the released models, from the shapes that would be written.
#[test]
fn released_sizes() {
    let device = Device::flex();
    let count = |shapes: Vec<(String, Vec<usize>)>| -> usize {
        shapes
            .iter()
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum()
    };
    let expected = [
        ("sana-600m-512px", 591_747_872),
        ("sana-600m-1024px", 591_747_872),
        ("sana-1600m-512px", 1_604_462_752),
        ("sana-1600m-1024px", 1_604_462_752),
        ("sana-1600m-2kpx", 1_604_462_752),
        ("sana-1600m-4kpx", 1_604_462_752),
        ("sana-1.5-1.6b", 1_604_641_952),
        ("sana-1.5-4.8b", 4_721_825_952),
        ("sana-sprint-0.6b", 593_501_216),
        ("sana-sprint-1.6b", 1_610_237_472),
    ];
    assert_eq!(expected.map(|(name, _)| name).to_vec(), variants::names());
    for (name, parameters) in expected {
        let transformer = variants::find(name).unwrap().transformer().init(&device);
        let shapes = parameter_shapes(&transformer, KeyMap::default());
        assert_eq!(count(shapes), parameters, "{name}");
    }
    let variant = variants::find("sana-1600m-512px").unwrap();
    let text = variant.text_encoder().init(&device).unwrap();
    assert_eq!(
        count(parameter_shapes(&text, KeyMap::default())),
        2_614_341_888
    );
    let autoencoder = variant.autoencoder().init(&device);
    assert_eq!(
        count(parameter_shapes(&autoencoder, KeyMap::default())),
        312_250_275
    );
}

#[test]
fn what_cannot_be_written() {
    let device = Device::flex();
    let write = |model: &RandomModel<'_>, folder: &Path, dtype| {
        model.write(folder, dtype, 0, &device, &mut |_, _| {})
    };
    let folder = written(&tiny(false), DType::BF16, 0);
    let error = write(&tiny(false), folder.path(), DType::BF16).unwrap_err();
    assert!(matches!(
        error,
        PipelineError::Checkpoint(CheckpointError::Exists { .. })
    ));

    let empty = tempfile::tempdir().unwrap();
    let error = write(&tiny(false), empty.path(), DType::I64).unwrap_err();
    assert!(matches!(
        error,
        PipelineError::Checkpoint(CheckpointError::WeightDtype { .. })
    ));
    assert!(error.to_string().contains("i64"), "{error}");

    // A file is where the autoencoder's folder goes: no index, so no checkpoint.
    fs::write(empty.path().join("vae"), "").unwrap();
    let error = write(&tiny(false), empty.path(), DType::BF16).unwrap_err();
    assert!(matches!(error, PipelineError::Write { .. }));
    assert!(matches!(
        Checkpoint::open(empty.path()),
        Err(PipelineError::Checkpoint(
            CheckpointError::NotCheckpoint { .. }
        ))
    ));
}

#[test]
fn unknown_variants_and_a_missing_tokenizer() {
    let folder = tempfile::tempdir().unwrap();
    let write = |variant| {
        let device = Device::flex();
        write_checkpoint(
            variant,
            folder.path(),
            DType::BF16,
            0,
            &device,
            &mut |_, _| {},
        )
    };
    assert!(matches!(
        write("sana-9b"),
        Err(PipelineError::Checkpoint(
            CheckpointError::UnknownVariant { .. }
        ))
    ));
    if cfg!(not(feature = "scenes-model")) {
        let error = write("sana-600m-512px").unwrap_err();
        assert!(matches!(
            error,
            PipelineError::Checkpoint(CheckpointError::NoBuiltIn { .. })
        ));
        assert!(error.to_string().contains("scenes-model"), "{error}");
    }
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
}
