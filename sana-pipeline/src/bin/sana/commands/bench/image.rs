//! A whole image: text encoder, all steps with guidance, decoder.

use std::cell::{Cell, RefCell};

use burn::tensor::{DType, Tensor};
use sana_linear_attn::SanaTransformer;
use sana_linear_attn::transformer::TextContext;
use sana_pipeline::sampler::{Schedule, Scheduler};
use sana_sampler::trigflow::TrigFlow;
use sana_sampler::{Guidance, StepAction, dpm_solver, flow_euler, scm, trigflow};

use super::components::{Bench, GUIDANCE, Steps};
use super::measurement::Measurement;
use super::models::{Models, random};
use super::timing::Finite;
use super::work;

impl Bench<'_> {
    /// From embedded tokens to a decoded image.
    pub fn image(&self) -> anyhow::Result<Vec<Measurement>> {
        let Models {
            transformer: config,
            autoencoder,
            text: text_config,
            scheduler,
            ..
        } = self.models;
        let (images, tokens) = (self.options.batch, self.text_tokens());
        let rows = self.models.rows(images);
        let mut text = text_config.init(self.device)?;
        text.embed_tokens = None;
        let (text, text_weights) = random(text, self.dtype(), self.options.bf16_gemm);
        let (transformer, weights) = random(
            config.init(self.device),
            self.dtype(),
            self.options.bf16_gemm,
        );
        let (text, text_weights) = self.quantized_text(text, text_weights)?;
        let (transformer, weights) = self.quantized_transformer(transformer, weights);
        let mut decoding = autoencoder.init(self.device);
        let (decoder, decoder_weights) =
            random(decoding.decoder, self.dtype(), self.options.bf16_gemm);
        decoding.decoder = decoder;

        let steps = self.options.steps.unwrap_or(scheduler.default_steps());
        let schedule = scheduler.schedule(scheduler.solver(), steps, None)?;
        let embeddings = self.random(1, [rows, tokens, text_config.hidden_size]);
        let mask = self.ones([rows, tokens]);
        let initial = self.random_f32(2, self.latent_shape(images));
        let timing = self.run(|| {
            let caption = text.forward(embeddings.clone(), mask.clone());
            let context = transformer.text_context(caption, Some(mask.clone()));
            let latents = self.denoise(&transformer, &context, &schedule, initial.clone())?;
            Ok(decoding.decode(latents)?)
        })?;
        let [width, height] = self.pixels();
        let gflop = work::text(text_config, rows, tokens)
            + work::dit_text(config, rows, tokens)
            + steps as f64 * work::dit(config, rows, self.image_tokens(), tokens)
            + work::decode(autoencoder, images, width, height);
        Ok(vec![Measurement {
            pixels: Some([width, height]),
            tokens: Some(self.image_tokens()),
            text_tokens: Some(tokens),
            steps: Some(steps),
            gflop: Some(gflop),
            weights: text_weights.plus(weights).plus(decoder_weights),
            ..Measurement::new("image", rows, timing)
        }])
    }

    /// All steps, as [`SanaPipeline::sample`](sana_pipeline::SanaPipeline::sample) takes them.
    fn denoise(
        &self,
        transformer: &SanaTransformer,
        context: &TextContext,
        schedule: &Schedule,
        initial: Tensor<4>,
    ) -> anyhow::Result<Tensor<4>> {
        let continue_always = |_| StepAction::Continue;
        let sprint = transformer.config().guidance_embeds;
        let guidance = Guidance::new(GUIDANCE)?;
        let magnitudes = RefCell::new(Vec::new());
        let times = self.times(schedule)?;
        let steps = Steps::new(transformer, context, &times, initial.dims(), self.device);
        let step = Cell::new(0);
        let velocity = |latents: Tensor<4>, _: f64| {
            let [images, channels, _, _] = latents.dims();
            let rows = match sprint {
                true => latents,
                false => Tensor::cat(vec![latents.clone(), latents], 0),
            };
            let all = steps.predict(step.replace(step.get() + 1), rows);
            let all = all.narrow(1, 0, channels);
            let velocity = match sprint {
                true => all,
                false => guidance.combine(
                    all.clone().narrow(0, 0, images),
                    all.narrow(0, images, images),
                ),
            };
            // As the pipeline does: at every step on the CPU, and elsewhere after the last.
            let magnitude = velocity.clone().cast(DType::F32).abs().sum();
            if self.on_cpu {
                let _ = magnitude.finite()?;
            } else {
                magnitudes.borrow_mut().push(magnitude);
            }
            anyhow::Ok(velocity)
        };
        let latents = match (schedule, &self.models.scheduler) {
            (Schedule::Scm(schedule), Scheduler::Scm { sigma_data }) => {
                let noises = |index: usize| {
                    let shape = initial.dims();
                    Ok(self.random_f32(3 + index as u64, shape))
                };
                let scaled = initial.clone().mul_scalar(sigma_data.value());
                let predict = trigflow::from_flow(*sigma_data, velocity);
                let latents = scm(
                    schedule,
                    *sigma_data,
                    scaled,
                    predict,
                    noises,
                    continue_always,
                )?;
                latents.div_scalar(sigma_data.value())
            }
            (Schedule::Flow(schedule), Scheduler::FlowDpm { options, .. }) => {
                dpm_solver(schedule, options, initial, velocity, continue_always)?
            }
            (Schedule::Flow(schedule), _) => {
                flow_euler(schedule, initial, velocity, continue_always)?
            }
            (Schedule::Scm(_), _) => anyhow::bail!("a consistency schedule for a flow model"),
        };
        let magnitudes = magnitudes.into_inner();
        if !magnitudes.is_empty() {
            let _ = Tensor::cat(magnitudes, 0).finite()?;
        }
        Ok(latents)
    }

    /// The times that the network is called with, one for each step.
    fn times(&self, schedule: &Schedule) -> anyhow::Result<Vec<f64>> {
        match (schedule, &self.models.scheduler) {
            (Schedule::Scm(schedule), Scheduler::Scm { sigma_data }) => {
                let times = schedule.timesteps().iter();
                let flow = times.map(|time| TrigFlow::at(*time, *sigma_data).flow_timestep());
                Ok(flow.collect())
            }
            (Schedule::Flow(schedule), _) => Ok(schedule.timesteps().to_vec()),
            (Schedule::Scm(_), _) => anyhow::bail!("a consistency schedule for a flow model"),
        }
    }
}
