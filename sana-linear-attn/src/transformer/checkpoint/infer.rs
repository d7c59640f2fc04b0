//! The config of a transformer, read from the shapes of its weights.

use std::collections::BTreeSet;

use crate::weights::Weights;

use super::nunchaku::NunchakuLayout;
use super::original::OriginalLayout;
use super::prefix::without_prefix;
use crate::transformer::config::{ConfigError, QkNorm, SanaTransformerConfig};

/// A config that was [read](SanaTransformerConfig::infer) from the weights.
#[derive(Debug, Clone, PartialEq)]
pub struct InferredConfig {
    /// The config.
    pub config: SanaTransformerConfig,
    /// What the shapes do not show, and where its value is from.
    pub assumed: Vec<String>,
}

/// Heads and channels of a head of the self-attention, then of the cross-attention.
type Heads = [usize; 4];

impl SanaTransformerConfig {
    /// Reads the config of a transformer from the names and shapes of its weights, in the published
    /// layout or the [original](OriginalLayout) one: depth, width, latent and text channels, patch
    /// size, hidden channels of the feed-forward, biases, qk norm, embedded guidance, and the
    /// `sample_size` where an original file has its position table.
    ///
    /// The rest is not in the shapes. The heads are those of `base` where its width is the same,
    /// else those of the released models of that width. `interpolation_scale` is that of the released
    /// 2K and 4K models where there is a position table of their 64 or 128 tokens a side. Else it, `norm_eps`,
    /// `guidance_embeds_scale` and, without a position table, `sample_size` are those of `base`.
    /// [`InferredConfig::assumed`] says so.
    ///
    /// Files of [nunchaku](NunchakuLayout) carry their config, and nothing is assumed.
    ///
    /// # Errors
    /// [`ConfigError::NotInferred`] when a tensor that shows a size is absent or not of its rank,
    /// or the width is neither that of `base` nor of a released model; [`ConfigError::Invalid`]
    /// when the sizes cannot be those of a transformer.
    pub fn infer(weights: &Weights, base: &Self) -> Result<InferredConfig, ConfigError> {
        if let Some(layout) = NunchakuLayout::of(weights) {
            let config = layout.config(weights)?;
            let assumed = Vec::new();
            let inferred = config.map(|config| InferredConfig { config, assumed });
            return inferred.ok_or_else(|| ConfigError::NotInferred {
                origin: weights.origin().to_owned(),
                reason: "4-bit weights of nunchaku are padded and do not show their sizes; put \
                         its config.json next to them"
                    .to_owned(),
            });
        }
        let weights = &*without_prefix(weights);
        let layout = OriginalLayout::of(weights);
        let shapes = Shapes {
            weights,
            layout: layout.as_ref(),
        };
        let [width, in_channels, patch_size, _] = shapes.get("patch_embed.proj.weight")?;
        let [_, caption_channels] = shapes.get("caption_projection.linear_1.weight")?;
        let [_, hidden, _, _] = shapes.get("transformer_blocks.0.ff.conv_point.weight")?;
        let [out_rows, _] = shapes.get("proj_out.weight")?;
        if [width, in_channels, patch_size, hidden, out_rows].contains(&0) {
            return Err(shapes.error("it has tensors without elements".to_owned()));
        }
        let ([heads, head_dim, cross_heads, cross_head_dim], assumed_heads) = heads(width, base)
            .ok_or_else(|| {
                shapes.error(format!(
                    "shapes do not show the attention heads, and no released model is {width} \
                     channels wide; put its config.json next to it"
                ))
            })?;
        let side = layout
            .as_ref()
            .and_then(|layout| layout.position_side(weights));
        let sample_size = match side {
            Some(side) => side.saturating_mul(patch_size),
            None => base.sample_size,
        };
        // Of the released models those of 2K and 4K have a table.
        let interpolation_scale = match side {
            Some(64) => Some(1.0),
            Some(128) => Some(2.0),
            _ => base.interpolation_scale,
        };
        let has = |name: &str| shapes.find(name).is_some();
        let config = Self {
            in_channels,
            out_channels: Some(out_rows / patch_size.saturating_mul(patch_size)),
            num_attention_heads: heads,
            attention_head_dim: head_dim,
            num_layers: shapes.layers(),
            num_cross_attention_heads: cross_heads,
            cross_attention_head_dim: cross_head_dim,
            cross_attention_dim: width,
            caption_channels,
            mlp_ratio: mlp_ratio(hidden, width, base),
            attention_bias: has("transformer_blocks.0.attn1.to_q.bias"),
            sample_size,
            patch_size,
            interpolation_scale,
            guidance_embeds: has("time_embed.guidance_embedder.linear_1.weight"),
            qk_norm: has("transformer_blocks.0.attn1.norm_q.weight")
                .then_some(QkNorm::RmsNormAcrossHeads),
            ..base.clone()
        };
        config.validate()?;
        Ok(InferredConfig {
            assumed: assumptions(&config, assumed_heads, side),
            config,
        })
    }
}

