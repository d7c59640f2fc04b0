//! What is run for each component.

use burn::tensor::{DType, Device, Tensor};
use sana_linear_attn::SanaTransformer;
use sana_linear_attn::kernels::{Epilogue, linear, relu_linear_attention};
use sana_linear_attn::precision::compute_dtype;
use sana_linear_attn::transformer::{Positions, Sinusoids, TextContext, TransformerInput};
use sana_sampler::noise;
use sana_text::Gemma2Model;

use super::args::{Component, Options};
use super::measurement::Measurement;
use super::models::{Models, Weights, random};
use super::timing::{Finite, Timing, measure};
use super::work;

/// Text tokens where nothing else is asked for: what the transformer is given.
const TEXT_TOKENS: usize = 300;
/// Numbers of `stream`: 512 MB in f32, beyond every cache.
const STREAM: usize = 1 << 27;
/// Of the image; the usual value.
pub const GUIDANCE: f64 = 4.5;

/// What measures.
pub struct Bench<'a> {
    pub models: &'a Models,
    pub options: Options,
    pub device: &'a Device,
    /// Whether the device is the CPU.
    pub on_cpu: bool,
}

impl Component {
    /// Parameters that are needed to measure it, counted from shapes: nothing is allocated.
    pub fn parameters(self, models: &Models, device: &Device) -> u64 {
        match self {
            Self::Dit => models.transformer_parameters(device),
            Self::Text => models.text_parameters(),
            // Half of the autoencoder, near enough to refuse what cannot fit.
            Self::Encode | Self::Decode => models.autoencoder_parameters(device) / 2,
            Self::Image => {
                models.transformer_parameters(device)
                    + models.text_parameters()
                    + models.autoencoder_parameters(device) / 2
            }
            Self::Attention | Self::Matmul | Self::Stream => 0,
        }
    }
}

