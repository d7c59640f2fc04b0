//! Latents to images, and back.

use burn::tensor::{Tensor, read_sync};
use sana_dcae::{DcAe, MemoryOptions, Tiling};

use crate::checkpoint::Component;
use crate::checkpoint::dtype;
use crate::error::PipelineError;
use crate::image::{self, RgbImage, resize_and_crop};
use crate::memory::images_decoded_at_once;
use crate::pipeline::SanaPipeline;
use crate::pipeline::blocking::may_block;
use crate::pipeline::observer::{Deliver, unwrapped};

impl SanaPipeline {
    /// Decodes scaled latents into images of eight bits a channel, in tiles where
    /// [`LoadOptions::tiling`](crate::LoadOptions::tiling) says so or whole images do not fit into
    /// memory.
    ///
    /// # Shapes
    /// - latents `[batch, channels, height, width]`
    ///
    /// # Errors
    /// When the autoencoder cannot be loaded or the latents do not fit it;
    /// [`PipelineError::Memory`] when they cannot be decoded in the memory there is;
    /// [`PipelineError::NotFinite`] when it gives values that are not finite.
    pub fn decode(&mut self, latents: Tensor<4>) -> Result<Vec<RgbImage>, PipelineError> {
        self.decode_each(latents, &mut |_, _| Ok(()))
    }

    /// [`decode`](Self::decode) that gives `deliver` each image, and its index, as soon as it is
    /// decoded, so that it can be kept before the others are there. An error of `deliver` ends the
    /// decoding.
    ///
    /// # Errors
    /// As [`decode`](Self::decode), and [`PipelineError::Observer`].
    pub fn decode_each(
        &mut self,
        latents: Tensor<4>,
        deliver: &mut Deliver<'_>,
    ) -> Result<Vec<RgbImage>, PipelineError> {
        let [images, _, height, width] = latents.dims();
        let size = [width, height].map(|side| side.saturating_mul(self.spec.compression()));
        let tiling = self.plan_decoding(images, size)?;
        let mut index = 0;
        let mut finish = |image: RgbImage| {
            unwrapped(deliver(index, &image))?;
            index += 1;
            Ok(image)
        };
        read_sync(self.decode_images(latents, tiling, None, &mut finish))
    }

    /// [`decode`](Self::decode) in these tiles, resized to `[width, height]` where that is given.
    /// `finish` is given each image as soon as it is decoded.
    pub(crate) async fn decode_images(
        &mut self,
        latents: Tensor<4>,
        tiling: Option<Tiling>,
        size: Option<[usize; 2]>,
        finish: &mut FinishImage<'_>,
    ) -> Result<Vec<RgbImage>, PipelineError> {
        self.load_for(Component::Vae)?;
        let autoencoder = self.networks.autoencoder()?;
        decode_images(autoencoder, latents, tiling, size, finish).await
    }

    /// Decodes scaled latents into images as the autoencoder gives them, all of the batch at
    /// once.
    ///
    /// # Shapes
    /// - latents `[batch, channels, height, width]`
    /// - output `[batch, 3, height * compression, width * compression]`, about [-1, 1], f32
    ///
    /// # Errors
    /// When the autoencoder cannot be loaded or the latents do not fit it.
    pub fn decode_tensor(&mut self, latents: Tensor<4>) -> Result<Tensor<4>, PipelineError> {
        self.load_for(Component::Vae)?;
        let memory = memory_options(self.tiling);
        Ok(self.networks.autoencoder()?.decode_with(latents, &memory)?)
    }

    /// Encodes an image into scaled latents.
    ///
    /// # Shapes
    /// - output `[1, channels, height / compression, width / compression]`, f32
    ///
    /// # Errors
    /// When the autoencoder cannot be loaded or the size is no multiple of the compression ratio;
    /// [`PipelineError::Memory`] when it cannot be encoded in the memory there is.
    pub fn encode_image(&mut self, image: &RgbImage) -> Result<Tensor<4>, PipelineError> {
        let tiling =
            self.plan_encoding(<[u32; 2]>::from(image.dimensions()).map(|n| n as usize))?;
        self.encode_image_in(image, tiling)
    }

    /// [`encode_image`](Self::encode_image) in these tiles.
    pub(crate) fn encode_image_in(
        &mut self,
        image: &RgbImage,
        tiling: Option<Tiling>,
    ) -> Result<Tensor<4>, PipelineError> {
        self.load_for(Component::Vae)?;
        let memory = memory_options(tiling);
        let image = image::to_tensor(image, &self.device);
        Ok(self.networks.autoencoder()?.encode_with(image, &memory)?)
    }

    pub(super) fn autoencoder_dtype(&mut self) -> String {
        self.networks.autoencoder().map_or_else(
            |_| "f32".to_owned(),
            |model| dtype::name(model.compute_dtype()),
        )
    }
}

/// What becomes of an image once it is decoded.
pub(crate) type FinishImage<'a> = dyn FnMut(RgbImage) -> Result<RgbImage, PipelineError> + 'a;

/// Decodes scaled latents in these tiles, resized to `[width, height]` where that is given. `finish`
/// is given each image as soon as it is decoded.
pub(super) async fn decode_images(
    autoencoder: &DcAe,
    latents: Tensor<4>,
    tiling: Option<Tiling>,
    size: Option<[usize; 2]>,
    finish: &mut FinishImage<'_>,
) -> Result<Vec<RgbImage>, PipelineError> {
    let [_, _, height, width] = latents.dims();
    let compression = autoencoder.config().compression();
    let at_once = match tiling {
        Some(_) => 1,
        None => images_decoded_at_once(height * width * compression * compression),
    };
    let mut images = Vec::new();
    for latents in latents.split(at_once, 0) {
        let decoded = autoencoder.decode_with(latents.clone(), &memory_options(tiling))?;
        let decoded = match size {
            Some(size) => resize_and_crop(decoded, size),
            None => decoded,
        };
        let decoded = image::from_tensor_async(decoded).await;
        let decoded = decoded.map_err(|error| match error {
            PipelineError::NotFinite { stage, .. } => PipelineError::NotFinite {
                stage,
                place: may_block(&latents.device())
                    .then(|| autoencoder.locate_non_finite(latents))
                    .flatten(),
                dtype: dtype::name(autoencoder.compute_dtype()),
            },
            other => other,
        })?;
        for image in decoded {
            images.push(finish(image)?);
        }
    }
    Ok(images)
}

/// How the autoencoder works where it works in these tiles.
pub(super) fn memory_options(tiling: Option<Tiling>) -> MemoryOptions {
    MemoryOptions {
        slice: None,
        tiling,
    }
}
