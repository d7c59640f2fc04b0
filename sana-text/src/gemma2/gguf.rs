//! Gemma-2 as a GGUF file of llama.cpp: other names, norms as `1 + weight`, and the config as metadata.

use sana_linear_attn::{WeightError, Weights};

use super::Gemma2Config;
use crate::error::TextError;

const ARCHITECTURE: &str = "general.architecture";
const NAME: &str = "gemma2";

/// Tensors outside the layers: in the file, published.
const OUTSIDE: [(&str, &str); 3] = [
    ("token_embd.weight", "embed_tokens.weight"),
    ("output_norm.weight", "norm.weight"),
    ("output.weight", "lm_head.weight"),
];

/// Layers of a block: in the file, published.
const IN_LAYER: [(&str, &str); 11] = [
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
    ("attn_norm", "input_layernorm"),
    ("post_attention_norm", "post_attention_layernorm"),
    ("ffn_norm", "pre_feedforward_layernorm"),
    ("post_ffw_norm", "post_feedforward_layernorm"),
];

/// The tensors of a GGUF file under their published names, with the weights of norms as published;
/// `None` of other files.
///
/// # Errors
/// [`TextError::Gguf`] when it is of another architecture, is one part of several, or its metadata
/// contradicts the config.
pub(super) fn published(
    weights: &Weights,
    config: &Gemma2Config,
) -> Result<Option<Weights>, TextError> {
    let Some(architecture) = weights.metadata(ARCHITECTURE) else {
        return Ok(None);
    };
    let error = |reason: String| TextError::Gguf {
        origin: weights.origin().to_owned(),
        reason,
    };
    if architecture != NAME {
        return Err(error(format!(
            "it is of the architecture {architecture:?}, expected {NAME:?}"
        )));
    }
    if let Some(parts) = weights
        .metadata("split.count")
        .filter(|parts| *parts != "1")
    {
        return Err(error(format!(
            "it is one of {parts} parts; put them together with llama-gguf-split --merge"
        )));
    }
    check_metadata(weights, config).map_err(error)?;
    let renamed = weights.renamed(|name| {
        let name = published_name(name).unwrap_or_else(|| name.to_owned());
        // The file has what the rows are multiplied by, which here is one more than the weight.
        let minus = if name.ends_with("norm.weight") {
            1.0
        } else {
            0.0
        };
        (name, -minus)
    });
    renamed.map(Some).map_err(|error: WeightError| error.into())
}

fn published_name(name: &str) -> Option<String> {
    if let Some((_, published)) = OUTSIDE.iter().find(|(stored, _)| *stored == name) {
        return Some((*published).to_owned());
    }
    let (index, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    let layer = rest.strip_suffix(".weight")?;
    let (_, published) = IN_LAYER.iter().find(|(stored, _)| *stored == layer)?;
    Some(format!("layers.{index}.{published}.weight"))
}

/// Compares the sizes and constants that the file states.
fn check_metadata(weights: &Weights, config: &Gemma2Config) -> Result<(), String> {
    let sizes = [
        ("block_count", config.num_hidden_layers),
        ("embedding_length", config.hidden_size),
        ("feed_forward_length", config.intermediate_size),
        ("attention.head_count", config.num_attention_heads),
        ("attention.head_count_kv", config.num_key_value_heads),
        ("attention.key_length", config.head_dim),
        ("attention.value_length", config.head_dim),
        (
            "attention.sliding_window",
            config.sliding_window.unwrap_or(0),
        ),
    ];
    let sizes = sizes.map(|(key, size)| (key, size as f64));
    let constants = [
        ("attention.layer_norm_rms_epsilon", config.rms_norm_eps),
        (
            "attn_logit_softcapping",
            config.attn_logit_softcapping.unwrap_or(0.0),
        ),
        ("rope.freq_base", config.rope_theta()),
    ];
    for (key, expected) in sizes.into_iter().chain(constants) {
        let key = format!("{NAME}.{key}");
        let Some(text) = weights.metadata(&key) else {
            continue;
        };
        // The file has 32 bits of what the config has 64 of.
        let fits = text
            .parse::<f64>()
            .is_ok_and(|found| (found - expected).abs() <= 1e-5 * expected.abs());
        if !fits {
            return Err(format!(
                "its {key} is {text}, but the text encoder's config says {expected}"
            ));
        }
    }
    Ok(())
}
