//! The scaling factor of an autoencoder, measured on its data.

use burn::tensor::{DType, Device, Tensor, TensorData};
use sana_dcae::{DcAe, DcAeConfig};

use crate::train::data::{DataSource, check_source, checked_sample, shares};
use crate::train::error::TrainError;
use crate::train::optimizer::Parameters;

/// Images that the scaling factor is measured on.
const SCALE_IMAGES: usize = 256;

/// The autoencoder with its scaling factor set so that latents of this data have unit variance.
///
/// # Errors
/// When the data cannot be read, and [`TrainError::LatentScale`] when the latents are all equal or
/// not finite.
pub fn with_measured_scale(
    model: &DcAe,
    data: &dyn DataSource,
    seed: u64,
    device: &Device,
) -> Result<DcAe, TrainError> {
    let std = latent_std(model, data, SCALE_IMAGES, seed, device)?;
    let scaling_factor = scale_of(std).ok_or(TrainError::LatentScale { std })?;
    let config = DcAeConfig {
        scaling_factor,
        ..model.config().clone()
    };
    Ok(Parameters::of(model).write_into(config.init(device), false))
}

/// The scaling factor that goes with this standard deviation, if both are finite.
pub fn scale_of(std: f64) -> Option<f64> {
    let scale = 1.0 / std;
    (scale.is_finite() && std.is_finite()).then_some(scale)
}

/// Standard deviation of raw latents over `count` images: its reciprocal is the autoencoder's
/// scaling factor.
///
/// # Errors
/// When an image cannot be read or has a size that does not divide.
pub fn latent_std(
    model: &DcAe,
    data: &dyn DataSource,
    count: usize,
    seed: u64,
    device: &Device,
) -> Result<f64, TrainError> {
    let (mut sum, mut squares, mut total) = (0f64, 0f64, 0f64);
    check_source(data)?;
    // A second look at the same images adds nothing, so each bucket gives no more than it has.
    for (bucket, count) in shares(data.buckets(), count).into_iter().enumerate() {
        let [width, height] = data.buckets()[bucket].size;
        for image in 0..count {
            let sample = checked_sample(data, seed, bucket, image as u64)?;
            let pixels = TensorData::new(sample.pixels, [1, 3, height, width]);
            let latents = model.encode_raw(Tensor::from_data(pixels, (device, DType::F32)))?;
            for value in latents.into_data().iter::<f32>().map(f64::from) {
                sum += value;
                squares += value * value;
                total += 1.0;
            }
        }
    }
    let mean = sum / total;
    let variance = squares / total - mean * mean;
    // Below zero by rounding alone; not a number stays one.
    Ok(if variance < 0.0 { 0.0 } else { variance.sqrt() })
}
