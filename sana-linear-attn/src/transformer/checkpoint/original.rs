//! The names that the authors' own checkpoints give the tensors of a transformer.

use std::collections::BTreeMap;

use burn::module::Module;

use super::prefix::prefix_of;
use crate::weights::{KeyMap, RowShare, WeightError, Weights, parameter_shapes};

/// The tensor by which the layout is recognised.
const MARK: &str = "x_embedder.proj.weight";

/// Tensors that are of no use for inference: the embedding of the empty caption in training, the
/// position table, which is computed, and the loss weighting of Sana-Sprint's distillation.
const DROPPED: [&str; 4] = [
    "y_embedder.y_embedding",
    POSITIONS,
    LOSS_WEIGHTING[0],
    LOSS_WEIGHTING[1],
];

/// The loss weighting of Sana-Sprint's distillation, so called in both layouts.
pub(in crate::transformer) const LOSS_WEIGHTING: [&str; 2] =
    ["logvar_linear.weight", "logvar_linear.bias"];

const POSITIONS: &str = "pos_embed";

/// Beginnings of names outside the blocks: published, original.
const OUTSIDE: [(&str, &str); 12] = [
    ("patch_embed.proj.", "x_embedder.proj."),
    ("caption_projection.linear_1.", "y_embedder.y_proj.fc1."),
    ("caption_projection.linear_2.", "y_embedder.y_proj.fc2."),
    ("caption_norm.", "attention_y_norm."),
    (
        "time_embed.emb.timestep_embedder.linear_1.",
        "t_embedder.mlp.0.",
    ),
    (
        "time_embed.emb.timestep_embedder.linear_2.",
        "t_embedder.mlp.2.",
    ),
    (
        "time_embed.timestep_embedder.linear_1.",
        "t_embedder.mlp.0.",
    ),
    (
        "time_embed.timestep_embedder.linear_2.",
        "t_embedder.mlp.2.",
    ),
    (
        "time_embed.guidance_embedder.linear_1.",
        "cfg_embedder.mlp.0.",
    ),
    (
        "time_embed.guidance_embedder.linear_2.",
        "cfg_embedder.mlp.2.",
    ),
    ("time_embed.linear.", "t_block.1."),
    ("proj_out.", "final_layer.linear."),
];

/// Beginnings of names in a block: published, original, and which of how many equal shares of the
/// original tensor's rows it is.
const IN_BLOCK: [(&str, &str, [usize; 2]); 16] = [
    ("attn1.to_q.", "attn.qkv.", [0, 3]),
    ("attn1.to_k.", "attn.qkv.", [1, 3]),
    ("attn1.to_v.", "attn.qkv.", [2, 3]),
    ("attn1.norm_q.", "attn.q_norm.", [0, 1]),
    ("attn1.norm_k.", "attn.k_norm.", [0, 1]),
    ("attn1.to_out.0.", "attn.proj.", [0, 1]),
    ("attn2.to_q.", "cross_attn.q_linear.", [0, 1]),
    ("attn2.to_k.", "cross_attn.kv_linear.", [0, 2]),
    ("attn2.to_v.", "cross_attn.kv_linear.", [1, 2]),
    ("attn2.norm_q.", "cross_attn.q_norm.", [0, 1]),
    ("attn2.norm_k.", "cross_attn.k_norm.", [0, 1]),
    ("attn2.to_out.0.", "cross_attn.proj.", [0, 1]),
    ("ff.conv_inverted.", "mlp.inverted_conv.conv.", [0, 1]),
    ("ff.conv_depth.", "mlp.depth_conv.conv.", [0, 1]),
    ("ff.conv_point.", "mlp.point_conv.conv.", [0, 1]),
    ("scale_shift_table", "scale_shift_table", [0, 1]),
];

/// Where a tensor of the published layout is in an original file.
struct Place {
    name: String,
    /// Which of how many equal shares of its rows.
    share: [usize; 2],
}

/// The layout of the authors' own checkpoints (`.pth` files that were saved again as safetensors):
/// `x_embedder`, `t_block`, `blocks.N.attn.qkv` with query, key and value in one tensor.
///
/// The shapes are those of the published (diffusers) layout, 1x1 convolutions in 4-D included;
/// only names differ, and `qkv` and `kv_linear` hold three and two tensors one after the other.
/// [`SanaTransformerConfig::load`](crate::SanaTransformerConfig::load) recognises the layout by
/// itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginalLayout {
    prefix: String,
}

impl OriginalLayout {
    /// Recognises the layout by its `x_embedder.proj.weight`, possibly after what other programs
    /// put before every name: any of `state_dict.`, `model.`, `module.`, `diffusion_model.`,
    /// `_orig_mod.` and `transformer.`, one after the other.
    pub fn of(weights: &Weights) -> Option<Self> {
        prefix_of(weights, MARK).map(|prefix| Self { prefix })
    }

