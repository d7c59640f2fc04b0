//! Prompts to embeddings.

use sana_text::encode_tokens;
use sana_text::{PromptEmbeds, PromptOptions};

use super::all_finite;
use crate::checkpoint::Component;
use crate::checkpoint::dtype;
use crate::error::PipelineError;
use crate::pipeline::SanaPipeline;
use crate::request::{InstructionChoice, Request, Settings};

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
        let settings = request.validate(self)?;
        if let Some((prompt, negative)) = request.embeddings.clone() {
            return Ok(TextConditioning {
                prompt,
                negative: negative.filter(|_| settings.classifier_free),
            });
        }
        self.load_text(request)?;
        let options = self.request_prompt_options(request);
        let tokenizer = self.parts.tokenizer(&options)?;
        let prompts = tokenizer.tokenize(&request.prompts)?;
        let negatives = match (settings.classifier_free, request.negatives.as_slice()) {
            (false, _) => None,
            (true, []) => Some(tokenizer.tokenize_negative(&[""])?),
            (true, texts) => Some(tokenizer.tokenize_negative(texts)?),
        };
        let model = self.parts.text_encoder()?;
        let dtype = dtype::name(model.compute_dtype());
        let encode = |tokens| -> Result<PromptEmbeds, PipelineError> {
            let embeds = encode_tokens(model, tokens)?;
            if all_finite(embeds.embeds.clone())? {
                return Ok(embeds);
            }
            Err(PipelineError::NotFinite {
                stage: "text",
                place: None,
                dtype: dtype.clone(),
            })
        };
        Ok(TextConditioning {
            prompt: encode(&prompts)?,
            negative: negatives.as_ref().map(encode).transpose()?,
        })
    }

    /// Loads what [`encode_prompt`](Self::encode_prompt) needs.
    pub(crate) fn load_text(&mut self, request: &Request) -> Result<(), PipelineError> {
        if request.embeddings.is_some() {
            return Ok(());
        }
        let options = self.request_prompt_options(request);
        self.parts.tokenizer(&options)?;
        self.load_for(Component::TextEncoder)
    }

    pub(crate) fn request_prompt_options(&self, request: &Request) -> PromptOptions {
        let own = self.prompt_options();
        PromptOptions {
            instruction: match &request.instruction {
                InstructionChoice::Checkpoint => own.instruction.clone(),
                InstructionChoice::None => None,
                InstructionChoice::Custom(instruction) => Some(instruction.clone()),
            },
            max_tokens: request.max_tokens.unwrap_or(own.max_tokens),
        }
    }

    /// Checks embeddings against a request and the transformer.
    pub(crate) fn check_conditioning(
        &self,
        settings: &Settings,
        prompt: &PromptEmbeds,
        negative: Option<&PromptEmbeds>,
    ) -> Result<(), PipelineError> {
        let channels = self.transformer_config().caption_channels;
        let check = |what: &'static str, embeds: &PromptEmbeds, rows: &[usize]| {
            let [found_rows, tokens, found] = embeds.embeds.dims();
            if rows.contains(&found_rows) && found == channels {
                return Ok(());
            }
            Err(PipelineError::Shape {
                what,
                expected: vec![settings.prompts, tokens, channels],
                found: vec![found_rows, tokens, found],
            })
        };
        check("the prompt embeddings", prompt, &[settings.prompts])?;
        match negative {
            Some(negative) => check("the negative embeddings", negative, &[settings.prompts, 1]),
            None if settings.classifier_free => Err(PipelineError::NoNegative {
                guidance: settings.guidance.scale(),
            }),
            None => Ok(()),
        }
    }
}