impl Bench<'_> {
    /// Measures a component, and separately what belongs to it.
    ///
    /// # Errors
    /// When the networks or the device refuse.
    pub fn measure(&self, component: Component) -> anyhow::Result<Vec<Measurement>> {
        match component {
            Component::Dit => self.dit(),
            Component::Decode => self.decode(),
            Component::Encode => self.encode(),
            Component::Text => self.text(),
            Component::Attention => self.attention(),
            Component::Image => self.image(),
            Component::Matmul => self.matmul(),
            Component::Stream => self.stream(),
        }
    }

    fn dit(&self) -> anyhow::Result<Vec<Measurement>> {
        let config = &self.models.transformer;
        let (model, weights) = random(
            config.init(self.device),
            self.dtype(),
            self.options.bf16_gemm,
        );
        let (model, weights) = self.quantized_transformer(model, weights);
        let rows = self.models.rows(self.options.batch);
        let caption = self.random(1, [rows, TEXT_TOKENS, config.caption_channels]);
        let mask = self.ones([rows, TEXT_TOKENS]);
        let context = model.text_context(caption.clone(), Some(mask.clone()));
        let latents = self.random_f32(2, self.latent_shape(rows));
        let text = self.run(|| {
            let context = model.text_context(caption.clone(), Some(mask.clone()));
            Ok(Made(context))
        })?;
        let steps = Steps::new(&model, &context, &[500.0], latents.dims(), self.device);
        let step = self.run(|| Ok(steps.predict(0, latents.clone())))?;
        let common = Measurement {
            pixels: Some(self.pixels()),
            text_tokens: Some(TEXT_TOKENS),
            weights,
            ..Measurement::new("dit", rows, step)
        };
        let text = Measurement {
            name: "dit_text",
            pixels: None,
            gflop: Some(work::dit_text(config, rows, TEXT_TOKENS)),
            timing: text,
            ..common.clone()
        };
        let step = Measurement {
            tokens: Some(self.image_tokens()),
            gflop: Some(work::dit(config, rows, self.image_tokens(), TEXT_TOKENS)),
            ..common
        };
        // The step last, so that what a profiler records last is the step's.
        Ok(vec![text, step])
    }

    fn encode(&self) -> anyhow::Result<Vec<Measurement>> {
        let (config, rows) = (&self.models.autoencoder, self.options.batch);
        let mut model = config.init(self.device);
        let (encoder, weights) = random(model.encoder, self.dtype(), self.options.bf16_gemm);
        model.encoder = encoder;
        let [width, height] = self.pixels();
        let image = self.random_f32(1, [rows, config.in_channels, height, width]);
        let image = image.clamp(-1.0, 1.0);
        let timing = self.run(|| Ok(model.encode(image.clone())?))?;
        Ok(vec![Measurement {
            pixels: Some([width, height]),
            gflop: Some(work::encode(config, rows, width, height)),
            weights,
            ..Measurement::new("encode", rows, timing)
        }])
    }

    fn decode(&self) -> anyhow::Result<Vec<Measurement>> {
        let (config, rows) = (&self.models.autoencoder, self.options.batch);
        let mut model = config.init(self.device);
        let (decoder, weights) = random(model.decoder, self.dtype(), self.options.bf16_gemm);
        model.decoder = decoder;
        let [width, height] = self.pixels();
        let latents = self.random_f32(1, self.latent_shape(rows));
        let timing = self.run(|| Ok(model.decode(latents.clone())?))?;
        Ok(vec![Measurement {
            pixels: Some([width, height]),
            gflop: Some(work::decode(config, rows, width, height)),
            weights,
            ..Measurement::new("decode", rows, timing)
        }])
    }

    fn text(&self) -> anyhow::Result<Vec<Measurement>> {
        let (config, rows) = (&self.models.text, self.options.batch);
        let tokens = self.text_tokens();
        let mut model = config.init(self.device)?;
        // Never made: a prompt needs a few of its rows, which are looked up on the host.
        model.embed_tokens = None;
        let (model, weights) = random(model, self.dtype(), self.options.bf16_gemm);
        let (model, weights) = self.quantized_text(model, weights)?;
        let embeddings = self.random(1, [rows, tokens, config.hidden_size]);
        let mask = self.ones([rows, tokens]);
        let timing = self.run(|| Ok(model.forward(embeddings.clone(), mask.clone())))?;
        Ok(vec![Measurement {
            tokens: Some(tokens),
            gflop: Some(work::text(config, rows, tokens)),
            weights,
            ..Measurement::new("text", rows, timing)
        }])
    }

    /// The transformer as `--quantize` has it, and its weights.
    pub(super) fn quantized_transformer(
        &self,
        model: SanaTransformer,
        weights: Weights,
    ) -> (SanaTransformer, Weights) {
        let Some(quantize) = self.options.quantize.of_transformer() else {
            return (model, weights);
        };
        let sizes = model.config().quantized_sizes(quantize, self.device);
        let weights = weights.quantized(&sizes, self.dtype(), quantize.to, self.device);
        (model.quantized(quantize), weights)
    }

    /// The text encoder as `--quantize` has it, and its weights.
    pub(super) fn quantized_text(
        &self,
        model: Gemma2Model,
        weights: Weights,
    ) -> anyhow::Result<(Gemma2Model, Weights)> {
        let Some(form) = self.options.quantize.text_encoder else {
            return Ok((model, weights));
        };
        let sizes = model.config().quantized_sizes(self.device)?;
        let weights = weights.quantized(&sizes, self.dtype(), form, self.device);
        Ok((model.quantized(form), weights))
    }

    fn attention(&self) -> anyhow::Result<Vec<Measurement>> {
        let (config, rows) = (&self.models.transformer, self.options.batch);
        let tokens = self.options.tokens.unwrap_or(self.image_tokens());
        let shape = [rows, tokens, config.width()];
        let [query, key, value] = [1, 2, 3].map(|seed| self.random(seed, shape));
        let timing = self.run(|| {
            let (query, key, value) = (query.clone(), key.clone(), value.clone());
            let head_dim = config.attention_head_dim;
            Ok(relu_linear_attention(query, key, value, head_dim))
        })?;
        Ok(vec![Measurement {
            tokens: Some(tokens),
            gflop: Some(work::attention(config, rows, tokens)),
            ..Measurement::new("attention", rows, timing)
        }])
    }

    fn matmul(&self) -> anyhow::Result<Vec<Measurement>> {
        let default = match self.on_cpu {
            true => 2048,
            false => 8192,
        };
        let side = self.options.tokens.unwrap_or(default);
        // As a linear layer multiplies: activations with a weight.
        let x = self.random(1, [side, side]);
        let weight = self.random_f32(2, [side, side]).cast(self.dtype());
        let bf16 = self.options.bf16_gemm;
        let multiply = || linear(x.clone(), weight.clone(), None, Epilogue::None, bf16);
        let timing = self.run(|| Ok(multiply()))?;
        Ok(vec![Measurement {
            tokens: Some(side),
            gflop: Some(work::matmul(side)),
            ..Measurement::new("matmul", 1, timing)
        }])
    }

    fn stream(&self) -> anyhow::Result<Vec<Measurement>> {
        let dtype = compute_dtype(self.dtype(), self.device);
        let x = Tensor::<1>::ones([STREAM], (self.device, dtype));
        let timing = self.run(|| Ok(x.clone().mul_scalar(2.0)))?;
        let bytes = 2 * STREAM * dtype.size();
        Ok(vec![Measurement {
            tokens: Some(STREAM),
            gbyte: Some(bytes as f64 / 1e9),
            ..Measurement::new("stream", 1, timing)
        }])
    }

    pub fn run<T: Finite>(
        &self,
        operation: impl FnMut() -> anyhow::Result<T>,
    ) -> anyhow::Result<Timing> {
        let Options { warmup, repeat, .. } = self.options;
        measure(self.device, warmup, repeat, operation)
    }

    pub fn dtype(&self) -> DType {
        self.options.dtype.into()
    }

    pub fn pixels(&self) -> [usize; 2] {
        [self.options.width, self.options.height]
    }

    /// Tokens of an image.
    pub fn image_tokens(&self) -> usize {
        let unit = self.models.pixels_per_token();
        (self.options.width / unit) * (self.options.height / unit)
    }

    pub fn text_tokens(&self) -> usize {
        self.options.tokens.unwrap_or(TEXT_TOKENS)
    }

    pub fn latent_shape(&self, rows: usize) -> [usize; 4] {
        let compression = self.models.autoencoder.compression();
        [
            rows,
            self.models.autoencoder.latent_channels,
            self.options.height / compression,
            self.options.width / compression,
        ]
    }

    /// Unit normal numbers in the dtype that networks with weights of the measured one compute in, the
    /// same in every run.
    pub fn random<const D: usize>(&self, seed: u64, shape: [usize; D]) -> Tensor<D> {
        let dtype = compute_dtype(self.dtype(), self.device);
        self.random_f32(seed, shape).cast(dtype)
    }

    pub fn random_f32<const D: usize>(&self, seed: u64, shape: [usize; D]) -> Tensor<D> {
        noise::latents(seed, 0, shape, self.device)
    }

    /// A mask that hides nothing: adding it costs what hiding would.
    pub fn ones(&self, shape: [usize; 2]) -> Tensor<2> {
        Tensor::ones(shape, (self.device, DType::F32))
    }
}

