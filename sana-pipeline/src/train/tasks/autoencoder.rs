use std::ops::Range;

use burn::tensor::{DType, Device, Tensor, TensorData};
use sana_dcae::DcAe;
use sana_sampler::noise::{self, Stream};
use serde::{Deserialize, Serialize};

use super::task::Task;
use crate::train::data::Data;
use crate::train::error::{TrainError, at_least_one, not_negative};

/// Options of the autoencoder's training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AutoencoderOptions {
    /// Images of a step. Default 16.
    pub batch: usize,
    /// Weight of the mean absolute error, added to the mean square error. Default 0.2.
    pub absolute: f64,
    /// Standard deviation of the noise added to latents before decoding, so that the decoder
    /// tolerates the errors of a diffusion model. Default 0.05.
    pub latent_noise: f64,
    /// Weight of the mean square of the latents, which keeps them from outgrowing that noise.
    /// Default 1e-4.
    pub latent_decay: f64,
    /// Seed of data and noise. Default 0.
    pub seed: u64,
}

impl Default for AutoencoderOptions {
    fn default() -> Self {
        Self {
            batch: 16,
            absolute: 0.2,
            latent_noise: 0.05,
            latent_decay: 1e-4,
            seed: 0,
        }
    }
}

/// Reconstruction of images:
///
/// ```text
/// z    = encode(x)
/// y    = decode(z + latent_noise n)
/// loss = mean (y - x)^2 + absolute mean |y - x| + latent_decay mean z^2
/// ```
#[derive(Debug)]
pub struct AutoencoderTask {
    /// Images.
    pub data: Data,
    /// Options.
    pub options: AutoencoderOptions,
    /// Where the training runs, without autodiff.
    pub device: Device,
}

impl AutoencoderTask {
    /// The images of a step's samples, `[images, 3, size, size]`.
    fn images(&self, step: usize, samples: Range<usize>) -> Result<Tensor<4>, TrainError> {
        let size = self.data.size();
        let count = samples.len();
        let mut pixels = Vec::with_capacity(count * 3 * size * size);
        for sample in samples {
            let image = (step * self.options.batch + sample) as u64;
            let mut rng = noise::generator(self.options.seed, image, Stream::Initial);
            pixels.extend(self.data.image(&mut rng)?);
        }
        let data = TensorData::new(pixels, [count, 3, size, size]);
        Ok(Tensor::from_data(data, (&self.device, DType::F32)))
    }
}

impl AutoencoderOptions {
    /// Checks that every option is in its range.
    ///
    /// # Errors
    /// [`TrainError::Option`].
    pub fn validate(&self) -> Result<(), TrainError> {
        at_least_one("batch", self.batch)?;
        not_negative("absolute", self.absolute)?;
        not_negative("latent_noise", self.latent_noise)?;
        not_negative("latent_decay", self.latent_decay)
    }
}

impl Task for AutoencoderTask {
    type Model = DcAe;

    fn batch(&self) -> usize {
        self.options.batch
    }

    fn validate(&self) -> Result<(), TrainError> {
        self.options.validate()
    }

    fn loss(
        &self,
        model: &DcAe,
        step: usize,
        samples: Range<usize>,
    ) -> Result<Tensor<1>, TrainError> {
        let AutoencoderOptions {
            absolute,
            latent_noise,
            latent_decay,
            seed,
            batch,
        } = self.options;
        let first = (step * batch + samples.start) as u64;
        let images = self.images(step, samples)?.autodiff();
        let latents = model.encode_raw(images.clone())?;
        let noisy = if latent_noise > 0.0 {
            let shape = latents.dims();
            let n: Tensor<4> = noise::step_noise(seed, first, 0, shape, &self.device);
            latents.clone() + n.autodiff() * latent_noise
        } else {
            latents.clone()
        };
        let difference = model.decode_raw(noisy)? - images;
        Ok(difference.clone().square().mean()
            + difference.abs().mean() * absolute
            + latents.square().mean() * latent_decay)
    }
}

/// Standard deviation of raw latents over `count` images: its reciprocal is the autoencoder's
/// scaling factor.
///
/// # Errors
/// When an image cannot be read or has a size that does not divide.
pub fn latent_std(
    model: &DcAe,
    data: &Data,
    count: usize,
    seed: u64,
    device: &Device,
) -> Result<f64, TrainError> {
    let (mut sum, mut squares, mut total) = (0f64, 0f64, 0f64);
    for image in 0..count {
        let mut rng = noise::generator(seed, image as u64, Stream::Initial);
        let size = data.size();
        let pixels = TensorData::new(data.sample(&mut rng)?.pixels, [1, 3, size, size]);
        let latents = model.encode_raw(Tensor::from_data(pixels, (device, DType::F32)))?;
        for value in latents.into_data().iter::<f32>().map(f64::from) {
            sum += value;
            squares += value * value;
            total += 1.0;
        }
    }
    let mean = sum / total;
    let variance = squares / total - mean * mean;
    // Below zero by rounding alone; not a number stays one.
    Ok(if variance < 0.0 { 0.0 } else { variance.sqrt() })
}
