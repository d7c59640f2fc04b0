use sana_dcae::DcAeConfig;
use sana_linear_attn::SanaTransformerConfig;
use sana_text::Gemma2Config;

use super::scenes::small_autoencoder;

/// Tokens kept of a prompt by the sprites model.
pub const SPRITES_PROMPT_TOKENS: usize = 48;
/// Tokens of its vocabulary, at most: a word of the captions is one or two of them.
pub const SPRITES_VOCAB: usize = 1600;

/// The autoencoder of the sprites model: DC-AE f32c32 with its six stages at small widths, three of them
/// residual and three with linear attention. 4.8 million parameters.
pub fn sprites_autoencoder() -> DcAeConfig {
    small_autoencoder(vec![16, 32, 64, 128, 128, 128], vec![0, 2, 2, 2, 2, 2])
}

/// The transformer of the sprites model, for images of `size` pixels: eight blocks of 192 channels, 5.1
/// million parameters.
pub fn sprites_transformer(size: usize) -> SanaTransformerConfig {
    SanaTransformerConfig {
        num_attention_heads: 6,
        num_layers: 8,
        num_cross_attention_heads: 6,
        cross_attention_head_dim: 32,
        cross_attention_dim: 192,
        caption_channels: 192,
        sample_size: size / 32,
        // Without positions it does not learn which thing is on which side.
        interpolation_scale: Some(1.0),
        ..SanaTransformerConfig::default()
    }
}

/// The text encoder of the sprites model: two layers of Gemma-2, 192 channels.
pub fn sprites_text_encoder(vocab_size: usize) -> Gemma2Config {
    Gemma2Config {
        vocab_size,
        hidden_size: 192,
        intermediate_size: 384,
        num_hidden_layers: 2,
        num_attention_heads: 6,
        num_key_value_heads: 3,
        head_dim: 32,
        query_pre_attn_scalar: 32,
        ..Gemma2Config::gemma_2_2b()
    }
}
