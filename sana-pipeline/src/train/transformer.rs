use std::sync::Mutex;

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor, TensorData};
use rand::RngExt;
use sana_dcae::DcAe;
use sana_linear_attn::SanaTransformer;
use sana_sampler::flow::{LogitNormal, interpolate, loss, velocity_target};
use sana_sampler::noise::{self, Stream};
use sana_text::encoder::encode_tokens;
use sana_text::{Gemma2Model, PromptEmbeds, PromptTokenizer};
use serde::{Deserialize, Serialize};

use super::data::Data;
use super::error::{TrainError, at_least_one, in_range, not_negative};
use super::run::{Task, share};

/// Options of the transformer's training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TransformerOptions {
    /// Pictures of a step.
    pub batch: usize,
    /// Shift of the training times; the sampler uses the same.
    pub flow_shift: f64,
    /// Mean of the logit-normal times.
    pub logit_mean: f64,
    /// Standard deviation of the logit-normal times.
    pub logit_std: f64,
    /// Probability that a caption is replaced by the empty one.
    pub caption_dropout: f64,
    /// Seed of data, times and noise.
    pub seed: u64,
}

impl Default for TransformerOptions {
    fn default() -> Self {
        Self {
            batch: 128,
            flow_shift: 3.0,
            logit_mean: 0.0,
            logit_std: 1.0,
            caption_dropout: 0.1,
            seed: 0,
        }
    }
}

impl TransformerOptions {
    /// Checks that every option is in its range.
    ///
    /// # Errors
    /// [`TrainError::Option`], or the flow's own error for times that cannot be drawn.
    pub fn validate(&self) -> Result<(), TrainError> {
        at_least_one("batch", self.batch)?;
        not_negative("logit_std", self.logit_std)?;
        let dropout = self.caption_dropout;
        let is_share = (0.0..=1.0).contains(&dropout);
        in_range("caption_dropout", "in [0, 1]", is_share, dropout)?;
        self.times()?;
        Ok(())
    }

    /// The distribution of training times.
    fn times(&self) -> Result<LogitNormal, TrainError> {
        Ok(LogitNormal::new(self.logit_mean, self.logit_std)?.with_shift(self.flow_shift)?)
    }
}

/// The transformer and the text encoder that is trained with it.
#[derive(Module, Debug)]
pub struct Denoiser {
    /// Captions to embeddings; its embedding table must be a parameter
    /// ([`Gemma2Model::into_trainable`]).
    pub text_encoder: Gemma2Model,
    /// Latents and embeddings to velocities.
    pub transformer: SanaTransformer,
}

/// Pictures encoded ahead of training, since the autoencoder stays as it is: scaled latents and
/// captions.
#[derive(Debug)]
pub struct LatentPool {
    shape: [usize; 3],
    latents: Vec<f32>,
    captions: Vec<String>,
}

impl LatentPool {
    /// Encodes `count` pictures in batches, on threads of their own. `observe` hears how many are
    /// done.
    ///
    /// # Errors
    /// When `count` is zero, a picture cannot be read or its size does not fit the autoencoder.
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
                            let part = encode_range(&autoencoder, data, range, seed, device)?;
                            let mut done = done.lock().unwrap_or_else(|poison| poison.into_inner());
                            done.push((first, part));
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
        let mut parts = done
            .into_inner()
            .unwrap_or_else(|poison| poison.into_inner());
        parts.sort_by_key(|(first, _)| *first);
        let mut pool = Self {
            shape,
            latents: Vec::new(),
            captions: Vec::new(),
        };
        for (_, (latents, captions)) in parts {
            pool.latents.extend(latents);
            pool.captions.extend(captions);
        }
        Ok(pool)
    }

    /// A pool of given latents `[channels, height, width]` each, one after the other.
    ///
    /// # Panics
    /// If there are none, or their number is not that of the captions.
    pub fn new(shape: [usize; 3], latents: Vec<f32>, captions: Vec<String>) -> Self {
        assert!(!captions.is_empty(), "a pool of at least one picture");
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

    /// Number of pictures, at least one.
    pub fn len(&self) -> usize {
        self.captions.len()
    }

    /// Whether there are none: never.
    pub fn is_empty(&self) -> bool {
        self.captions.is_empty()
    }

    fn latent(&self, index: usize) -> &[f32] {
        let length = self.shape.iter().product::<usize>();
        &self.latents[index * length..(index + 1) * length]
    }
}

