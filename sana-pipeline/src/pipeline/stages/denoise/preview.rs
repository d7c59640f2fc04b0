//! Images of a run that has not ended.

use std::cell::OnceCell;

use burn::tensor::Tensor;
use sana_dcae::Tiling;

use crate::error::PipelineError;
use crate::image::RgbImage;
use crate::pipeline::networks::Autoencoder;
use crate::pipeline::observer::{PreviewDecoder, PreviewImages};
use crate::pipeline::stages::decode::decode_images;
use crate::pipeline::stages::image_to_image::Composite;
use crate::preview::LatentRgb;
use crate::request::Settings;

/// Makes images of the estimate of a step; decoded, as the result of the run is.
pub(super) struct Preview<'a> {
    pub autoencoder: Autoencoder<'a>,
    /// Whether it may be in memory with the networks of the denoising stage.
    pub may_load: bool,
    pub tiling: Option<Tiling>,
    pub settings: &'a Settings,
    /// What latents are multiplied with in the solver.
    pub unit: f64,
    pub composite: &'a OnceCell<Option<Composite>>,
    pub latent_rgb: Option<&'a LatentRgb>,
}

impl Preview<'_> {
    /// The estimate as scaled latents.
    fn scaled(&self, denoised: Tensor<4>) -> Tensor<4> {
        match self.unit {
            1.0 => denoised,
            unit => denoised.div_scalar(unit),
        }
    }
}

impl PreviewDecoder for Preview<'_> {
    fn colors(&mut self, denoised: Tensor<4>) -> PreviewImages<'_> {
        Box::pin(async move {
            let Some(latent_rgb) = self.latent_rgb else {
                return Ok(None);
            };
            let images = latent_rgb.images_async(self.scaled(denoised)).await;
            images.map(Some)
        })
    }

    fn decode(&mut self, denoised: Tensor<4>) -> PreviewImages<'_> {
        Box::pin(self.decoded(denoised))
    }
}

impl Preview<'_> {
    async fn decoded(
        &mut self,
        denoised: Tensor<4>,
    ) -> Result<Option<Vec<RgbImage>>, PipelineError> {
        if !self.may_load && !self.autoencoder.is_loaded() {
            return Ok(None);
        }
        let latents = self.scaled(denoised);
        let size = self.settings.output_size;
        let images = decode_images(
            self.autoencoder.load()?,
            latents,
            self.tiling,
            size,
            &mut Ok,
        )
        .await?;
        let composite = self.composite.get_or_init(|| Composite::new(self.settings));
        match composite {
            Some(composite) => composite.apply(images).map(Some),
            None => Ok(Some(images)),
        }
    }
}
