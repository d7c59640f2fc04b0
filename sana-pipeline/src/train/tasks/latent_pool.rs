use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use burn::tensor::{DType, Device, Tensor, TensorData};
use sana_dcae::DcAe;
use sana_linear_attn::precision::is_cpu;

use crate::train::data::Data;
use crate::train::error::{TrainError, at_least_one};
use crate::train::memory;

/// Pixels that a thread encodes at a time: 16 images of 512 pixels.
const PIXELS_AT_ONCE: usize = 16 * 512 * 512;

/// Images that a thread encodes at a time, up to 16.
fn batch(size: usize) -> usize {
    (PIXELS_AT_ONCE / size.saturating_mul(size).max(1)).clamp(1, 16)
}

/// Images encoded ahead of training, since the autoencoder is not trained with them: scaled latents and
/// captions.
#[derive(Debug)]
pub struct LatentPool {
    /// Channels, height and width of each latent.
    pub(super) shape: [usize; 3],
    latents: Vec<f32>,
    captions: Vec<String>,
}

impl LatentPool {
    /// Encodes `count` images in batches, on the CPU on threads of their own, on a GPU on the calling
    /// thread alone. `observe` is called with how many are done. Each image of a folder is encoded once, so there are never more than it
    /// has.
    ///
    /// # Errors
    /// When `count` is zero, the pool does not fit into memory, an image cannot be read or its size
    /// does not fit the autoencoder.
    pub fn encode(
        autoencoder: &DcAe,
        data: &Data,
        count: usize,
        seed: u64,
        device: &Device,
        observe: impl Fn(usize) + Sync,
    ) -> Result<Self, TrainError> {
        at_least_one("pool", count)?;
        let count = count.min(data.count().unwrap_or(count));
        memory::check_pool(autoencoder.config(), data.size(), count, device)?;
        let batch = batch(data.size());
        let threads = threads(device).min(count.div_ceil(batch));
        let next = AtomicUsize::new(0);
        let done = Mutex::new(Vec::new());
        let side = data.size() / autoencoder.compression();
        let shape = [autoencoder.config().latent_channels, side, side];
        let work = |autoencoder: DcAe| -> Result<(), TrainError> {
            loop {
                let first = next.fetch_add(batch, Ordering::Relaxed);
                if first >= count {
                    return Ok(());
                }
                let range = first..(first + batch).min(count);
                let encoded = encode_range(&autoencoder, data, range, seed, device)
                    .inspect_err(|_| next.store(count, Ordering::Relaxed))?; // for the others too
                let mut done = done.lock().unwrap_or_else(|poison| poison.into_inner());
                done.push((first, encoded));
                observe((done.len() * batch).min(count));
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
        let mut batches = done
            .into_inner()
            .unwrap_or_else(|poison| poison.into_inner());
        batches.sort_by_key(|(first, _)| *first);
        let mut pool = Self {
            shape,
            latents: Vec::new(),
            captions: Vec::new(),
        };
        for (_, (latents, captions)) in batches {
            pool.latents.extend(latents);
            pool.captions.extend(captions);
        }
        Ok(pool)
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
            shape,
            latents,
            captions,
        }
    }

    /// Number of images, at least one.
    pub fn len(&self) -> usize {
        self.captions.len()
    }

    /// Whether it is empty: never.
    pub fn is_empty(&self) -> bool {
        self.captions.is_empty()
    }

    pub(super) fn caption(&self, index: usize) -> &str {
        &self.captions[index]
    }

    pub(super) fn latent(&self, index: usize) -> &[f32] {
        let length = self.shape.iter().product::<usize>();
        &self.latents[index * length..(index + 1) * length]
    }
}

/// Threads that may encode at once. On burn's GPU backends with kernel fusion, what one thread queued
/// was seen to be missing in another: values came back as 0.
fn threads(device: &Device) -> usize {
    match is_cpu(device) {
        true => thread::available_parallelism().map_or(1, usize::from),
        false => 1,
    }
}

fn encode_range(
    autoencoder: &DcAe,
    data: &Data,
    range: Range<usize>,
    seed: u64,
    device: &Device,
) -> Result<(Vec<f32>, Vec<String>), TrainError> {
    let (size, count) = (data.size(), range.len());
    let mut pixels = Vec::with_capacity(count * 3 * size * size);
    let mut captions = Vec::with_capacity(count);
    for image in range {
        let sample = data.sample_at(seed, image as u64)?;
        pixels.extend(sample.pixels);
        captions.push(sample.caption);
    }
    let pixels = TensorData::new(pixels, [count, 3, size, size]);
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
