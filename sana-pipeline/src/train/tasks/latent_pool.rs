use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use burn::tensor::{DType, Device, Tensor, TensorData};
use sana_dcae::DcAe;
use sana_linear_attn::precision::is_cpu;

use crate::train::data::{DataSource, check_source, checked_sample, shares};
use crate::train::error::{TrainError, at_least_one};
use crate::train::memory;

/// Pixels that a thread encodes at a time: 16 images of 512 pixels.
const PIXELS_AT_ONCE: usize = 16 * 512 * 512;

/// Images that a thread encodes at a time, up to 16.
fn batch([width, height]: [usize; 2]) -> usize {
    (PIXELS_AT_ONCE / width.saturating_mul(height).max(1)).clamp(1, 16)
}

/// Which images of a data source a pool has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolOptions {
    /// Number of images, at least 1; of a folder all, if there are fewer.
    pub count: usize,
    /// Seed of the source's samples.
    pub seed: u64,
    /// 0 is the first `count` images, 1 the next ones, and so on: a pool can be renewed in the course
    /// of a run.
    pub round: usize,
}

/// Images encoded ahead of training, since the autoencoder is not trained with them: scaled latents and
/// captions.
#[derive(Debug)]
pub struct LatentPool {
    /// At least one, none of them empty.
    buckets: Vec<Latents>,
}

/// Those of one size.
#[derive(Debug)]
pub struct Latents {
    /// Channels, height and width of each latent.
    pub shape: [usize; 3],
    values: Vec<f32>,
    captions: Vec<String>,
}

/// Images of one bucket that are encoded together.
#[derive(Debug, Clone)]
struct Batch {
    bucket: usize,
    images: Range<u64>,
}

/// Latents and captions of a batch.
type Encoded = (Vec<f32>, Vec<String>);

impl LatentPool {
    /// Encodes images in batches, on the CPU on threads of their own, on a GPU on the calling thread
    /// alone. `observe` is called with how many are done. The images are divided among the
    /// [buckets](crate::train::Bucket) by the number that each has, equally where there is no end.
    /// Each image of a folder is encoded once, so there are never more than it has.
    ///
    /// # Errors
    /// When the number is zero, the pool does not fit into memory, an image cannot be read or its
    /// size does not fit the autoencoder.
    pub fn encode(
        autoencoder: &DcAe,
        data: &dyn DataSource,
        options: PoolOptions,
        device: &Device,
        observe: impl Fn(usize) + Sync,
    ) -> Result<Self, TrainError> {
        at_least_one("pool", options.count)?;
        check_source(data)?;
        let counts = shares(data.buckets(), options.count);
        let sizes = data.buckets().iter().map(|bucket| bucket.size);
        let parts: Vec<_> = sizes.clone().zip(counts.iter().copied()).collect();
        memory::check_pool(autoencoder.config(), &parts, device)?;
        let batches = batches(&parts, options.round);
        let encoded = encode_all(autoencoder, data, &batches, options.seed, device, observe)?;

        let config = autoencoder.config();
        let mut buckets: Vec<Latents> = sizes
            .map(|size| {
                let [width, height] = size.map(|side| side / config.compression());
                Latents {
                    shape: [config.latent_channels, height, width],
                    values: Vec::new(),
                    captions: Vec::new(),
                }
            })
            .collect();
        for (batch, (values, captions)) in batches.iter().zip(encoded) {
            let bucket = &mut buckets[batch.bucket];
            bucket.values.extend(values);
            bucket.captions.extend(captions);
        }
        buckets.retain(|bucket| bucket.len() > 0);
        Ok(Self { buckets })
    }

    /// A pool of given latents `[channels, height, width]` each, one after the other.
    ///
    /// # Panics
    /// If they are empty, or their number is not that of the captions.
    pub fn new(shape: [usize; 3], latents: Vec<f32>, captions: Vec<String>) -> Self {
        assert!(!captions.is_empty(), "a pool of at least one image");
        assert_eq!(
            latents.len(),
            captions.len() * shape.iter().product::<usize>()
        );
        Self {
            buckets: vec![Latents {
                shape,
                values: latents,
                captions,
            }],
        }
    }

    /// The latents of this pool and of another one, which may have another height and width.
    pub fn and(mut self, other: Self) -> Self {
        self.buckets.extend(other.buckets);
        self
    }

    /// Number of images, at least one.
    pub fn len(&self) -> usize {
        self.buckets.iter().map(Latents::len).sum()
    }

