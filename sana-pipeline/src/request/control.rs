//! Control images: what a ControlNet makes the generated image follow.

use std::sync::Arc;

use burn::tensor::Tensor;

use crate::error::RequestError;
use crate::image::RgbImage;
use crate::spec::ModelSpec;

/// What a ControlNet follows.
#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "a request has a handful of them, and a plain tensor is easier to give than a boxed one"
)]
pub enum ControlImage {
    /// An image of the kind that the ControlNet was trained on, such as white lines on black. It is
    /// [fitted](crate::image::fit) to the size of the request and encoded by the autoencoder.
    Image(RgbImage),
    /// Its scaled latents `[1, channels, height / compression, width / compression]`, as
    /// [`encode_image`](crate::SanaPipeline::encode_image) gives them.
    Latents(Tensor<4>),
}

impl From<RgbImage> for ControlImage {
    fn from(image: RgbImage) -> Self {
        Self::Image(image)
    }
}

/// The part of a request that is about control.
#[derive(Debug, Clone)]
pub(crate) struct ControlRequest {
    pub images: Arc<[ControlImage]>,
    pub scale: f64,
    pub interval: [f64; 2],
}

impl Default for ControlRequest {
    fn default() -> Self {
        Self {
            images: Arc::new([]),
            scale: 1.0,
            interval: [0.0, 1.0],
        }
    }
}

/// How strongly, and in which of the steps, a ControlNet is followed.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct ControlSettings {
    /// What the residuals are multiplied by.
    pub scale: f64,
    /// Share of the steps before the first with control.
    pub start: f64,
    /// Share of the steps up to and with the last with control.
    pub end: f64,
}

impl ControlSettings {
    /// Whether step `index`, from 0, of `steps` lies in the interval, as a whole:
    /// `start <= index / steps` and `(index + 1) / steps <= end`.
    pub fn applies(&self, index: usize, steps: usize) -> bool {
        let share = |steps_done: usize| steps_done as f64 / steps as f64;
        share(index) >= self.start && share(index + 1) <= self.end
    }

    /// Whether there is any control at all.
    pub fn is_active(&self) -> bool {
        self.scale > 0.0
    }
}

impl ControlRequest {
    /// Checks it against a model and the rest of a request: prompts, and the shape of latents of
    /// one image. `None` without a control image.
    pub fn validate(
        &self,
        spec: &ModelSpec,
        prompts: usize,
        latents: [usize; 3],
    ) -> Result<Option<ControlSettings>, RequestError> {
        let controlnet = spec.controlnet.as_ref();
        let images = self.images.len();
        if images == 0 {
            return match controlnet.filter(|controlnet| controlnet.is_requested()) {
                Some(controlnet) => Err(RequestError::NoControlImage {
                    folder: controlnet.folder().to_path_buf(),
                }),
                None => Ok(None),
            };
        }
        if controlnet.is_none() {
            return Err(RequestError::NoControlNet);
        }
        if images > 1 && images != prompts {
            return Err(RequestError::ControlCount {
                expected: prompts,
                found: images,
            });
        }
        if !(self.scale >= 0.0 && self.scale.is_finite()) {
            return Err(RequestError::ControlScale { found: self.scale });
        }
        let [start, end] = self.interval;
        if !(0.0 <= start && start < end && end <= 1.0) {
            return Err(RequestError::ControlInterval { start, end });
        }
        for image in self.images.iter() {
            check_image(image, latents)?;
        }
        Ok(Some(ControlSettings {
            scale: self.scale,
            start,
            end,
        }))
    }
}

fn check_image(image: &ControlImage, latents: [usize; 3]) -> Result<(), RequestError> {
    let [channels, height, width] = latents;
    let expected = [1, channels, height, width];
    match image {
        ControlImage::Image(image) if image.as_raw().is_empty() => Err(RequestError::EmptyImage {
            what: "the control image",
        }),
        ControlImage::Latents(latents) if latents.dims() != expected => Err(RequestError::Shape {
            what: "the control latents",
            expected: expected.to_vec(),
            found: latents.dims().to_vec(),
        }),
        ControlImage::Image(_) | ControlImage::Latents(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_an_interval() {
        let steps = |start, end, steps: usize| -> Vec<usize> {
            let settings = ControlSettings {
                scale: 1.0,
                start,
                end,
            };
            let steps_with_control = (0..steps).filter(|index| settings.applies(*index, steps));
            steps_with_control.collect()
        };
        assert_eq!(steps(0.0, 1.0, 4), [0, 1, 2, 3]);
        assert_eq!(steps(0.0, 0.5, 4), [0, 1]);
        assert_eq!(steps(0.5, 1.0, 4), [2, 3]);
        assert_eq!(steps(0.3, 0.7, 10), [3, 4, 5, 6]);
        assert_eq!(steps(0.1, 0.2, 4), [0usize; 0]);
        assert_eq!(steps(0.0, 1.0, 1), [0]);
    }
}
