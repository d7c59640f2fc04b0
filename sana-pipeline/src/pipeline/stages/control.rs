//! Control images to latents, and the ControlNet as the steps call it.

use std::cell::OnceCell;

use burn::tensor::{DType, Tensor, read_sync};
use sana_dcae::Tiling;
use sana_linear_attn::transformer::{ControlInput, Positions, Residuals, Sinusoids, TextContext};
use sana_linear_attn::{ControlWiring, SanaControlNet};
use sana_text::PromptEmbeds;

use super::all_finite;
use super::text::trimmed;
use crate::error::PipelineError;
use crate::image;
use crate::pipeline::SanaPipeline;
use crate::request::{ControlImage, ControlSettings};
use crate::request::{Request, Settings};

impl SanaPipeline {
    /// Encodes the control images of a request into scaled latents. `None` without a control
    /// image, or with a control scale of 0.
    ///
    /// [`sample`](Self::sample) does it by itself. Where one stage runs at a time, the autoencoder
    /// takes the place of what was loaded, and the transformer its place afterwards.
    ///
    /// # Shapes
    /// - output `[1, channels, height / compression, width / compression]`, f32, or `[prompts, ..]`
    ///   with an image for each prompt
    ///
    /// # Errors
    /// When the request is not valid, the autoencoder cannot be loaded, or
    /// [`PipelineError::NotFinite`] when it gives values that are not finite.
    pub fn encode_control(
        &mut self,
        request: &Request,
    ) -> Result<Option<Tensor<4>>, PipelineError> {
        let settings = request.validate(&self.spec)?;
        read_sync(self.encode_control_images(&settings, self.tiling))
    }

    /// The stage [`encode_control`](Self::encode_control).
    pub(crate) async fn encode_control_images(
        &mut self,
        settings: &Settings,
        tiling: Option<Tiling>,
    ) -> Result<Option<Tensor<4>>, PipelineError> {
        if !settings.control.is_some_and(|control| control.is_active()) {
            return Ok(None);
        }
        let images = &settings.inputs.control_images;
        let mut latents = Vec::with_capacity(images.len());
        for control in images.iter() {
            latents.push(match control {
                ControlImage::Image(image) => {
                    let (width, height) = (settings.width as u32, settings.height as u32);
                    self.encode_image_in(&image::fit(image, width, height), tiling)?
                }
                ControlImage::Latents(latents) => {
                    latents.clone().to_device(&self.device).cast(DType::F32)
                }
            });
        }
        let latents = Tensor::cat(latents, 0);
        if all_finite(latents.clone()).await? {
            return Ok(Some(latents));
        }
        Err(PipelineError::NotFinite {
            stage: "control",
            place: None,
            dtype: self.autoencoder_dtype(),
        })
    }
}

/// A ControlNet with everything that does not change between the steps of a run.
pub(super) struct ControlRun<'a> {
    network: &'a SanaControlNet,
    settings: ControlSettings,
    steps: usize,
    images: usize,
    prompt: PromptEmbeds,
    /// Keys and values of the prompts alone, made at the first step that needs them.
    plain: OnceCell<TextContext>,
    /// Keys and values of `[negative, prompt]`, with classifier-free guidance.
    guided: Option<TextContext>,
    /// `[1 or images, tokens, width]`.
    condition: Tensor<3>,
    positions: Option<Positions>,
}

/// What the ControlNet adds at one step.
pub(super) enum StepResiduals<'a> {
    Ready(Vec<Tensor<3>>),
    FromTokens(Box<dyn Fn(Tensor<3>) -> Vec<Tensor<3>> + 'a>),
}

impl StepResiduals<'_> {
    pub fn input(&self) -> Residuals<'_> {
        match self {
            Self::Ready(residuals) => Residuals::Ready(residuals),
            Self::FromTokens(make) => Residuals::FromTokens(make.as_ref()),
        }
    }
}

impl<'a> ControlRun<'a> {
    /// For the latents of [`SanaPipeline::encode_control`]; `guided` are the embeddings of
    /// `[negative, prompt]`.
    pub fn new(
        network: &'a SanaControlNet,
        control: ControlSettings,
        latents: Tensor<4>,
        settings: &Settings,
        prompt: PromptEmbeds,
        guided: Option<PromptEmbeds>,
    ) -> Self {
        let [_, _, height, width] = latents.dims();
        let positions = network.positions([height, width], &latents.device());
        let condition = network.condition(latents);
        let condition = match condition.dims()[0] {
            1 => condition,
            rows => {
                let each = (0..rows).flat_map(|row| std::iter::repeat_n(row, settings.count));
                let row = |row| condition.clone().narrow(0, row, 1);
                Tensor::cat(each.map(row).collect(), 0)
            }
        };
        // For negatives and prompts, in steps that are guided.
        let condition = match (condition.dims()[0], &guided) {
            (1, _) | (_, None) => condition,
            _ => Tensor::cat(vec![condition.clone(), condition], 0),
        };
        Self {
            network,
            settings: control,
            steps: settings.steps(),
            images: settings.images(),
            prompt,
            plain: OnceCell::new(),
            guided: guided.map(|both| context(network, both)),
            condition,
            positions,
        }
    }

    /// The residuals of step `index`, from 0, for the transformer's own inputs: `[images, ..]`,
    /// or `[2 * images, ..]` for negatives and prompts. None where the step has no control.
    pub fn residuals(
        &self,
        index: usize,
        latents: Tensor<4>,
        timestep: Sinusoids,
    ) -> StepResiduals<'_> {
        if !self.settings.applies(index, self.steps) {
            return StepResiduals::Ready(Vec::new());
        }
        let [batch, _, height, width] = latents.dims();
        let both = batch > self.images;
        let condition = match self.condition.dims()[0] {
            rows if rows > self.images && !both => self.condition.clone().narrow(0, 0, self.images),
            _ => self.condition.clone(),
        };
        let text = self.guided.as_ref().filter(|_| both);
        let text = text.unwrap_or_else(|| self.plain());
        let network = self.network;
        let input = ControlInput {
            timestep,
            context: text,
            condition,
            positions: self.positions.as_ref(),
            scale: self.settings.scale,
        };
        match network.config().wiring {
            ControlWiring::Diffusers => StepResiduals::Ready(network.forward(latents, input)),
            ControlWiring::Original => {
                let patch = network.config().transformer.patch_size;
                let grid = [height / patch, width / patch];
                StepResiduals::FromTokens(Box::new(move |tokens| {
                    network.forward_from_tokens(tokens, grid, input.clone())
                }))
            }
        }
    }

    fn plain(&self) -> &TextContext {
        self.plain.get_or_init(|| match &self.guided {
            Some(both) => both.items(self.images..2 * self.images),
            None => context(self.network, self.prompt.clone()),
        })
    }
}

fn context(network: &SanaControlNet, embeds: PromptEmbeds) -> TextContext {
    let (caption, mask) = trimmed(embeds);
    network.text_context(caption, mask)
}
