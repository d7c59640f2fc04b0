//! The images of a request: to start from, and to control it.

use burn::tensor::Tensor;

use super::Request;
use super::control::ControlImage;
use crate::image::{GrayImage, RgbImage};

impl Request {
    /// An image to start from, the same for all prompts. It is [fitted](crate::image::fit) to the size.
    /// Without a size, the size follows from the image: if it has more pixels than the model was
    /// trained for it is scaled down to as many, and both sides are rounded to the nearest multiple
    /// that the model takes.
    pub fn image(self, image: RgbImage) -> Self {
        self.images([image])
    }

    /// An image for each prompt. The first decides the size where none is set.
    pub fn images(mut self, images: impl IntoIterator<Item = RgbImage>) -> Self {
        self.image_to_image.images = images.into_iter().collect();
        self
    }

    /// Ready latents of the images to start from, scaled, as
    /// [`SanaPipeline::encode_image`](crate::SanaPipeline::encode_image) gives them, in place of
    /// encoding the images. A mask needs the images all the same. The size follows from the latents
    /// unless it is set.
    ///
    /// # Shapes
    /// - latents `[1, channels, height / 32, width / 32]`, or a row for each prompt
    pub fn image_latents(mut self, latents: Tensor<4>) -> Self {
        self.image_to_image.latents = Some(latents);
        self
    }

    /// How far the result may be from the image, in `(0, 1]`: the last `floor(steps * strength)`
    /// steps run, from the image brought to the noise level of the first of them. 0.6 by default;
    /// 1, the whole schedule, where there is a mask.
    pub fn strength(mut self, strength: f64) -> Self {
        self.image_to_image.strength = Some(strength);
        self
    }

    /// Which part of the image is regenerated: white is, black is kept, byte for byte. The mask has
    /// the size of the image, and is fitted with it.
    ///
    /// - On latents, a cell is regenerated if any of its pixels is at least 128, so no pixel that is
    ///   to change depends on a cell that is kept.
    /// - On pixels, the weight of the generated image is `max(value / 255, 1 - d / (feather + 1))`,
    ///   with `d` the distance in pixels to the nearest pixel of at least 128.
    pub fn mask(mut self, mask: GrayImage) -> Self {
        self.image_to_image.mask = Some(mask.into());
        self
    }

    /// Pixels around the white of the mask over which the generated image fades into the given one;
    /// 0 by default. Without effect where there is no mask.
    pub fn mask_feather(mut self, pixels: u32) -> Self {
        self.image_to_image.feather = pixels;
        self
    }

    /// The control image, for all prompts. Needs a ControlNet
    /// ([`LoadOptions::controlnet`](crate::LoadOptions::controlnet)).
    pub fn control(self, image: impl Into<ControlImage>) -> Self {
        self.controls([image])
    }

    /// A control image for each prompt.
    pub fn controls<I>(mut self, images: I) -> Self
    where
        I: IntoIterator<Item: Into<ControlImage>>,
    {
        self.control.images = images.into_iter().map(Into::into).collect();
        self
    }

    /// How strongly the control image is followed, finite and at least 0; 1 by default, as the
    /// ControlNet was trained, and 0 is not at all. Without effect where there is no control
    /// image.
    pub fn control_scale(mut self, scale: f64) -> Self {
        self.control.scale = scale;
        self
    }

    /// The steps in which the control image is followed, as shares of all: from 0.0 to 0.5 is the
    /// first half, which settles the layout. `0 <= start < end <= 1`; all steps by default.
    pub fn control_interval(mut self, start: f64, end: f64) -> Self {
        self.control.interval = [start, end];
        self
    }
}
