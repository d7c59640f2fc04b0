//! The networks that a run starts from.

use std::path::Path;

use anyhow::{Context, bail};
use burn::tensor::{DType, Device};
use sana_dcae::DcAe;
use sana_pipeline::Checkpoint;
use sana_pipeline::checkpoint::{CheckpointInstruction, Component, SanaKeys};
use sana_pipeline::train::{DataSource, Denoiser, TransformerOptions, train_tokenizer};
use sana_text::{EmbeddingPlacement, Gemma2Config, Gemma2LoadOptions, Gemma2Model, GemmaTokenizer};

use super::new_model::NewModel;

/// The autoencoder of a checkpoint or of a run.
pub fn load_autoencoder(folder: &Path, device: &Device) -> anyhow::Result<DcAe> {
    let vae = folder.join("vae");
    DcAe::load(&vae, None, Some(DType::F32), device)
        .with_context(|| format!("no autoencoder in {}", vae.display()))
}

/// What a transformer's run starts from.
pub struct StartPoint {
    pub model: Denoiser,
    pub tokenizer_json: String,
    pub keys: SanaKeys,
    pub flow_shift: f64,
}

impl StartPoint {
    /// New weights, and a tokenizer made from captions of the data.
    pub fn new(
        model: NewModel,
        data: &dyn DataSource,
        seed: u64,
        device: &Device,
    ) -> anyhow::Result<Self> {
        let tokenizer_json = train_tokenizer(data, model.vocab, seed)?;
        let tokenizer = GemmaTokenizer::from_bytes("tokenizer.json", tokenizer_json.as_bytes())?;
        let text = Gemma2Config {
            vocab_size: tokenizer.vocab_size(),
            ..model.text_encoder
        };
        Ok(Self {
            model: Denoiser {
                text_encoder: text.init_seeded(seed, device)?,
                transformer: model.transformer.init(device),
            },
            tokenizer_json,
            keys: SanaKeys {
                instruction: CheckpointInstruction::None,
                max_tokens: model.max_prompt_tokens,
                variant: model.variant.map(str::to_owned),
                ..SanaKeys::default()
            },
            flow_shift: TransformerOptions::default().flow_shift,
        })
    }

    /// The weights of a checkpoint, widened to f32.
    pub fn load(folder: &Path, device: &Device) -> anyhow::Result<Self> {
        let checkpoint = Checkpoint::open(folder)?;
        let config = checkpoint.transformer_config()?;
        let flow_shift = checkpoint.scheduler()?.shift();
        let (false, Some(flow_shift)) = (config.guidance_embeds, flow_shift) else {
            bail!(
                "{} is a distilled checkpoint (Sana-Sprint), which is not trained by flow \
                 matching: give --from one of the base models",
                folder.display()
            );
        };
        let f32 = Some(DType::F32);
        let weights = checkpoint.weights(Component::Transformer, None)?;
        let text_weights = checkpoint.weights(Component::TextEncoder, None)?;
        for (component, weights) in [
            (Component::Transformer, &weights),
            (Component::TextEncoder, &text_weights),
        ] {
            if let Some(form) = weights.names().find_map(|name| weights.packed(name)) {
                bail!(
                    "the {component} of {} is in {form}, which is not trained: give --from the \
                     checkpoint that it was made of",
                    folder.display()
                );
            }
        }
        let transformer = config.load(&weights, f32, checkpoint.f16_clamp()?, device)?;
        let text_encoder = Gemma2Model::from_weights(
            &checkpoint.text_config()?,
            text_weights,
            &Gemma2LoadOptions {
                dtype: f32,
                variant: None,
                embedding: EmbeddingPlacement::Device,
                quantize: None,
            },
            device,
        )?;
        let tokenizer = checkpoint.read("tokenizer/tokenizer.json")?;
        Ok(Self {
            model: Denoiser {
                text_encoder,
                transformer,
            },
            tokenizer_json: String::from_utf8(tokenizer.into_owned())?,
            keys: checkpoint.keys().clone(),
            flow_shift,
        })
    }
}