/// The steps of a run, with what they share on the device from the start, as the pipeline has it.
pub struct Steps<'a> {
    model: &'a SanaTransformer,
    context: &'a TextContext,
    times: Sinusoids,
    /// Of a model that embeds the guidance scale.
    guidance: Option<Sinusoids>,
    positions: Option<Positions>,
}

impl<'a> Steps<'a> {
    /// Steps at these times, of latents `[.., height, width]`.
    pub fn new(
        model: &'a SanaTransformer,
        context: &'a TextContext,
        times: &[f64],
        [_, _, height, width]: [usize; 4],
        device: &Device,
    ) -> Self {
        let config = model.config();
        let times: Vec<f32> = times.iter().map(|time| *time as f32).collect();
        let scale = (GUIDANCE * config.guidance_embeds_scale) as f32;
        let embeds = config.guidance_embeds;
        Self {
            model,
            context,
            times: Sinusoids::new(&times, device),
            guidance: embeds.then(|| Sinusoids::new(&[scale], device)),
            positions: model.positions([height, width], device),
        }
    }

    /// One forward pass, at the time of that index.
    pub fn predict(&self, index: usize, latents: Tensor<4>) -> Tensor<4> {
        let [rows, _, _, _] = latents.dims();
        let time = self.times.row(index, rows);
        let input = TransformerInput::new(latents, time, self.context);
        let mut input = input.with_positions(self.positions.as_ref());
        input.guidance = self.guidance.as_ref().map(|scale| scale.row(0, rows));
        self.model.forward(input).velocity
    }
}