/// The heads of a width, and where they are from.
fn heads(width: usize, base: &SanaTransformerConfig) -> Option<(Heads, &'static str)> {
    let of = |config: &SanaTransformerConfig| {
        [
            config.num_attention_heads,
            config.attention_head_dim,
            config.num_cross_attention_heads,
            config.cross_attention_head_dim,
        ]
    };
    if width == base.width() {
        return Some((of(base), "the given config"));
    }
    [
        SanaTransformerConfig::sana_600m_1024px(),
        SanaTransformerConfig::sana_1600m_1024px(),
    ]
    .iter()
    .find(|released| released.width() == width)
    .map(|released| (of(released), "the released models of its width"))
}

/// The ratio that gives these hidden channels: that of `base`, if it does.
fn mlp_ratio(hidden: usize, width: usize, base: &SanaTransformerConfig) -> f64 {
    if (base.mlp_ratio * width as f64) as usize == hidden {
        return base.mlp_ratio;
    }
    // Half a channel more, so that the product is not rounded below.
    (hidden as f64 + 0.5) / width as f64
}

fn assumptions(config: &SanaTransformerConfig, heads: &str, side: Option<usize>) -> Vec<String> {
    let mut assumed = vec![format!(
        "{} heads of {} channels and {} for the text, as {heads}",
        config.num_attention_heads, config.attention_head_dim, config.num_cross_attention_heads
    )];
    if side.is_none() {
        assumed.push(format!(
            "sample_size {}, as the given config",
            config.sample_size
        ));
    }
    assumed.push(match config.interpolation_scale {
        Some(scale) if matches!(side, Some(64 | 128)) => format!(
            "interpolation_scale {scale}, as the released models with a position table of its size"
        ),
        Some(scale) => format!("interpolation_scale {scale}, as the given config"),
        None => "no position table, as the given config".to_owned(),
    });
    if config.guidance_embeds {
        assumed.push(format!(
            "guidance_embeds_scale {}, as the given config",
            config.guidance_embeds_scale
        ));
    }
    assumed
}

/// Shapes by their published names.
struct Shapes<'a> {
    weights: &'a Weights,
    layout: Option<&'a OriginalLayout>,
}

impl Shapes<'_> {
    fn find(&self, name: &str) -> Option<Vec<usize>> {
        match self.layout {
            Some(layout) => layout.shape(self.weights, name),
            None => self.weights.shape(name).map(<[usize]>::to_vec),
        }
    }

    fn get<const D: usize>(&self, name: &str) -> Result<[usize; D], ConfigError> {
        let shape = self
            .find(name)
            .ok_or_else(|| self.error(format!("it has no {name}, nor its original name")))?;
        let found = format!("{name} has the shape {shape:?}, expected {D} dimensions");
        shape.try_into().map_err(|_| self.error(found))
    }

    /// Blocks that the file has tensors of. Gaps are left to the check of all names.
    fn layers(&self) -> usize {
        let blocks = match self.layout {
            Some(layout) => layout.blocks(),
            None => "transformer_blocks.".to_owned(),
        };
        let index = |name: &str| {
            let (index, _) = name.strip_prefix(blocks.as_str())?.split_once('.')?;
            index.parse::<usize>().ok()
        };
        let indices: BTreeSet<usize> = self.weights.names().filter_map(index).collect();
        indices.len()
    }

    fn error(&self, reason: String) -> ConfigError {
        ConfigError::NotInferred {
            origin: self.weights.origin().to_owned(),
            reason,
        }
    }
}
