//! Prompts to embeddings.

use burn::tensor::{Tensor, read_sync};
use sana_text::{PromptEmbeds, encode_tokens};

use super::all_finite;
use crate::checkpoint::Component;
use crate::checkpoint::dtype;
use crate::error::PipelineError;
use crate::pipeline::SanaPipeline;
use crate::request::{Request, Settings};

/// The prompts as the transformer attends to them.
#[derive(Debug, Clone)]
pub struct TextConditioning {
    /// A row for each prompt.
    pub prompt: PromptEmbeds,
    /// The negative prompts, one row for all or one for each prompt. `None` when the request has
    /// no classifier-free guidance.
    pub negative: Option<PromptEmbeds>,
}

impl TextConditioning {
    /// Tokens cut off the end of each prompt because it was too long.
    pub fn dropped_tokens(&self) -> &[usize] {
        &self.prompt.dropped_tokens
    }

    /// Tokens cut off the end of each negative prompt because it was too long; none without
    /// negative prompts.
    pub fn dropped_negative_tokens(&self) -> &[usize] {
        match &self.negative {
            Some(negative) => &negative.dropped_tokens,
            None => &[],
        }
    }
}

impl SanaPipeline {
    /// Encodes the prompts of a request, and its negative prompts where guidance needs them. With
    /// ready embeddings it only checks and passes them on.
    ///
    /// # Shapes
    /// - embeddings `[prompts, max_tokens, caption_channels]`, masks `[prompts, max_tokens]`
    ///
    /// # Errors
    /// When the request is not valid, the text encoder cannot be loaded, or it gives values that
    /// are not finite.
    pub fn encode_prompt(&mut self, request: &Request) -> Result<TextConditioning, PipelineError> {
        let settings = request.validate(&self.spec)?;
        read_sync(self.encode_texts(&settings))
    }

    /// The stage [`encode_prompt`](Self::encode_prompt).
    pub(crate) async fn encode_texts(
        &mut self,
        settings: &Settings,
    ) -> Result<TextConditioning, PipelineError> {
        let inputs = &settings.inputs;
        if let Some((prompt, negative)) = inputs.embeddings.clone() {
            return Ok(TextConditioning {
                prompt,
                negative: negative.filter(|_| settings.classifier_free),
            });
        }
        self.load_text(settings)?;
        let tokenizer = self.networks.tokenizer(&inputs.prompt_options)?;
        let prompts = tokenizer.tokenize(&inputs.prompts)?;
        let negatives = match (settings.classifier_free, inputs.negatives.as_slice()) {
            (false, _) => None,
            (true, []) => Some(tokenizer.tokenize_negative(&[""])?),
            (true, texts) => Some(tokenizer.tokenize_negative(texts)?),
        };
        let model = self.networks.text_encoder()?;
        let dtype = dtype::name(model.compute_dtype());
        let encode = async |tokens| -> Result<PromptEmbeds, PipelineError> {
            let embeds = encode_tokens(model, tokens)?;
            if all_finite(embeds.embeds.clone()).await? {
                return Ok(embeds);
            }
            Err(PipelineError::NotFinite {
                stage: "text",
                place: None,
                dtype: dtype.clone(),
            })
        };
        Ok(TextConditioning {
            prompt: encode(&prompts).await?,
            negative: match &negatives {
                Some(negatives) => Some(encode(negatives).await?),
                None => None,
            },
        })
    }

    /// Loads what [`encode_prompt`](Self::encode_prompt) needs.
    pub(crate) fn load_text(&mut self, settings: &Settings) -> Result<(), PipelineError> {
        if settings.inputs.embeddings.is_some() {
            return Ok(());
        }
        self.networks.tokenizer(&settings.inputs.prompt_options)?;
        self.load_for(Component::TextEncoder)
    }
}

/// Embeddings without the padding that all have, and a mask where there is any left.
pub(super) fn trimmed(embeds: PromptEmbeds) -> (Tensor<3>, Option<Tensor<2>>) {
    let embeds = embeds.trim();
    let padded = embeds.keep().iter().flatten().any(|keep| !keep);
    (embeds.embeds, padded.then_some(embeds.mask))
}
