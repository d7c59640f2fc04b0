//! The decoder stack against the reference, its loading and its training.

use sana_linear_attn::precision::set_bf16_products;
use std::path::{Path, PathBuf};

use burn::module::Param;
use burn::tensor::{DType, Device, Tensor, TensorData};
use sana_linear_attn::parity::{
    Fixture, assert_close, assert_parity, built_in_fixture_path, device, fixture_path, tolerance,
};
use sana_linear_attn::weights::{parameter_shapes, write_tensors};
use sana_linear_attn::{KeyMap, SaveOptions, WeightError, Weights, save_module};
use sana_text::{EmbeddingPlacement, Gemma2Config, Gemma2LoadOptions, Gemma2Model, TextError};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn on_device() -> Gemma2LoadOptions {
    Gemma2LoadOptions {
        embedding: EmbeddingPlacement::Device,
        ..Default::default()
    }
}

/// The crate's own checkpoint, whatever `SANA_FIXTURES` names: its tokens, bounds of half
/// precision and names of tensors stand in these tests.
fn text_encoder() -> PathBuf {
    built_in_fixture_path(ROOT, "text/text_encoder")
}

fn load(options: &Gemma2LoadOptions) -> Gemma2Model {
    Gemma2Model::load(&text_encoder(), options, &device()).unwrap()
}

struct Batch {
    io: Fixture,
    ids: Vec<Vec<u32>>,
    mask: Tensor<2>,
}

/// What the reference makes with the crate's own checkpoint.
fn batch() -> Batch {
    batch_of(Fixture::at(&built_in_fixture_path(
        ROOT,
        "text/io.safetensors",
    )))
}

fn batch_of(io: Fixture) -> Batch {
    let tokens = io.shape("input_ids")[1];
    let ids: Vec<u32> = io
        .values("input_ids")
        .into_iter()
        .map(|id| id as u32)
        .collect();
    let ids = ids.chunks(tokens).map(<[u32]>::to_vec).collect();
    let mask = io.tensor::<2>("attention_mask", &device());
    Batch { io, ids, mask }
}

/// The rows that the mask keeps; the rest becomes zero.
fn kept(states: Tensor<3>, mask: &Tensor<2>) -> Tensor<3> {
    states * mask.clone().unsqueeze_dim::<3>(2)
}

fn values(tensor: Tensor<3>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_into_vec().unwrap()
}

fn compare(model: &Gemma2Model, name: &str) {
    compare_with(&batch(), model, name);
}

fn compare_with(batch: &Batch, model: &Gemma2Model, name: &str) {
    let Batch { io, ids, mask } = batch;
    let states = model.hidden_states(model.embed(ids).unwrap(), mask.clone());
    assert_eq!(states.len(), model.config().num_hidden_layers + 1);
    for (index, state) in states.into_iter().enumerate() {
        let expected = io.tensor::<3>(&format!("hidden_state_{index}"), &device());
        let name = format!("{name}: hidden state {index}");
        assert_parity(&name, kept(state, mask), kept(expected, mask));
    }
    let last = model.forward_ids(ids, mask.clone()).unwrap();
    let expected = io.tensor::<3>("last_hidden_state", &device());
    assert_parity(
        &format!("{name}: last"),
        kept(last, mask),
        kept(expected, mask),
    );
}

#[test]
fn hidden_states_equal_the_reference() {
    let folder = fixture_path(ROOT, "text/text_encoder");
    let batch = batch_of(Fixture::open(ROOT, "text/io.safetensors"));
    let load = |options| Gemma2Model::load(&folder, &options, &device()).unwrap();
    let model = load(Gemma2LoadOptions::default());
    compare_with(&batch, &model, "table on the host");
    compare_with(&batch, &load(on_device()), "table on the device");
    let trainable = model.into_trainable().unwrap();
    compare_with(&batch, &trainable, "table made a parameter");
}

/// By one in a hundred on the CPU, by as much more elsewhere as the bound is wider.
#[test]
#[should_panic(expected = "differs by")]
fn a_perturbed_weight_is_seen() {
    let off = 100.0 * tolerance();
    let mut model = load(&Gemma2LoadOptions::default());
    let norm = &mut model.layers[1].post_attention_layernorm;
    norm.weight = Param::from_tensor(norm.weight.val() * (1.0 + off) + off);
    compare(&model, "perturbed");
}

