use sana_dcae::{
    Activation, BlockType, DcAeConfig, DownsampleBlockType, PerStage, UpsampleBlockType,
};
use sana_linear_attn::SanaTransformerConfig;
use sana_text::Gemma2Config;

use crate::train::data::FlatShapes;
use crate::train::error::TrainError;
use crate::train::tokenizer::train_tokenizer;

/// Tokens of the scenes model's tokenizer, at most.
pub const SCENES_VOCAB: usize = 400;
/// Tokens kept of a prompt by the scenes model.
pub const MAX_PROMPT_TOKENS: usize = 48;

/// The autoencoder of the scenes model: DC-AE f32c32 with its six stages at small widths, three of
/// them residual and three with linear attention.
pub fn scenes_autoencoder() -> DcAeConfig {
    small_autoencoder(vec![16, 32, 64, 64, 64, 64], vec![0, 2, 2, 1, 2, 2])
}

/// DC-AE f32c32 of these widths, with so many layers in each stage of the decoder and one in those of the
/// encoder, but none at full size.
pub(super) fn small_autoencoder(widths: Vec<usize>, decoder_layers: Vec<usize>) -> DcAeConfig {
    let types = PerStage::Each([[BlockType::Res; 3], [BlockType::EfficientVit; 3]].concat());
    DcAeConfig {
        encoder_block_types: types.clone(),
        decoder_block_types: types,
        encoder_block_out_channels: widths.clone(),
        decoder_block_out_channels: widths,
        encoder_layers_per_block: vec![0, 1, 1, 1, 1, 1],
        decoder_layers_per_block: decoder_layers,
        upsample_block_type: UpsampleBlockType::PixelShuffle,
        downsample_block_type: DownsampleBlockType::PixelUnshuffle,
        decoder_act_fns: PerStage::All(Activation::Silu),
        ..DcAeConfig::default()
    }
}

/// The transformer of the scenes model, for images of `size` pixels.
pub fn scenes_transformer(size: usize) -> SanaTransformerConfig {
    SanaTransformerConfig {
        num_attention_heads: 4,
        num_layers: 7,
        num_cross_attention_heads: 4,
        cross_attention_head_dim: 32,
        cross_attention_dim: 128,
        caption_channels: 128,
        sample_size: size / 32,
        // Without positions it does not learn which object is on which side.
        interpolation_scale: Some(1.0),
        ..SanaTransformerConfig::default()
    }
}

/// The text encoder of the scenes model: two layers of Gemma-2.
pub fn scenes_text_encoder(vocab_size: usize) -> Gemma2Config {
    Gemma2Config {
        vocab_size,
        hidden_size: 128,
        intermediate_size: 256,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 32,
        query_pre_attn_scalar: 32,
        ..Gemma2Config::gemma_2_2b()
    }
}

/// The tokenizer of the scenes model, made from captions of the scene language.
///
/// # Errors
/// When training the tokenizer fails.
pub fn scenes_tokenizer(seed: u64) -> Result<String, TrainError> {
    train_tokenizer(&FlatShapes::new(&[]), SCENES_VOCAB, seed)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use sana_text::train_gemma_style;

    use super::*;
    use crate::scenes::ScenePrompt;

    /// What it has always been: models that exist have it.
    #[test]
    fn the_tokenizer_is_that_of_the_scene_language() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let captions = (0..4000).map(|_| {
            let prompt = ScenePrompt::sample_training(&mut rng);
            prompt.caption(&mut rng).to_lowercase()
        });
        let captions: Vec<String> = captions.collect();
        let expected = train_gemma_style(captions, 400).expect("tokenizer");
        assert_eq!(scenes_tokenizer(3).expect("tokenizer"), expected);
    }
}
