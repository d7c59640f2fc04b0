use std::ops::Range;

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor, TensorData};
use rand::RngExt;
use sana_linear_attn::SanaTransformer;
use sana_linear_attn::transformer::{Sinusoids, TransformerInput};
use sana_sampler::flow::{LogitNormal, interpolate, loss, velocity_target};
use sana_sampler::noise::{self, Stream};
use sana_text::encode_tokens;
use sana_text::{Gemma2Model, PromptEmbeds, PromptTokenizer};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::latent_pool::{LatentPool, Latents};
use super::task::Task;
use crate::train::data::bucket_of;
use crate::train::error::{TrainError, at_least_one, in_range, not_negative};
use crate::train::memory;
use crate::train::optimizer::{Parameters, is_trained};
use crate::train::run::Settings;

/// Options of the transformer's training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TransformerOptions {
    /// Images of a step. Default 128.
    pub batch: usize,
    /// Shift of the training times; the sampler uses the same. Default 3.
    pub flow_shift: f64,
    /// Mean of the logit-normal times. Default 0.
    pub logit_mean: f64,
    /// Standard deviation of the logit-normal times. Default 1.
    pub logit_std: f64,
    /// Probability that a caption is replaced by the empty one, for classifier-free guidance.
    /// Default 0.1.
    pub caption_dropout: f64,
    /// Seed of data, times and noise. Default 0.
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
        let shift = self.flow_shift;
        // What the scheduler of the checkpoint can load.
        in_range(
            "flow_shift",
            "in [1e-6, 1e6]",
            (1e-6..=1e6).contains(&shift),
            shift,
        )?;
        let is_share = (0.0..=1.0).contains(&dropout);
        in_range("caption_dropout", "in [0, 1]", is_share, dropout)?;
        self.times()?;
        Ok(())
    }

    /// The options by name, as they are [recorded](Task::settings) with a run.
    pub fn settings(&self) -> Settings {
        let Self {
            batch,
            flow_shift,
            logit_mean,
            logit_std,
            caption_dropout,
            seed,
        } = *self;
        [
            ("batch", json!(batch)),
            ("flow_shift", json!(flow_shift)),
            ("logit_mean", json!(logit_mean)),
            ("logit_std", json!(logit_std)),
            ("caption_dropout", json!(caption_dropout)),
            ("seed", json!(seed)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// The distribution of training times.
    fn times(&self) -> Result<LogitNormal, TrainError> {
        Ok(LogitNormal::new(self.logit_mean, self.logit_std)?.with_shift(self.flow_shift)?)
    }
}

/// The transformer and the text encoder that is trained with it, unless it is
/// [frozen](crate::train::RunOptions::frozen).
#[derive(Module, Debug)]
pub struct Denoiser {
    /// Captions to embeddings. Unless it is frozen, its embedding table must be a parameter
    /// ([`Gemma2Model::into_trainable`]).
    pub text_encoder: Gemma2Model,
    /// Latents and embeddings to velocities.
    pub transformer: SanaTransformer,
}

/// Flow matching on a pool of latents.
#[derive(Debug)]
pub struct TransformerTask {
    /// Encoded images. Each step has those of one size, drawn from seed and step.
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
        let mut embeds = Vec::new();
        if !kept.is_empty() {
            embeds.push(encode_tokens(
                text_encoder,
                &self.tokenizer.tokenize(&kept)?,
            )?);
        }
        if !dropped.is_empty() {
            let tokens = self.tokenizer.tokenize_negative(&dropped)?;
            embeds.push(encode_tokens(text_encoder, &tokens)?);
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
        Ok(PromptEmbeds::cat(embeds)?
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
        self.options.validate()?;
        let latent = self.pool.largest_latent();
        memory::check_batch("latents", self.options.batch, latent, &self.device)
    }

    fn settings(&self) -> Settings {
        let mut settings = self.options.settings();
        settings.insert("pool".to_owned(), self.pool.len().into());
        settings
    }

    fn loss(
        &self,
        model: &Denoiser,
        step: usize,
        samples: Range<usize>,
    ) -> Result<Tensor<1>, TrainError> {
        let TransformerOptions {
            batch,
            caption_dropout,
            seed,
            ..
        } = self.options;
        let times = self.options.times()?;
        let first = (step * batch + samples.start) as u64;
        let weights: Vec<usize> = self.pool.buckets().iter().map(Latents::len).collect();
        let pool = &self.pool.buckets()[bucket_of(seed, step, &weights)];
        let [channels, height, width] = pool.shape;
        let shape = [samples.len(), channels, height, width];

        let mut latents = Vec::with_capacity(shape.iter().product());
        let mut captions = Vec::with_capacity(samples.len());
        let mut sigmas = Vec::with_capacity(samples.len());
        for image in first..first + samples.len() as u64 {
            let mut rng = noise::generator(seed, image, Stream::Other(0));
            let index = rng.random_range(0..pool.len());
            latents.extend_from_slice(pool.latent(index));
            let dropped = rng.random_bool(caption_dropout);
            captions.push((!dropped).then(|| pool.caption(index)));
            sigmas.extend(times.sample(&mut rng, 1));
        }
        let x0 = Tensor::from_data(TensorData::new(latents, shape), (&self.device, DType::F32));
        let noise = noise::latents(seed, first, shape, &self.device);

        let text = if is_trained(&model.text_encoder) {
            self.embed(&model.text_encoder, &captions)?
        } else {
            // Without autodiff it runs as it does in a pipeline.
            let text_encoder = model.text_encoder.clone();
            let plain = Parameters::of(&text_encoder).write_into(text_encoder, false);
            self.embed(&plain, &captions)?
        };
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
/// - `sigmas` one for each image
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
    let scale = 1000.0 * transformer.config().timestep_scale;
    let timesteps: Vec<f32> = sigmas.iter().map(|sigma| (scale * sigma) as f32).collect();
    let timesteps = Sinusoids::new(&timesteps, &device.autodiff());
    let text = transformer.text_context(caption.autodiff(), Some(mask.inner().autodiff()));
    let input = TransformerInput::new(noised.autodiff(), timesteps, &text);
    let velocity = transformer.forward(input).velocity;
    Ok(loss(velocity, target.autodiff())?)
}