#[test]
fn padding_and_batch_change_nothing() {
    let model = load(&Gemma2LoadOptions::default());
    let Batch { ids, mask, .. } = batch();
    let together = model.forward_ids(&ids, mask.clone()).unwrap();
    let lengths: Vec<f32> = mask.sum_dim(1).into_data().try_into_vec().unwrap();
    for (row, length) in lengths.into_iter().enumerate() {
        let length = length as usize;
        let alone = model
            .forward_ids(&[&ids[row][..length]], Tensor::ones([1, length], &device()))
            .unwrap();
        let same = together.clone().narrow(0, row, 1).narrow(1, 0, length);
        assert_parity("alone", alone, same);
    }
}

#[test]
fn left_padding_stays_finite() {
    let model = load(&Gemma2LoadOptions::default());
    let ids = [[0u32, 0, 2, 300]];
    let mask = Tensor::<2>::from_data([[0.0, 0.0, 1.0, 1.0]], &device());
    let states = values(model.forward_ids(&ids, mask).unwrap());
    assert!(states.iter().all(|value| value.is_finite()));
}

#[test]
fn one_token() {
    let model = load(&Gemma2LoadOptions::default());
    let state = model
        .forward_ids(&[[2u32]], Tensor::ones([1, 1], &device()))
        .unwrap();
    assert_eq!(state.dims(), [1, 1, model.config().hidden_size]);
    assert!(values(state).iter().all(|value| value.is_finite()));
}

/// bf16 keeps 8 bits of mantissa; after four layers the last state was seen 1.6e-2 of its largest
/// magnitude away from the f32 reference. Bound: 4e-2.
#[test]
fn bf16_stays_near() {
    if !device().supports_dtype(DType::BF16) {
        return;
    }
    let Batch { io, ids, mask } = batch();
    for embedding in [EmbeddingPlacement::Host, EmbeddingPlacement::Device] {
        let options = Gemma2LoadOptions {
            dtype: Some(DType::BF16),
            embedding,
            ..Default::default()
        };
        let model = load(&options).with_compute_dtype(DType::BF16);
        assert_eq!(model.dtype(), DType::BF16);
        let last = model.forward_ids(&ids, mask.clone()).unwrap();
        assert_eq!(last.dtype(), DType::BF16);
        let last = kept(last.cast(DType::F32), &mask);
        let expected = kept(io.tensor("last_hidden_state", &device()), &mask);
        assert_close("bf16", &values(last), &values(expected), 4e-2);
    }
}

#[test]
fn host_and_device_tables_give_the_same_bf16_embeddings() {
    if !device().supports_dtype(DType::BF16) {
        return;
    }
    let ids = batch().ids;
    for compute in [DType::BF16, DType::F32] {
        let embed = |embedding| {
            let dtype = Some(DType::BF16);
            let model = load(&Gemma2LoadOptions {
                dtype,
                embedding,
                ..Default::default()
            });
            let embeds = model.with_compute_dtype(compute).embed(&ids).unwrap();
            assert_eq!(embeds.dtype(), compute);
            values(embeds)
        };
        assert_eq!(
            embed(EmbeddingPlacement::Host),
            embed(EmbeddingPlacement::Device)
        );
    }
}

/// On the CPU 16-bit weights are computed with in f32: what f32 weights of the same values give,
/// bit for bit, with the table on either side.
#[test]
fn half_weights_are_widened_on_the_cpu() {
    set_bf16_products(false); // else bf16 weights are multiplied as they are where the CPU can
    let device = Device::flex();
    let Batch { ids, mask, .. } = batch();
    let mask = Tensor::<2>::from_data(mask.into_data(), &device);
    for half in [DType::BF16, DType::F16] {
        let folder = folder_with(|tensors| {
            for (_, data) in tensors.iter_mut() {
                *data = data.clone().convert_dtype(half);
            }
        });
        let run = |dtype, embedding| {
            let options = Gemma2LoadOptions {
                dtype,
                embedding,
                ..Default::default()
            };
            let model = Gemma2Model::load(folder.path(), &options, &device).unwrap();
            assert_eq!(model.dtype(), dtype.unwrap_or(half));
            assert_eq!(model.compute_dtype(), DType::F32);
            let last = model.forward_ids(&ids, mask.clone()).unwrap();
            assert_eq!(last.dtype(), DType::F32);
            values(last)
        };
        let expected = run(Some(DType::F32), EmbeddingPlacement::Host);
        for embedding in [EmbeddingPlacement::Host, EmbeddingPlacement::Device] {
            assert!(run(None, embedding) == expected, "{half:?} {embedding:?}");
        }
    }
}