/// A result that cannot be looked into.
struct Made(#[allow(dead_code, reason = "held until the device is done")] TextContext);

impl Finite for Made {
    fn finite(self) -> anyhow::Result<bool> {
        Ok(true)
    }
}

#[cfg(test)]
#[cfg(all(feature = "flex", feature = "scenes-model"))]
mod tests {
    use super::*;
    use crate::args::Dtype;
    use crate::commands::bench::models::Weights;
    use sana_linear_attn::SanaTransformerConfig;
    use sana_pipeline::sampler::Scheduler;
    use sana_sampler::SigmaData;

    fn measured(models: &Models, component: Component, steps: Option<usize>) -> Measurement {
        measured_as(true, models, component, steps)
    }

    /// As on the CPU, or as elsewhere: there no step waits.
    fn measured_as(
        on_cpu: bool,
        models: &Models,
        component: Component,
        steps: Option<usize>,
    ) -> Measurement {
        let bench = Bench {
            models,
            options: Options {
                width: 64,
                height: 32,
                batch: 2,
                tokens: None,
                steps,
                dtype: Dtype::F32,
                quantize: Default::default(),
                bf16_gemm: Default::default(),
                warmup: 0,
                repeat: 1,
            },
            device: &Device::flex(),
            on_cpu,
        };
        bench.measure(component).unwrap().pop().unwrap()
    }

    /// Models that embed the guidance scale have one row for each image and other steps.
    #[test]
    fn sprint() {
        let scenes = Models::of("scenes").unwrap();
        let sprint = Models {
            transformer: SanaTransformerConfig {
                guidance_embeds: true,
                ..scenes.transformer.clone()
            },
            scheduler: Scheduler::Scm {
                sigma_data: SigmaData::default(),
            },
            ..scenes.clone()
        };
        assert_eq!(measured(&sprint, Component::Dit, None).rows, 2);
        assert_eq!(measured(&scenes, Component::Dit, None).rows, 4);
        for (steps, expected) in [(Some(1), 1), (None, 2), (Some(4), 4)] {
            for on_cpu in [true, false] {
                let image = measured_as(on_cpu, &sprint, Component::Image, steps);
                assert_eq!((image.rows, image.steps), (2, Some(expected)));
                assert!(image.timing.finite);
            }
        }
    }

    #[test]
    fn flow_euler() {
        let euler = Models {
            scheduler: Scheduler::FlowEuler { shift: 3.0 },
            ..Models::of("scenes").unwrap()
        };
        let image = measured(&euler, Component::Image, Some(3));
        assert_eq!((image.rows, image.text_tokens), (4, Some(TEXT_TOKENS)));
        assert!(image.timing.finite);
        // All of its components, and no more.
        let of = |component| measured(&euler, component, None);
        let parts = [Component::Dit, Component::Text, Component::Decode]
            .map(|component| of(component).weights);
        let sum = parts.into_iter().reduce(Weights::plus);
        assert_eq!(Some(image.weights), sum);
    }

    #[test]
    fn parameters_of_released_models() {
        // As the configs of the published checkpoints give them, see `sana inspect`.
        let (models, device) = (Models::of("sana-1600m-512px").unwrap(), Device::flex());
        let parameters = |component: Component| component.parameters(&models, &device);
        assert_eq!(parameters(Component::Dit), 1_604_462_752);
        assert_eq!(parameters(Component::Decode), 312_250_275 / 2);
        // Gemma-2 2B without its table of 256,000 x 2,304, but for the norms' vectors.
        let with_norms = parameters(Component::Text) + 2304 * (26 * 4 + 1);
        assert_eq!(with_norms, 2_614_341_888 - 256_000 * 2304);
        assert_eq!(parameters(Component::Matmul), 0);
        assert!(parameters(Component::Image) > parameters(Component::Text));
    }
}
