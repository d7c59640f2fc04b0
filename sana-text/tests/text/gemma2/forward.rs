//! States, in every dtype and with every placement of the table.

use burn::module::Param;
use burn::tensor::{DType, Device, Tensor};
use sana_linear_attn::parity::{
    Fixture, assert_close, assert_parity, device, fixture_path, tolerance,
};
use sana_linear_attn::precision::Bf16Gemm;
use sana_linear_attn::weights::parameter_shapes;
use sana_linear_attn::{KeyMap, Weights};
use sana_text::{EmbeddingPlacement, Gemma2Config, Gemma2LoadOptions, Gemma2Model};

use super::{
    Batch, batch, batch_of, compare, compare_with, folder_with, kept, load, on_device,
    text_encoder, values,
};
use crate::ROOT;

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
            let model = Gemma2Model::load(folder.path(), &options, &device)
                .unwrap()
                .with_bf16_gemm(Bf16Gemm::Widened);
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