    /// Whether it is empty: never.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(in crate::train) fn buckets(&self) -> &[Latents] {
        &self.buckets
    }

    /// Values of the largest latent.
    pub(super) fn largest_latent(&self) -> f64 {
        let sizes = self.buckets.iter().map(|bucket| bucket.shape);
        let values = sizes.map(|shape| shape.iter().map(|side| *side as f64).product());
        values.fold(0.0, f64::max)
    }
}

impl Latents {
    pub fn len(&self) -> usize {
        self.captions.len()
    }

    pub fn caption(&self, index: usize) -> &str {
        &self.captions[index]
    }

    pub fn latent(&self, index: usize) -> &[f32] {
        let length = self.shape.iter().product::<usize>();
        &self.values[index * length..(index + 1) * length]
    }
}

/// The batches of a round, in order: of each bucket, of its size, as many images as it gives.
fn batches(parts: &[([usize; 2], usize)], round: usize) -> Vec<Batch> {
    let mut batches = Vec::new();
    for (bucket, (size, count)) in parts.iter().enumerate() {
        let start = round as u64 * *count as u64;
        for first in (0..*count).step_by(batch(*size)) {
            let end = (first + batch(*size)).min(*count);
            let images = start + first as u64..start + end as u64;
            batches.push(Batch { bucket, images });
        }
    }
    batches
}

/// Encodes batches on threads that share them, in the order in which they are given.
fn encode_all(
    autoencoder: &DcAe,
    data: &dyn DataSource,
    batches: &[Batch],
    seed: u64,
    device: &Device,
    observe: impl Fn(usize) + Sync,
) -> Result<Vec<Encoded>, TrainError> {
    let threads = threads(device).min(batches.len());
    let next = AtomicUsize::new(0);
    let done = Mutex::new((0, Vec::new()));
    let work = |autoencoder: DcAe| -> Result<(), TrainError> {
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(batch) = batches.get(place) else {
                return Ok(());
            };
            let encoded = encode_batch(&autoencoder, data, batch, seed, device)
                .inspect_err(|_| next.store(batches.len(), Ordering::Relaxed))?; // for the others too
            let mut done = done.lock().unwrap_or_else(|poison| poison.into_inner());
            done.0 += encoded.1.len();
            done.1.push((place, encoded));
            observe(done.0);
        }
    };
    let results: Vec<Result<(), TrainError>> = thread::scope(|scope| {
        // Where the system gives fewer threads, those that there are do the work.
        let workers: Vec<_> = (1..threads)
            .map_while(|_| {
                let autoencoder = autoencoder.clone();
                let work = &work;
                thread::Builder::new()
                    .spawn_scoped(scope, move || work(autoencoder))
                    .ok()
            })
            .collect();
        let own = work(autoencoder.clone());
        let joined = workers.into_iter().map(|worker| match worker.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        std::iter::once(own).chain(joined).collect()
    });
    results.into_iter().collect::<Result<(), TrainError>>()?;
    let (_, mut encoded) = done
        .into_inner()
        .unwrap_or_else(|poison| poison.into_inner());
    encoded.sort_by_key(|(place, _)| *place);
    Ok(encoded.into_iter().map(|(_, encoded)| encoded).collect())
}

/// Threads that may encode at once. On burn's GPU backends with kernel fusion, what one thread queued
/// was seen to be missing in another: values came back as 0.
fn threads(device: &Device) -> usize {
    match is_cpu(device) {
        true => thread::available_parallelism().map_or(1, usize::from),
        false => 1,
    }
}

fn encode_batch(
    autoencoder: &DcAe,
    data: &dyn DataSource,
    batch: &Batch,
    seed: u64,
    device: &Device,
) -> Result<Encoded, TrainError> {
    let [width, height] = data.buckets()[batch.bucket].size;
    let (mut pixels, mut captions) = (Vec::new(), Vec::new());
    for image in batch.images.clone() {
        let sample = checked_sample(data, seed, batch.bucket, image)?;
        pixels.extend(sample.pixels);
        captions.push(sample.caption);
    }
    let pixels = TensorData::new(pixels, [captions.len(), 3, height, width]);
    let latents = autoencoder.encode(Tensor::from_data(pixels, (device, DType::F32)))?;
    Ok((latents.into_data().iter::<f32>().collect(), captions))
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use super::*;
    use sana_linear_attn::parity::device;

    /// Threads share the CPU, and none shares a GPU.
    #[test]
    fn threads_are_for_the_cpu() {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        assert_eq!(threads(&Device::flex()), cores);
        let device = device();
        let expected = if device == Device::flex() { cores } else { 1 };
        assert_eq!(threads(&device), expected);
    }
}
