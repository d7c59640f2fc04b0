//! Transformers of the published layout in that of the authors' own checkpoints, for tests.

use std::path::Path;

use burn::tensor::{DType, TensorData};

use crate::weights::{Weights, write_tensors};

/// Original names outside the blocks and the published ones; the first that is there counts.
const OUTSIDE: [(&str, &[&str]); 10] = [
    ("x_embedder.proj", &["patch_embed.proj"]),
    ("y_embedder.y_proj.fc1", &["caption_projection.linear_1"]),
    ("y_embedder.y_proj.fc2", &["caption_projection.linear_2"]),
    ("attention_y_norm", &["caption_norm"]),
    (
        "t_embedder.mlp.0",
        &[
            "time_embed.emb.timestep_embedder.linear_1",
            "time_embed.timestep_embedder.linear_1",
        ],
    ),
    (
        "t_embedder.mlp.2",
        &[
            "time_embed.emb.timestep_embedder.linear_2",
            "time_embed.timestep_embedder.linear_2",
        ],
    ),
    (
        "cfg_embedder.mlp.0",
        &["time_embed.guidance_embedder.linear_1"],
    ),
    (
        "cfg_embedder.mlp.2",
        &["time_embed.guidance_embedder.linear_2"],
    ),
    ("t_block.1", &["time_embed.linear"]),
    ("final_layer.linear", &["proj_out"]),
];

/// Original names in a block and the published ones, several where they are fused.
const IN_BLOCK: [(&str, &[&str]); 12] = [
    ("attn.qkv", &["attn1.to_q", "attn1.to_k", "attn1.to_v"]),
    ("attn.q_norm", &["attn1.norm_q"]),
    ("attn.k_norm", &["attn1.norm_k"]),
    ("attn.proj", &["attn1.to_out.0"]),
    ("cross_attn.q_linear", &["attn2.to_q"]),
    ("cross_attn.kv_linear", &["attn2.to_k", "attn2.to_v"]),
    ("cross_attn.q_norm", &["attn2.norm_q"]),
    ("cross_attn.k_norm", &["attn2.norm_k"]),
    ("cross_attn.proj", &["attn2.to_out.0"]),
    ("mlp.inverted_conv.conv", &["ff.conv_inverted"]),
    ("mlp.depth_conv.conv", &["ff.conv_depth"]),
    ("mlp.point_conv.conv", &["ff.conv_point"]),
];

/// The tensors of a transformer in the published layout under the names of the original one,
/// queries, keys and values fused, with the tensors that a conversion drops.
///
/// # Panics
/// If a tensor is in none of the tables, or absent in one of the blocks.
pub fn original_tensors(published: &Weights, prefix: &str) -> Vec<(String, TensorData)> {
    let layers = (0..)
        .take_while(|n| published.contains(&format!("transformer_blocks.{n}.scale_shift_table")))
        .count();
    let mut tensors = Vec::new();
    let mut used = 0;
    let mut add = |original: String, sources: &[String]| {
        tensors.push((format!("{prefix}{original}"), fused(published, sources)));
        used += sources.len();
    };
    for ending in ["weight", "bias"] {
        for (original, sources) in OUTSIDE {
            let names = sources.iter().map(|source| format!("{source}.{ending}"));
            if let Some(source) = names.into_iter().find(|name| published.contains(name)) {
                add(format!("{original}.{ending}"), &[source]);
            }
        }
        for block in 0..layers {
            for (original, sources) in IN_BLOCK {
                let name = |source| format!("transformer_blocks.{block}.{source}.{ending}");
                let sources: Vec<String> = sources.iter().map(name).collect();
                if published.contains(&sources[0]) {
                    add(format!("blocks.{block}.{original}.{ending}"), &sources);
                }
            }
        }
    }
    for block in 0..layers {
        let source = format!("transformer_blocks.{block}.scale_shift_table");
        add(format!("blocks.{block}.scale_shift_table"), &[source]);
    }
    let table = ["scale_shift_table".to_owned()];
    add("final_layer.scale_shift_table".to_owned(), &table);
    assert_eq!(used, published.names().count(), "tensors in no table");

    let zeros = |shape: &[usize]| TensorData::new(vec![0f32; shape.iter().product()], shape);
    for (name, shape) in [
        ("y_embedder.y_embedding", &[7, 24][..]),
        ("pos_embed", &[1, 64, 40]),
        ("logvar_linear.weight", &[1, 40]),
        ("logvar_linear.bias", &[1]),
    ] {
        tensors.push((format!("{prefix}{name}"), zeros(shape)));
    }
    tensors
}

/// Writes [`original_tensors`] to a file.
///
/// # Panics
/// As [`original_tensors`], and if the file cannot be written.
pub fn write_original(published: &Weights, path: &Path, prefix: &str) {
    let tensors = original_tensors(published, prefix);
    write_tensors(path, tensors).unwrap_or_else(|error| panic!("{error}"));
}

/// Several tensors one after the other along the first axis.
fn fused(weights: &Weights, names: &[String]) -> TensorData {
    let mut bytes = Vec::new();
    let mut shape: Vec<usize> = Vec::new();
    for name in names {
        let found = weights.shape(name).unwrap_or_else(|| panic!("no {name}"));
        match shape.first_mut() {
            None => shape = found.to_vec(),
            Some(rows) => *rows += found[0],
        }
        bytes.extend_from_slice(weights.bytes(name).unwrap_or_default());
    }
    let dtype = weights.dtype(&names[0]).unwrap_or(DType::F32);
    TensorData::from_bytes_vec(bytes, shape, dtype)
}
