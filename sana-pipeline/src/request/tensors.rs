//! Tensors of a request: whether they fit its settings.

use burn::tensor::Tensor;
use sana_text::PromptEmbeds;

use super::Request;
use super::settings::Settings;
use crate::checkpoint::Solver;
use crate::error::RequestError;

impl Settings {
    /// Checks embeddings against the request and the transformer.
    pub(crate) fn check_conditioning(
        &self,
        prompt: &PromptEmbeds,
        negative: Option<&PromptEmbeds>,
    ) -> Result<(), RequestError> {
        let channels = self.inputs.caption_channels;
        let check = |what: &'static str, embeds: &PromptEmbeds, rows: &[usize]| {
            let [found_rows, tokens, found] = embeds.embeds.dims();
            if rows.contains(&found_rows) && found == channels {
                return Ok(());
            }
            Err(RequestError::Shape {
                what,
                expected: vec![self.prompts, tokens, channels],
                found: vec![found_rows, tokens, found],
            })
        };
        check("the prompt embeddings", prompt, &[self.prompts])?;
        match negative {
            Some(negative) => check("the negative embeddings", negative, &[self.prompts, 1]),
            None if self.classifier_free => Err(RequestError::NoNegative {
                guidance: self.guidance.scale(),
            }),
            None => Ok(()),
        }
    }
}

impl Request {
    pub(super) fn check_tensors(&self, settings: &Settings) -> Result<(), RequestError> {
        let expected = settings.latent_shape();
        let check = |what: &'static str, tensor: &Tensor<4>| match tensor.dims() {
            found if found == expected => Ok(()),
            found => Err(RequestError::Shape {
                what,
                expected: expected.to_vec(),
                found: found.to_vec(),
            }),
        };
        if let Some(latents) = &self.latents {
            check("the initial latents", latents)?;
        }
        let latents = settings.inputs.latent_shape;
        self.image_to_image
            .check_latents(settings.prompts, latents)?;
        if let Some(noise) = &self.step_noise {
            let steps = settings.steps();
            let needed = if settings.solver == Solver::Scm {
                steps - 1
            } else {
                0
            };
            if noise.len() < needed {
                return Err(RequestError::StepNoiseCount {
                    steps,
                    expected: needed,
                    found: noise.len(),
                });
            }
            noise
                .iter()
                .try_for_each(|noise| check("the step noise", noise))?;
        }
        if let Some((prompts, negatives)) = &self.embeddings {
            if !self.prompts.is_empty() && self.prompts.len() != settings.prompts {
                return Err(RequestError::Shape {
                    what: "the prompt embeddings",
                    expected: shape_with_rows(prompts, self.prompts.len()),
                    found: prompts.embeds.dims().to_vec(),
                });
            }
            let negatives = negatives.as_ref().filter(|_| settings.classifier_free);
            settings.check_conditioning(prompts, negatives)?;
        }
        Ok(())
    }
}

fn shape_with_rows(embeds: &PromptEmbeds, rows: usize) -> Vec<usize> {
    let [_, tokens, channels] = embeds.embeds.dims();
    vec![rows, tokens, channels]
}
