//! Latents to pictures, and back.

use burn::tensor::Tensor;
use sana_dcae::MemoryOptions;

use crate::checkpoint::Part;
use crate::dtype;
use crate::error::PipelineError;
use crate::image::{self, RgbImage};
use crate::pipeline::SanaPipeline;

/// Pixels that are decoded at a time, so that a batch of large pictures needs no more memory than
/// one of them: one picture of 1024 x 1024.
const DECODED_PIXELS: usize = 1 << 20;

impl SanaPipeline {
    /// Decodes scaled latents into pictures of eight bits a channel.
    ///
    /// # Shapes
    /// - latents `[batch, channels, height, width]`
    ///
    /// # Errors
    /// When the autoencoder cannot be loaded or the latents do not fit it;
    /// [`PipelineError::NotFinite`] when it gives values that are not finite.
    pub fn decode(&mut self, latents: Tensor<4>) -> Result<Vec<RgbImage>, PipelineError> {
        let [_, _, height, width] = latents.dims();
        let pixels = height * width * self.compression() * self.compression();
        let pictures = (DECODED_PIXELS / pixels.max(1)).max(1);
        let mut images = Vec::new();
        for latents in latents.split(pictures, 0) {
            let decoded = self.decode_tensor(latents)?;
            images.extend(image::from_tensor(decoded).map_err(|error| match error {
                PipelineError::NotFinite { stage, .. } => PipelineError::NotFinite {
                    stage,
                    dtype: self.autoencoder_dtype(),
                },
                other => other,
            })?);
        }
        Ok(images)
    }

    /// Decodes scaled latents into pictures as the autoencoder gives them, all of the batch at
    /// once.
    ///
    /// # Shapes
    /// - latents `[batch, channels, height, width]`
    /// - output `[batch, 3, height * compression, width * compression]`, about [-1, 1], f32
    ///
    /// # Errors
    /// When the autoencoder cannot be loaded or the latents do not fit it.
    pub fn decode_tensor(&mut self, latents: Tensor<4>) -> Result<Tensor<4>, PipelineError> {
        self.load_for(Part::Vae)?;
        let memory = MemoryOptions {
            slice: None,
            tiling: self.tiling,
        };
        Ok(self.parts.autoencoder()?.decode_with(latents, &memory)?)
    }

    /// Encodes a picture into scaled latents.
    ///
    /// # Shapes
    /// - output `[1, channels, height / compression, width / compression]`, f32
    ///
    /// # Errors
    /// When the autoencoder cannot be loaded or the size is no multiple of the compression ratio.
    pub fn encode_image(&mut self, picture: &RgbImage) -> Result<Tensor<4>, PipelineError> {
        self.load_for(Part::Vae)?;
        let memory = MemoryOptions {
            slice: None,
            tiling: self.tiling,
        };
        let picture = image::to_tensor(picture, &self.device);
        Ok(self.parts.autoencoder()?.encode_with(picture, &memory)?)
    }

    pub(super) fn autoencoder_dtype(&mut self) -> String {
        self.parts.autoencoder().map_or_else(
            |_| "f32".to_owned(),
            |model| dtype::name(model.compute_dtype()),
        )
    }
}
