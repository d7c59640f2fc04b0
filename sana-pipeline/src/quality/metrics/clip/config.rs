//! `config.json` of a CLIP.

use serde::Deserialize;

/// Layers of a tower, at most.
const MOST_LAYERS: usize = 256;
/// Width, tokens or vocabulary, at most.
const LARGEST: usize = 1 << 20;
/// What files that transformers wrote before 4.31 have in place of the end token: the text is then
/// pooled at the largest id.
const LEGACY_END: i64 = 2;

/// Keys and defaults are those of transformers.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub(super) struct ClipConfig {
    pub text_config: TextConfig,
    pub vision_config: VisionConfig,
    pub projection_dim: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub(super) struct TextConfig {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub max_position_embeddings: usize,
    pub hidden_act: Activation,
    pub layer_norm_eps: f64,
    pub eos_token_id: i64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub(super) struct VisionConfig {
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub num_channels: usize,
    pub image_size: usize,
    pub patch_size: usize,
    pub hidden_act: Activation,
    pub layer_norm_eps: f64,
}

/// The function between the two layers of an MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Activation {
    /// `x sigmoid(1.702 x)`.
    QuickGelu,
    /// With the error function.
    Gelu,
    /// With tanh.
    #[serde(alias = "gelu_pytorch_tanh")]
    GeluNew,
}

impl Default for ClipConfig {
    fn default() -> Self {
        Self {
            text_config: TextConfig::default(),
            vision_config: VisionConfig::default(),
            projection_dim: 512,
        }
    }
}

impl Default for TextConfig {
    fn default() -> Self {
        Self {
            vocab_size: 49408,
            hidden_size: 512,
            intermediate_size: 2048,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 77,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
            eos_token_id: 49407,
        }
    }
}

impl Default for VisionConfig {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            num_channels: 3,
            image_size: 224,
            patch_size: 32,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
        }
    }
}

impl ClipConfig {
    pub fn validate(&self) -> Result<(), String> {
        let Self {
            text_config: text,
            vision_config: vision,
            projection_dim,
        } = self;
        for (name, value, largest) in [
            ("projection_dim", *projection_dim, LARGEST),
            ("vocab_size", text.vocab_size, LARGEST),
            ("hidden_size of the text", text.hidden_size, LARGEST),
            ("hidden_size of images", vision.hidden_size, LARGEST),
            (
                "intermediate_size of the text",
                text.intermediate_size,
                LARGEST,
            ),
            (
                "intermediate_size of images",
                vision.intermediate_size,
                LARGEST,
            ),
            (
                "num_hidden_layers of the text",
                text.num_hidden_layers,
                MOST_LAYERS,
            ),
            (
                "num_hidden_layers of images",
                vision.num_hidden_layers,
                MOST_LAYERS,
            ),
            ("image_size", vision.image_size, crate::image::LARGEST_SIDE),
            ("patch_size", vision.patch_size, vision.image_size),
        ] {
            if !(1..=largest).contains(&value) {
                return Err(format!("{name} must be 1 to {largest}, got {value}"));
            }
        }
        if !(3..=LARGEST).contains(&text.max_position_embeddings) {
            return Err(format!(
                "max_position_embeddings must be 3 to {LARGEST}, got {}",
                text.max_position_embeddings
            ));
        }
        if vision.num_channels != 3 {
            return Err(format!(
                "num_channels must be 3, got {}",
                vision.num_channels
            ));
        }
        for (of, width, heads) in [
            ("the text", text.hidden_size, text.num_attention_heads),
            ("images", vision.hidden_size, vision.num_attention_heads),
        ] {
            if heads == 0 || !width.is_multiple_of(heads) {
                return Err(format!(
                    "hidden_size {width} of {of} is not divisible by its {heads} heads"
                ));
            }
        }
        for eps in [text.layer_norm_eps, vision.layer_norm_eps] {
            if !(eps.is_finite() && eps > 0.0) {
                return Err(format!("layer_norm_eps must be positive, got {eps}"));
            }
        }
        Ok(())
    }
}

impl TextConfig {
    /// The place of the token whose vector is that of the text.
    pub fn pooled(&self, ids: &[u32]) -> usize {
        let end = match self.eos_token_id {
            LEGACY_END => ids.iter().copied().max().map_or(0, i64::from),
            end => end,
        };
        // As transformers: the first of them, and the first token without one.
        ids.iter()
            .position(|id| i64::from(*id) == end)
            .unwrap_or_default()
    }
}
