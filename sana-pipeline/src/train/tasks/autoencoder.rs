use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{DType, Device, Tensor, TensorData};
use sana_dcae::DcAe;
use sana_sampler::noise;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::latent_scale::{latent_std, scale_of};
use super::task::Task;
use crate::train::data::{Bucket, DataSource, Place, check_source, checked_image, weights};
use crate::train::error::{TrainError, at_least_one, not_negative};
use crate::train::memory;
use crate::train::run::Settings;

/// Images that show before a save whether the latents have a scale.
const CHECKED_IMAGES: usize = 4;

/// Options of the autoencoder's training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AutoencoderOptions {
    /// Images of a step. Default 16.
    pub batch: usize,
    /// Weight of the mean absolute error, added to the mean square error. Default 0.2.
    pub absolute: f64,
    /// Weight of the mean absolute error of edges: of the differences between neighbouring pixels, along
    /// and down. Default 0.
    #[serde(default)]
    pub edges: f64,
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
            edges: 0.0,
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
/// d    = y - x
/// loss = mean d^2 + absolute mean |d| + latent_decay mean z^2
///      + edges (mean |d[.., 1:] - d[.., :-1]| + mean |d[1:, ..] - d[:-1, ..]|)
/// ```
#[derive(Debug)]
pub struct AutoencoderTask {
    /// Images. Each step has those of one [bucket](crate::train::Bucket), drawn from seed and step.
    pub data: Arc<dyn DataSource>,
    /// Options.
    pub options: AutoencoderOptions,
    /// Where the training runs, without autodiff.
    pub device: Device,
}

impl AutoencoderTask {
    /// The images of a step's samples, `[images, 3, height, width]`.
    fn images(&self, step: usize, samples: Range<usize>) -> Result<Tensor<4>, TrainError> {
        let AutoencoderOptions { seed, batch, .. } = self.options;
        let buckets = self.data.buckets();
        // A bucket's images are gone through in their order, however many steps others have had.
        let Place { bucket, earlier } = Place::of(seed, step, &weights(buckets));
        let [width, height] = buckets[bucket].size;
        let count = samples.len();
        let mut pixels = Vec::with_capacity(count * 3 * height * width);
        for sample in samples {
            let index = (earlier * batch + sample) as u64;
            pixels.extend(checked_image(&*self.data, seed, bucket, index)?);
        }
        let data = TensorData::new(pixels, [count, 3, height, width]);
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
        not_negative("edges", self.edges)?;
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
        self.options.validate()?;
        check_source(&*self.data)?;
        let areas = self.data.buckets().iter().map(Bucket::area);
        let pixels = 3.0 * areas.fold(0.0, f64::max);
        memory::check_batch("images", self.options.batch, pixels, &self.device)
    }

    fn settings(&self) -> Settings {
        let AutoencoderOptions {
            batch,
            absolute,
            edges,
            latent_noise,
            latent_decay,
            seed,
        } = self.options;
        let mut settings = self.data.settings();
        settings.extend(
            [
                ("batch", json!(batch)),
                ("absolute", json!(absolute)),
                ("latent_noise", json!(latent_noise)),
                ("latent_decay", json!(latent_decay)),
                ("seed", json!(seed)),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        // Runs from before there was this term continue without it.
        if edges > 0.0 {
            settings.insert("edges".to_owned(), json!(edges));
        }
        settings
    }

    /// Latents must have a scale that can be written.
    fn check(&self, model: &DcAe, step: usize) -> Result<(), TrainError> {
        let std = latent_std(
            model,
            &*self.data,
            CHECKED_IMAGES,
            self.options.seed,
            &self.device,
        )?;
        if scale_of(std).is_some() {
            return Ok(());
        }
        Err(TrainError::Diverged {
            step,
            quantity: "the standard deviation of the latents".to_owned(),
            value: std as f32,
        })
    }

    fn loss(
        &self,
        model: &DcAe,
        step: usize,
        samples: Range<usize>,
    ) -> Result<Tensor<1>, TrainError> {
        let AutoencoderOptions {
            absolute,
            edges,
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
        let mut loss = difference.clone().square().mean()
            + difference.clone().abs().mean() * absolute
            + latents.square().mean() * latent_decay;
        if edges > 0.0 {
            loss = loss + edge_error(difference) * edges;
        }
        Ok(loss)
    }
}

/// The mean absolute difference between neighbours along, plus that of neighbours down.
fn edge_error(difference: Tensor<4>) -> Tensor<1> {
    let neighbours = |dim: usize| {
        let length = difference.dims()[dim] - 1;
        let next = difference.clone().narrow(dim, 1, length);
        (next - difference.clone().narrow(dim, 0, length))
            .abs()
            .mean()
    };
    neighbours(3) + neighbours(2)
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use super::*;

    #[test]
    fn edges_are_differences_of_neighbours() {
        let rows = [[1.0, 3.0, 0.0], [1.0, -1.0, 0.0]];
        let difference = Tensor::<2>::from_data(rows, &Device::flex()).reshape([1, 1, 2, 3]);
        // Along 2, 3, 2 and 1, down 0, 4 and 0.
        let error = edge_error(difference).into_scalar::<f32>();
        assert!((error - (2.0 + 4.0 / 3.0)).abs() < 1e-6, "{error}");
    }
}