#[test]
fn lazy_preset_has_the_published_parameters() {
    let config = Gemma2Config::gemma_2_2b();
    let model = config.init(&device()).unwrap();
    let shapes = parameter_shapes(&model, KeyMap::default());
    let count: usize = shapes
        .iter()
        .map(|(_, shape)| shape.iter().product::<usize>())
        .sum();
    assert_eq!(count, 2_614_341_888);
    assert_eq!(count, config.parameter_count());
    assert!(shapes.contains(&("embed_tokens.weight".to_owned(), vec![256_000, 2304])));
}

#[test]
fn parameters_bear_the_names_of_the_checkpoint() {
    let weights = Weights::open_folder(&text_encoder(), "model", None).unwrap();
    let mut ours = parameter_shapes(&load(&on_device()), KeyMap::default());
    ours.sort();
    let theirs: Vec<(String, Vec<usize>)> = weights
        .names()
        .map(|name| (name.to_owned(), weights.shape(name).unwrap().to_vec()))
        .collect();
    assert_eq!(ours, theirs);
}

/// Writes a copy of the fixture's folder with other tensors.
fn folder_with(change: impl FnOnce(&mut Vec<(String, TensorData)>)) -> tempfile::TempDir {
    let source = text_encoder();
    let weights = Weights::open_folder(&source, "model", None).unwrap();
    let mut tensors: Vec<(String, TensorData)> = weights
        .names()
        .map(|name| {
            let shape = weights.shape(name).unwrap().to_vec();
            let bytes = weights.bytes(name).unwrap().to_vec();
            (
                name.to_owned(),
                TensorData::from_bytes_vec(bytes, shape, DType::F32),
            )
        })
        .collect();
    change(&mut tensors);
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(
        source.join("config.json"),
        folder.path().join("config.json"),
    )
    .unwrap();
    write_tensors(&folder.path().join("model.safetensors"), tensors).unwrap();
    folder
}

fn load_from(folder: &Path) -> Result<Gemma2Model, TextError> {
    Gemma2Model::load(folder, &Gemma2LoadOptions::default(), &device())
}

#[test]
fn whole_language_model_loads() {
    let folder = folder_with(|tensors| {
        for (name, _) in tensors.iter_mut() {
            *name = format!("model.{name}");
        }
        let head = tensors
            .iter()
            .find(|(name, _)| name.ends_with("embed_tokens.weight"));
        tensors.push(("lm_head.weight".to_owned(), head.unwrap().1.clone()));
    });
    compare(&load_from(folder.path()).unwrap(), "model. prefix, host");
    let model = Gemma2Model::load(folder.path(), &on_device(), &device()).unwrap();
    compare(&model, "model. prefix, device");
}

#[test]
fn mixed_dtypes_become_the_one_of_the_table() {
    let folder = folder_with(|tensors| {
        for (name, data) in tensors.iter_mut() {
            if name.contains("norm") {
                *data = data.clone().convert_dtype(DType::F16);
            }
        }
    });
    let model = load_from(folder.path()).unwrap();
    assert_eq!(model.dtype(), DType::F32);
    assert_eq!(model.layers[0].mlp.up_proj.weight.val().dtype(), DType::F32);
    let state = model
        .forward_ids(&[[2u32, 300]], Tensor::ones([1, 2], &device()))
        .unwrap();
    assert!(values(state).iter().all(|value| value.is_finite()));
}

#[test]
fn shards_and_variants_load() {
    let whole = folder_with(|_| ());
    let folder = tempfile::tempdir().unwrap();
    let copy = |from: &str, to: &str| {
        std::fs::copy(whole.path().join(from), folder.path().join(to)).unwrap();
    };
    copy("config.json", "config.json");
    copy("model.safetensors", "model.fp16.safetensors");
    let options = Gemma2LoadOptions {
        variant: Some("fp16".to_owned()),
        ..Default::default()
    };
    compare(
        &Gemma2Model::load(folder.path(), &options, &device()).unwrap(),
        "variant",
    );
    std::fs::remove_file(folder.path().join("model.fp16.safetensors")).unwrap();

    let mut map = serde_json::Map::new();
    for (shard, is_embedding) in [
        ("model-1.safetensors", true),
        ("model-2.safetensors", false),
    ] {
        let part = folder_with(|tensors| {
            tensors.retain(|(name, _)| name.starts_with("embed_tokens") == is_embedding);
            for (name, _) in tensors {
                map.insert(name.clone(), shard.into());
            }
        });
        let from = part.path().join("model.safetensors");
        std::fs::copy(from, folder.path().join(shard)).unwrap();
    }
    let index = serde_json::json!({ "weight_map": map }).to_string();
    std::fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
    compare(&load_from(folder.path()).unwrap(), "shards");
}

