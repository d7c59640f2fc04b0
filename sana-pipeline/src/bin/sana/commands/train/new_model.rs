//! The architecture of a new transformer and its text encoder.

use std::path::PathBuf;

use anyhow::ensure;
use clap::Args;
use clap::builder::RangedU64ValueParser;
use sana_dcae::DcAeConfig;
use sana_linear_attn::SanaTransformerConfig;
use sana_pipeline::train::{
    MAX_PROMPT_TOKENS, SCENES_VOCAB, SPRITES_PROMPT_TOKENS, SPRITES_VOCAB, scenes_text_encoder,
    scenes_transformer, sprites_text_encoder, sprites_transformer,
};
use sana_text::Gemma2Config;

/// Tokens of a prompt, at most: the longest text that Gemma-2 was trained for.
const MOST_TOKENS: u64 = 8192;

#[derive(Debug, Args)]
pub struct NewModelArgs {
    /// Architecture of a new transformer, as in a checkpoint's transformer/config.json [default:
    /// that of the built-in model, with `--data sprites:` that of the sprites model]
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    pub config: Option<PathBuf>,
    /// Architecture of its text encoder (Gemma-2), as in a checkpoint's text_encoder/config.json;
    /// the size of its vocabulary is that of the tokenizer [default: as for --config]
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    pub text_config: Option<PathBuf>,
    /// Tokens of the tokenizer of a new model, at most; it is made from captions of the data
    /// [default: 400, with `--data sprites:` 1600]
    #[arg(long, value_name = "N", conflicts_with = "from")]
    pub vocab: Option<usize>,
    /// Tokens that a new model keeps of a prompt [default: 48]
    #[arg(
        long,
        value_name = "N",
        conflicts_with = "from",
        value_parser = RangedU64ValueParser::<usize>::new().range(1..=MOST_TOKENS)
    )]
    pub max_prompt_tokens: Option<usize>,
}

/// A transformer and its text encoder before they have weights.
#[derive(Debug, Clone)]
pub struct NewModel {
    /// Its name, if the architecture is one of ours.
    pub variant: Option<&'static str>,
    pub transformer: SanaTransformerConfig,
    /// The size of its vocabulary is that of the tokenizer, once there is one.
    pub text_encoder: Gemma2Config,
    /// Tokens of the tokenizer, at most.
    pub vocab: usize,
    pub max_prompt_tokens: usize,
}

impl NewModel {
    /// The architecture of the scenes model, for images of `size` pixels.
    pub fn scenes(size: usize) -> Self {
        Self {
            variant: Some("scenes"),
            transformer: scenes_transformer(size),
            text_encoder: scenes_text_encoder(SCENES_VOCAB),
            vocab: SCENES_VOCAB,
            max_prompt_tokens: MAX_PROMPT_TOKENS,
        }
    }

    /// The architecture of the sprites model, for images of `size` pixels.
    pub fn sprites(size: usize) -> Self {
        Self {
            variant: Some("sprites"),
            transformer: sprites_transformer(size),
            text_encoder: sprites_text_encoder(SPRITES_VOCAB),
            vocab: SPRITES_VOCAB,
            max_prompt_tokens: SPRITES_PROMPT_TOKENS,
        }
    }

    /// With what the options say in its place.
    pub fn with(mut self, args: NewModelArgs) -> anyhow::Result<Self> {
        if let Some(file) = &args.config {
            self.transformer = SanaTransformerConfig::from_file(file)?;
        }
        if let Some(file) = &args.text_config {
            self.text_encoder = Gemma2Config::from_file(file)?;
        }
        if args.config.is_some() || args.text_config.is_some() {
            self.variant = None;
        }
        self.vocab = args.vocab.unwrap_or(self.vocab);
        self.max_prompt_tokens = args.max_prompt_tokens.unwrap_or(self.max_prompt_tokens);
        Ok(self)
    }

    /// Refuses networks that cannot be trained together.
    pub fn check(&self, latents: &DcAeConfig) -> anyhow::Result<()> {
        let Self {
            transformer,
            text_encoder,
            ..
        } = self;
        check_channels(transformer, latents)?;
        ensure!(
            transformer.caption_channels == text_encoder.hidden_size,
            "the transformer takes text embeddings of {} channels (caption_channels), and those of \
             the text encoder have {} (hidden_size): give a --config and a --text-config that agree",
            transformer.caption_channels,
            text_encoder.hidden_size
        );
        ensure!(
            transformer.output_channels() == transformer.in_channels,
            "the transformer takes {} channels (in_channels) and gives {} (out_channels): a velocity \
             has as many as the latents",
            transformer.in_channels,
            transformer.output_channels()
        );
        ensure!(
            !transformer.guidance_embeds,
            "the transformer has guidance_embeds, as distilled ones (Sana-Sprint) do, which are not \
             trained by flow matching"
        );
        Ok(())
    }
}

/// Refuses a transformer for other latents.
pub fn check_channels(
    transformer: &SanaTransformerConfig,
    latents: &DcAeConfig,
) -> anyhow::Result<()> {
    ensure!(
        latents.latent_channels == transformer.in_channels,
        "the autoencoder has latents of {} channels (latent_channels), and the transformer takes {} \
         (in_channels)",
        latents.latent_channels,
        transformer.in_channels
    );
    Ok(())
}