    /// The prefix of every name.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The tensors of a transformer under their published names. Nothing is copied: a share of a tensor's rows
    /// is a range of its bytes.
    ///
    /// # Errors
    /// [`WeightError::Mismatch`] when they are not exactly those of the model, listed by the names
    /// of the file; [`WeightError::Dtype`] for one that is not f32, f16 or bf16.
    pub fn published<M: Module>(
        &self,
        weights: &Weights,
        model: &M,
    ) -> Result<Weights, WeightError> {
        let mut expected = BTreeMap::new();
        let mut shares = Vec::new();
        for (name, mut shape) in parameter_shapes(model, KeyMap::default()) {
            let place = self.place(&name);
            let [part, parts] = place.share;
            if let Some(rows) = shape.first_mut() {
                *rows *= parts;
            }
            expected.insert(place.name.clone(), shape);
            shares.push(RowShare {
                name,
                stored: place.name,
                part,
                parts,
            });
        }
        self.check(weights, &expected)?;
        Ok(weights.row_shares(shares))
    }

    fn check(
        &self,
        weights: &Weights,
        expected: &BTreeMap<String, Vec<usize>>,
    ) -> Result<(), WeightError> {
        let (mut missing, mut misshapen) = (Vec::new(), Vec::new());
        for (name, shape) in expected {
            match weights.shape(name) {
                None => missing.push(name.clone()),
                Some(found) if found == shape.as_slice() => {}
                Some(found) => misshapen.push((name.clone(), shape.clone(), found.to_vec())),
            }
        }
        let unexpected: Vec<String> = weights
            .names()
            .filter(|name| !expected.contains_key(*name) && !self.is_dropped(name))
            .map(str::to_owned)
            .collect();
        if !missing.is_empty() || !unexpected.is_empty() || !misshapen.is_empty() {
            return Err(WeightError::Mismatch {
                origin: weights.origin().to_owned(),
                missing,
                unexpected,
                misshapen,
            });
        }
        for name in expected.keys() {
            weights.checked_dtype(name)?;
        }
        Ok(())
    }

    fn is_dropped(&self, name: &str) -> bool {
        name.strip_prefix(&self.prefix)
            .is_some_and(|name| DROPPED.contains(&name))
    }

    /// Shape that a tensor of the published layout has, as far as the file's rows divide.
    pub(super) fn shape(&self, weights: &Weights, published: &str) -> Option<Vec<usize>> {
        let place = self.place(published);
        let mut shape = weights.shape(&place.name)?.to_vec();
        if let Some(rows) = shape.first_mut() {
            *rows /= place.share[1];
        }
        Some(shape)
    }

    /// Side of the latent grid in tokens that the position table is made for, where the file has
    /// one.
    pub(super) fn position_side(&self, weights: &Weights) -> Option<usize> {
        match weights.shape(&format!("{}{POSITIONS}", self.prefix))? {
            &[_, tokens, _] if tokens > 0 && tokens.isqrt().pow(2) == tokens => {
                Some(tokens.isqrt())
            }
            _ => None,
        }
    }

    /// The beginning of the names of all blocks.
    pub(super) fn blocks(&self) -> String {
        format!("{}blocks.", self.prefix)
    }

    fn place(&self, published: &str) -> Place {
        let (name, share) = original_name(published);
        Place {
            name: format!("{}{name}", self.prefix),
            share,
        }
    }
}

/// The original name of a published one; one that has none stays itself.
pub(in crate::transformer) fn original_name(published: &str) -> (String, [usize; 2]) {
    if published == "scale_shift_table" {
        return ("final_layer.scale_shift_table".to_owned(), [0, 1]);
    }
    let block = published
        .strip_prefix("transformer_blocks.")
        .and_then(|name| name.split_once('.'));
    if let Some((index, name)) = block {
        for (ours, theirs, share) in IN_BLOCK {
            if let Some(tail) = name.strip_prefix(ours) {
                return (format!("blocks.{index}.{theirs}{tail}"), share);
            }
        }
    }
    for (ours, theirs) in OUTSIDE {
        if let Some(tail) = published.strip_prefix(ours) {
            return (format!("{theirs}{tail}"), [0, 1]);
        }
    }
    (published.to_owned(), [0, 1])
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::SanaTransformerConfig;

    /// No parameter of any kind of model is left without an original name.
    #[test]
    fn every_parameter_has_a_place() {
        let device = Device::default();
        for config in [
            SanaTransformerConfig::sana_1600m_2kpx(),
            SanaTransformerConfig::sana_sprint_600m(),
            SanaTransformerConfig {
                attention_bias: true,
                ..SanaTransformerConfig::default()
            },
        ] {
            let config = SanaTransformerConfig {
                num_layers: 2,
                ..config
            };
            for (name, _) in parameter_shapes(&config.init(&device), KeyMap::default()) {
                let (original, [part, parts]) = original_name(&name);
                assert_ne!(original, name);
                assert!(part < parts, "{name}");
            }
        }
    }
}
