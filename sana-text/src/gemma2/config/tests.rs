//! Both generations of the file, and what is refused.

use std::path::Path;

use super::*;

fn parse(json: &str) -> Result<Gemma2Config, TextError> {
    Gemma2Config::from_json("config.json", json.as_bytes())
}

fn message(json: &str) -> String {
    parse(json).expect_err(json).to_string()
}

#[test]
fn preset_has_the_published_parameter_count() {
    let config = Gemma2Config::gemma_2_2b();
    config.validate().unwrap();
    assert_eq!(config.parameter_count(), 2_614_341_888);
    assert_eq!(config.embedding_parameter_count(), 589_824_000);
}

#[test]
fn first_generation_of_the_file() {
    let config = parse(
        r#"{"architectures": ["Gemma2ForCausalLM"], "attention_bias": false,
            "attention_dropout": 0.0, "attn_logit_softcapping": 50.0, "bos_token_id": 2,
            "cache_implementation": "hybrid", "eos_token_id": [1, 107],
            "final_logit_softcapping": 30.0, "head_dim": 256,
            "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh",
            "hidden_size": 2304, "initializer_range": 0.02, "intermediate_size": 9216,
            "max_position_embeddings": 8192, "model_type": "gemma2",
            "num_attention_heads": 8, "num_hidden_layers": 26, "num_key_value_heads": 4,
            "pad_token_id": 0, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06,
            "rope_theta": 10000.0, "rope_scaling": null, "sliding_window": 4096,
            "torch_dtype": "bfloat16", "transformers_version": "4.42.4", "use_cache": true,
            "vocab_size": 256000}"#,
    )
    .unwrap();
    let preset = Gemma2Config {
        architectures: vec!["Gemma2ForCausalLM".to_owned()],
        ..Gemma2Config::gemma_2_2b()
    };
    assert_eq!(config, preset);
    assert_eq!(config.layer_type(0), LayerType::Sliding);
    assert_eq!(config.layer_type(1), LayerType::Full);
}

#[test]
fn second_generation_of_the_file() {
    let config = parse(
        r#"{"num_hidden_layers": 3,
            "layer_types": ["full_attention", "sliding_attention", "full_attention"],
            "rope_theta": 7.0,
            "rope_parameters": {"rope_theta": 500.0, "rope_type": "default"}}"#,
    )
    .unwrap();
    assert_eq!(config.rope_theta(), 500.0);
    assert_eq!(config.layer_type(0), LayerType::Full);
    assert_eq!(config.layer_type(1), LayerType::Sliding);
}

#[test]
fn written_config_reads_back() {
    let config = Gemma2Config {
        num_hidden_layers: 4,
        ..Gemma2Config::gemma_2_2b()
    };
    assert_eq!(parse(&config.to_json()).unwrap(), config);
}

#[test]
fn refusals_name_the_value() {
    let cases = [
        (r#"{"hidden_activation": "silu"}"#, "silu"),
        (r#"{"hidden_activation": "gelu"}"#, "gelu"),
        (
            r#"{"rope_parameters": {"rope_theta": 1e4, "rope_type": "yarn"}}"#,
            "yarn",
        ),
        (
            r#"{"rope_scaling": {"type": "linear", "factor": 2.0}}"#,
            "linear",
        ),
        (
            r#"{"rope_parameters": {"partial_rotary_factor": 0.5}}"#,
            "0.5",
        ),
        (r#"{"rope_theta": -3.0}"#, "-3"),
        (r#"{"attention_bias": true}"#, "attention_bias is true"),
        (r#"{"attention_dropout": 0.1}"#, "0.1"),
        (r#"{"use_bidirectional_attention": true}"#, "bidirectional"),
        (r#"{"model_type": "t5"}"#, "t5"),
        (
            r#"{"num_key_value_heads": 3}"#,
            "8 is not a multiple of num_key_value_heads 3",
        ),
        (r#"{"head_dim": 255}"#, "255"),
        (r#"{"hidden_size": 0}"#, "hidden_size is 0"),
        (
            r#"{"vocab_size": 9000000000000000000}"#,
            "9000000000000000000",
        ),
        (r#"{"rms_norm_eps": 0}"#, "rms_norm_eps is 0"),
        (r#"{"initializer_range": -1.0}"#, "-1"),
        (r#"{"attn_logit_softcapping": -50.0}"#, "-50"),
        (r#"{"sliding_window": null}"#, "sliding_window is None"),
        (r#"{"layer_types": ["full_attention"]}"#, "1 entries"),
        (
            r#"{"layer_types": ["chunked_attention"]}"#,
            "chunked_attention",
        ),
        (r#"{"hidden_size": "many"}"#, "many"),
        ("{", "config.json"),
        ("[]", "a list"),
        (r#"{"num_hidden_layers": 1025}"#, "more than 1024"),
        (r#"{"num_attention_heads": 65536}"#, "65536 x head_dim 256"),
    ];
    for (json, expected) in cases {
        let message = message(json);
        assert!(message.contains(expected), "{json}: {message}");
    }
}

#[test]
fn no_window_is_needed_when_no_layer_slides() {
    let json = r#"{"num_hidden_layers": 1, "layer_types": ["full_attention"],
                   "sliding_window": null, "attn_logit_softcapping": null,
                   "hidden_activation": "gelu_new"}"#;
    assert_eq!(parse(json).unwrap().attn_logit_softcapping, None);
}

#[test]
fn missing_file_is_named() {
    let error = Gemma2Config::from_file(Path::new("nowhere/config.json")).unwrap_err();
    assert!(matches!(error, TextError::Io { .. }));
    assert!(error.to_string().contains("nowhere/config.json"), "{error}");
}
