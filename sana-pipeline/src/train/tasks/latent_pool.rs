use std::ops::Range;
use std::sync::Mutex;

use burn::tensor::{DType, Device, Tensor, TensorData};
use sana_dcae::DcAe;
use sana_sampler::noise::{self, Stream};

use crate::train::data::Data;
use crate::train::error::{TrainError, at_least_one};

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
    /// Encodes `count` images in batches, on threads of their own. `observe` is called with
    /// how many are done.
    ///
    /// # Errors
    /// When `count` is zero, an image cannot be read or its size does not fit the autoencoder.
    pub fn encode(
        autoencoder: &DcAe,
        data: &Data,
        count: usize,
        seed: u64,
        device: &Device,
        observe: impl Fn(usize) + Sync,
    ) -> Result<Self, TrainError> {
        const BATCH: usize = 16;
        at_least_one("pool", count)?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let next = std::sync::atomic::AtomicUsize::new(0);
        let done = Mutex::new(Vec::new());
        let side = data.size() / autoencoder.compression();
        let shape = [autoencoder.config().latent_channels, side, side];
        let results: Vec<Result<(), TrainError>> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads)
                .map(|_| {
                    let autoencoder = autoencoder.clone();
                    let (next, done, observe) = (&next, &done, &observe);
                    scope.spawn(move || {
                        loop {
                            let first = next.fetch_add(BATCH, std::sync::atomic::Ordering::Relaxed);
                            if first >= count {
                                return Ok(());
                            }
                            let range = first..(first + BATCH).min(count);
                            let encoded = encode_range(&autoencoder, data, range, seed, device)?;
                            let mut done = done.lock().unwrap_or_else(|poison| poison.into_inner());
                            done.push((first, encoded));
                            observe((done.len() * BATCH).min(count));
                        }
                    })
                })
                .collect();
            let joined = workers.into_iter().map(|worker| match worker.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            joined.collect()
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
        let mut rng = noise::generator(seed, image as u64, Stream::Initial);
        let sample = data.sample(&mut rng)?;
        pixels.extend(sample.pixels);
        captions.push(sample.caption);
    }
    let pixels = TensorData::new(pixels, [count, 3, size, size]);
    let latents = autoencoder.encode(Tensor::from_data(pixels, (device, DType::F32)))?;
    Ok((latents.into_data().iter::<f32>().collect(), captions))
}