#[test]
fn saved_model_is_a_whole_checkpoint() {
    let model = load(&Gemma2LoadOptions::default())
        .into_trainable()
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), model.config().to_json()).unwrap();
    let file = folder.path().join("model.safetensors");
    save_module(&model, &file, &SaveOptions::default()).unwrap();
    let weights = Weights::open_file(&file).unwrap();
    assert_eq!(weights.total_elements(), model.config().parameter_count());
    compare(&load_from(folder.path()).unwrap(), "saved and loaded");
}

#[test]
fn unusable_folders() {
    let folder = tempfile::tempdir().unwrap();
    let error = load_from(folder.path()).unwrap_err();
    assert!(matches!(error, TextError::Io { .. }), "{error}");
    assert!(error.to_string().contains("config.json"), "{error}");

    std::fs::write(folder.path().join("config.json"), "{\"vocab_size\": []}").unwrap();
    let error = load_from(folder.path()).unwrap_err();
    assert!(matches!(error, TextError::ConfigSyntax { .. }), "{error}");

    std::fs::write(folder.path().join("config.json"), "{\"head_dim\": 3}").unwrap();
    let error = load_from(folder.path()).unwrap_err();
    assert!(matches!(error, TextError::Config { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains(&folder.path().display().to_string()),
        "{error}"
    );

    std::fs::write(folder.path().join("config.json"), "{}").unwrap();
    let error = load_from(folder.path()).unwrap_err();
    assert!(
        matches!(error, TextError::Weights(WeightError::NoWeights { .. })),
        "{error}"
    );
}

#[test]
fn weights_that_do_not_fit() {
    let folder = folder_with(|tensors| {
        tensors.retain(|(name, _)| name != "layers.1.mlp.up_proj.weight");
        tensors.push(("surplus".to_owned(), TensorData::from([1.0f32])));
    });
    let error = load_from(folder.path()).unwrap_err().to_string();
    assert!(error.contains("layers.1.mlp.up_proj.weight"), "{error}");
    assert!(error.contains("surplus"), "{error}");

    let folder = folder_with(|tensors| tensors.retain(|(name, _)| !name.contains("embed")));
    let error = load_from(folder.path()).unwrap_err();
    assert!(
        matches!(error, TextError::Weights(WeightError::NoTensor { .. })),
        "{error}"
    );

    let folder = folder_with(|tensors| {
        let table = tensors
            .iter_mut()
            .find(|(name, _)| name.contains("embed"))
            .unwrap();
        table.1 = TensorData::from([[1.0f32, 2.0]]);
    });
    let error = load_from(folder.path()).unwrap_err();
    assert!(matches!(error, TextError::EmbeddingShape { .. }), "{error}");

    let folder = folder_with(|_| ());
    let file = folder.path().join("model.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    for cut in [0, 7, 100, bytes.len() - 1] {
        std::fs::write(&file, &bytes[..cut]).unwrap();
        let error = load_from(folder.path()).unwrap_err();
        assert!(matches!(error, TextError::Weights(_)), "{cut}: {error}");
    }
}

#[test]
fn unusable_input() {
    let mut model = load(&on_device());
    let refused = |model: &Gemma2Model, ids: &[Vec<u32>]| model.embed(ids).unwrap_err();
    assert!(matches!(refused(&model, &[]), TextError::EmptyBatch));
    assert!(matches!(refused(&model, &[vec![]]), TextError::EmptyBatch));
    assert!(matches!(
        refused(&model, &[vec![1, 2], vec![3]]),
        TextError::RaggedBatch {
            row: 1,
            expected: 2,
            found: 1
        }
    ));
    let vocab_size = model.config().vocab_size;
    let outside = refused(&model, &[vec![vocab_size as u32]]);
    assert!(
        matches!(outside, TextError::TokenOutOfRange { .. }),
        "{outside}"
    );

    model.embed_tokens = None;
    assert!(matches!(
        refused(&model, &[vec![1]]),
        TextError::NoEmbedding
    ));
    assert!(matches!(
        model.into_trainable().unwrap_err(),
        TextError::NoEmbedding
    ));

    let options = Gemma2LoadOptions {
        dtype: Some(DType::I32),
        ..Default::default()
    };
    let error = Gemma2Model::load(&text_encoder(), &options, &device()).unwrap_err();
    assert!(
        matches!(error, TextError::Dtype { found: DType::I32 }),
        "{error}"
    );
}

fn tiny() -> Gemma2Config {
    Gemma2Config {
        vocab_size: 11,
        hidden_size: 6,
        intermediate_size: 10,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 4,
        query_pre_attn_scalar: 4,
        sliding_window: Some(2),
        initializer_range: 0.4,
        attn_logit_softcapping: Some(2.0),
        ..Gemma2Config::gemma_2_2b()
    }
}

#[test]
fn seeded_models_are_equal() {
    let states = |seed| {
        let model = tiny().init_seeded(seed, &device()).unwrap();
        values(
            model
                .forward_ids(&[[2u32, 5, 7]], Tensor::ones([1, 3], &device()))
                .unwrap(),
        )
    };
    assert_eq!(states(1), states(1));
    assert_ne!(states(1), states(2));
    let refused = Gemma2Config {
        head_dim: 3,
        ..tiny()
    }
    .init_seeded(0, &device());
    assert!(matches!(refused.unwrap_err(), TextError::Config { .. }));
}

/// Sum of the last state's elements times fixed numbers, so that all of them count differently.
fn loss(model: &Gemma2Model, device: &Device) -> Tensor<1> {
    let ids = [[2u32, 5, 7, 5], [2, 9, 0, 0]];
    let mask = Tensor::<2>::from_data([[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 0.0, 0.0]], device);
    let last = kept(model.forward_ids(&ids, mask.clone()).unwrap(), &mask);
    let shape = last.dims();
    let weights: Vec<f32> = (0..shape.iter().product())
        .map(|i| (i as f32 * 0.9).sin())
        .collect();
    (last * Tensor::from_data(TensorData::new(weights, shape), device)).sum()
}

/// Gradients against central differences: for a step of 5e-3 in f32 both the rounding and the
/// third-order term stay below 1 % of the largest gradient.
#[test]
fn gradients_equal_differences() {
    let plain = device();
    let device = device().autodiff();
    let model = tiny().init_seeded(4, &device).unwrap();
    let gradients = loss(&model, &device).backward();

    type Pick = fn(&mut Gemma2Model) -> &mut Param<Tensor<2>>;
    let picks: [(&str, Pick); 6] = [
        ("embed_tokens", |m| {
            &mut m.embed_tokens.as_mut().unwrap().weight
        }),
        ("q_proj", |m| &mut m.layers[0].self_attn.q_proj.weight),
        ("k_proj", |m| &mut m.layers[1].self_attn.k_proj.weight),
        ("v_proj", |m| &mut m.layers[0].self_attn.v_proj.weight),
        ("gate_proj", |m| &mut m.layers[1].mlp.gate_proj.weight),
        ("down_proj", |m| &mut m.layers[0].mlp.down_proj.weight),
    ];
    for (name, pick) in picks {
        let weight = pick(&mut model.clone()).val();
        let gradient = weight
            .grad(&gradients)
            .unwrap_or_else(|| panic!("no gradient of {name}"));
        let gradient: Vec<f32> = gradient.into_data().try_into_vec().unwrap();
        let base = weight.into_data();
        let difference: Vec<f32> = (0..gradient.len())
            .map(|index| {
                let at = |step: f32| {
                    let mut moved = tiny().init_seeded(4, &plain).unwrap();
                    let mut values = base.clone().try_into_vec::<f32>().unwrap();
                    values[index] += step;
                    let data = TensorData::new(values, base.shape().clone());
                    *pick(&mut moved) = Param::from_tensor(Tensor::from_data(data, &plain));
                    f64::from(loss(&moved, &plain).into_scalar::<f32>())
                };
                ((at(5e-3) - at(-5e-3)) / 1e-2) as f32
            })
            .collect();
        assert!(
            gradient.iter().any(|value| value.abs() > 1e-3),
            "{name} has no gradient"
        );
        assert_close(name, &gradient, &difference, 100.0 * tolerance());
    }
    let norm = model.norm.weight.val().grad(&gradients);
    assert!(norm.is_some(), "no gradient of the norm");
}
