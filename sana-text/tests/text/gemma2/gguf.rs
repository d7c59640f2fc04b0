//! The encoder as a GGUF file of llama.cpp.

use burn::tensor::DType;
use sana_linear_attn::Weights;
use sana_linear_attn::parity::{GgufValue, assert_close, device, gemma2_gguf, gguf_file};
use sana_text::{EmbeddingTable, Gemma2Config, Gemma2LoadOptions, Gemma2Model, TextError};

use super::{batch, compare, kept, on_device, text_encoder, values};

fn config() -> Gemma2Config {
    Gemma2Config::from_file(&text_encoder().join("config.json")).unwrap()
}

fn weights() -> Weights {
    Weights::open_folder(&text_encoder(), "model", None).unwrap()
}

/// The metadata that says what the config does.
const METADATA: [(&str, GgufValue<'static>); 9] = [
    ("general.architecture", GgufValue::Text("gemma2")),
    ("gemma2.block_count", GgufValue::U32(4)),
    ("gemma2.embedding_length", GgufValue::U32(32)),
    ("gemma2.feed_forward_length", GgufValue::U32(64)),
    ("gemma2.attention.head_count", GgufValue::U32(4)),
    ("gemma2.attention.head_count_kv", GgufValue::U32(2)),
    (
        "gemma2.attention.layer_norm_rms_epsilon",
        GgufValue::F32(1e-6),
    ),
    ("gemma2.attention.sliding_window", GgufValue::U32(8)),
    ("gemma2.attn_logit_softcapping", GgufValue::F32(5.0)),
];

fn opened(metadata: &[(&str, GgufValue)], q8_0: bool) -> Weights {
    let (tensors, _) = gemma2_gguf(&weights(), q8_0);
    Weights::from_bytes("gemma.gguf", gguf_file(metadata, &tensors)).unwrap()
}

/// The states of the reference, from the table on the host and on the device.
#[test]
fn a_file_of_floats_is_the_same_encoder() {
    for options in [Gemma2LoadOptions::default(), on_device()] {
        let weights = opened(&METADATA, false);
        Gemma2Model::check_weights(&config(), &weights, &device()).unwrap();
        let model = Gemma2Model::from_weights(&config(), weights, &options, &device()).unwrap();
        compare(&model, "GGUF");
    }
}

/// Of 8 bits, rows of the table are read as they are asked for, and the states are near the reference.
#[test]
fn a_file_of_blocks_is_nearly_the_same_encoder() {
    let (_, stood_for) = gemma2_gguf(&weights(), true);
    let options = Gemma2LoadOptions {
        dtype: Some(DType::F32),
        ..Gemma2LoadOptions::default()
    };
    let weights = opened(&METADATA, true);
    assert_eq!(weights.dtypes()["q8_0"], 4 * 7 + 1);
    let model = Gemma2Model::from_weights(&config(), weights, &options, &device()).unwrap();
    let ours = model.layers[3].mlp.down_proj.weight.val().into_data();
    let name = "layers.3.mlp.down_proj.weight";
    let (_, expected) = stood_for.iter().find(|(found, _)| found == name).unwrap();
    assert_eq!(&ours.try_into_vec::<f32>().unwrap(), expected);
    let batch = batch();
    let last = model.forward_ids(&batch.ids, batch.mask.clone()).unwrap();
    let expected = batch.io.tensor::<3>("last_hidden_state", &device());
    let [last, expected] = [last, expected].map(|states| values(kept(states, &batch.mask)));
    assert_close("8 bits", &last, &expected, 0.05);
    // Nothing is asked of the dtype: enough for 8 bits.
    let model = Gemma2Model::from_weights(
        &config(),
        opened(&METADATA, true),
        &Gemma2LoadOptions::default(),
        &device(),
    );
    assert_eq!(model.unwrap().dtype(), DType::BF16);
}

#[test]
fn what_the_config_does_not_say_is_refused() {
    let refused = |metadata: &[(&str, GgufValue)]| {
        let weights = opened(metadata, false);
        let error = Gemma2Model::check_weights(&config(), &weights, &device()).unwrap_err();
        let loaded =
            Gemma2Model::from_weights(&config(), weights, &Gemma2LoadOptions::default(), &device());
        assert_eq!(loaded.unwrap_err().to_string(), error.to_string());
        assert!(matches!(error, TextError::Gguf { .. }), "{error}");
        error.to_string()
    };
    for (key, value, reason) in [
        (
            "general.architecture",
            GgufValue::Text("llama"),
            "\"llama\", expected \"gemma2\"",
        ),
        (
            "gemma2.block_count",
            GgufValue::U32(26),
            "block_count is 26, but the text encoder's config says 4",
        ),
        (
            "gemma2.attn_logit_softcapping",
            GgufValue::F32(50.0),
            "softcapping is 50",
        ),
        (
            "gemma2.embedding_length",
            GgufValue::Text("wide"),
            "is wide",
        ),
    ] {
        let metadata = METADATA.map(|(found, old)| (found, if found == key { value } else { old }));
        let error = refused(&metadata);
        assert!(
            error.contains(reason) && error.contains("gemma.gguf"),
            "{error}"
        );
    }
    let parts = [METADATA[0], ("split.count", GgufValue::U32(2))];
    assert!(refused(&parts).contains("llama-gguf-split --merge"));
    // Another size is a matter of the shapes where the metadata says nothing.
    let wide = Gemma2Config {
        intermediate_size: 96,
        ..config()
    };
    let weights = opened(&METADATA[..1], false);
    let error = Gemma2Model::check_weights(&wide, &weights, &device()).unwrap_err();
    assert!(error.to_string().contains("wrong shape"), "{error}");
}

#[test]
fn a_table_of_blocks_has_rows() {
    let (tensors, stood_for) = gemma2_gguf(&weights(), true);
    let file = gguf_file(&[], &tensors);
    let weights = Weights::from_bytes("gemma.gguf", file).unwrap();
    let renamed = weights.renamed(|name| (name.replace("token_embd", "embed_tokens"), 0.0));
    let table = EmbeddingTable::new(renamed.unwrap().into(), &config()).unwrap();
    let name = "embed_tokens.weight";
    let (_, expected) = stood_for.iter().find(|(found, _)| found == name).unwrap();
    let rows = table.rows(&[524, 0]).unwrap();
    assert_eq!(rows, [&expected[524 * 32..], &expected[..32]].concat());
    assert!(matches!(
        table.rows(&[525]),
        Err(TextError::TokenOutOfRange { id: 525, .. })
    ));
}

/// One is taken off the weights of norms, which can be done with floats only.
#[test]
fn norms_of_blocks_are_refused() {
    let (mut tensors, _) = gemma2_gguf(&weights(), false);
    let norm = tensors
        .iter_mut()
        .find(|(name, ..)| name == "blk.1.ffn_norm.weight");
    let (_, shape, kind, bytes) = norm.unwrap();
    assert_eq!(shape, &[32]);
    (*kind, *bytes) = (8, vec![1; 34]);
    let weights = Weights::from_bytes("gemma.gguf", gguf_file(&METADATA, &tensors)).unwrap();
    let error = Gemma2Model::check_weights(&config(), &weights, &device()).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("\"blk.1.ffn_norm.weight\" is stored as q8_0, expected f32"),
        "{error}"
    );
}