fn encode_range(
    autoencoder: &DcAe,
    data: &Data,
    range: std::ops::Range<usize>,
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

/// Flow matching on a pool of latents.
#[derive(Debug)]
pub struct TransformerTask {
    /// Encoded pictures.
    pub pool: LatentPool,
    /// Captions to token ids.
    pub tokenizer: PromptTokenizer,
    /// Options.
    pub options: TransformerOptions,
    /// Where the training runs, without autodiff.
    pub device: Device,
}

impl TransformerTask {
    /// Embeddings of a batch, `None` for a dropped caption: that one is encoded as the negative
    /// prompt is, without an instruction.
    fn embed(
        &self,
        text_encoder: &Gemma2Model,
        captions: &[Option<&str>],
    ) -> Result<PromptEmbeds, TrainError> {
        if self.tokenizer.instruction_tokens() == 0 {
            let captions: Vec<&str> = captions.iter().map(|c| c.unwrap_or("")).collect();
            let tokens = self.tokenizer.tokenize(&captions)?;
            return Ok(encode_tokens(text_encoder, &tokens)?.trim());
        }
        let kept: Vec<&str> = captions.iter().copied().flatten().collect();
        let dropped = vec![""; captions.len() - kept.len()];
        let mut parts = Vec::new();
        if !kept.is_empty() {
            parts.push(encode_tokens(
                text_encoder,
                &self.tokenizer.tokenize(&kept)?,
            )?);
        }
        if !dropped.is_empty() {
            let tokens = self.tokenizer.tokenize_negative(&dropped)?;
            parts.push(encode_tokens(text_encoder, &tokens)?);
        }
        // Back into the order of the batch.
        let (mut next_kept, mut next_dropped) = (0, kept.len());
        let order = captions.iter().map(|caption| {
            let next = match caption {
                Some(_) => &mut next_kept,
                None => &mut next_dropped,
            };
            *next += 1;
            *next - 1
        });
        Ok(PromptEmbeds::cat(parts)?
            .select(&order.collect::<Vec<_>>())
            .trim())
    }
}

impl Task for TransformerTask {
    type Model = Denoiser;

    fn batch(&self) -> usize {
        self.options.batch
    }

    fn validate(&self) -> Result<(), TrainError> {
        self.options.validate()
    }

    fn loss(
        &self,
        model: &Denoiser,
        step: usize,
        part: usize,
        parts: usize,
    ) -> Result<Tensor<1>, TrainError> {
        let TransformerOptions {
            batch,
            caption_dropout,
            seed,
            ..
        } = self.options;
        let times = self.options.times()?;
        let range = share(batch, part, parts);
        let first = (step * batch + range.start) as u64;
        let [channels, height, width] = self.pool.shape;
        let shape = [range.len(), channels, height, width];

        let mut latents = Vec::with_capacity(shape.iter().product());
        let mut captions = Vec::with_capacity(range.len());
        let mut sigmas = Vec::with_capacity(range.len());
        for image in first..first + range.len() as u64 {
            let mut rng = noise::generator(seed, image, Stream::Other(0));
            let index = rng.random_range(0..self.pool.len());
            latents.extend_from_slice(self.pool.latent(index));
            let dropped = rng.random_bool(caption_dropout);
            captions.push((!dropped).then(|| self.pool.captions[index].as_str()));
            sigmas.extend(times.sample(&mut rng, 1));
        }
        let x0 = Tensor::from_data(TensorData::new(latents, shape), (&self.device, DType::F32));
        let noise = noise::latents(seed, first, shape, &self.device);

        let text = self.embed(&model.text_encoder, &captions)?;
        flow_loss(
            &model.transformer,
            x0,
            noise,
            &sigmas,
            text.embeds,
            text.mask,
        )
    }
}

/// The flow-matching loss of a batch.
///
/// # Shapes
/// - `x0`, `noise` `[batch, channels, height, width]`, without autodiff
/// - `sigmas` one for each picture
/// - `caption` `[batch, text_tokens, caption_channels]`, `mask` `[batch, text_tokens]`
/// - the result `[1]`
///
/// # Errors
/// When shapes disagree or a sigma lies outside [0, 1].
pub fn flow_loss(
    transformer: &SanaTransformer,
    x0: Tensor<4>,
    noise: Tensor<4>,
    sigmas: &[f64],
    caption: Tensor<3>,
    mask: Tensor<2>,
) -> Result<Tensor<1>, TrainError> {
    let device = x0.device();
    let noised = interpolate(x0.clone(), noise.clone(), sigmas)?;
    let target = velocity_target(x0, noise)?;
    let timesteps: Vec<f32> = sigmas.iter().map(|sigma| (1000.0 * sigma) as f32).collect();
    let timesteps = Tensor::<1>::from_data(
        TensorData::from(timesteps.as_slice()),
        (&device, DType::F32),
    );
    let text = transformer.text_context(caption, Some(mask.inner().autodiff()));
    let velocity = transformer.forward(noised.autodiff(), timesteps.autodiff(), None, &text);
    Ok(loss(velocity, target.autodiff())?)
}
