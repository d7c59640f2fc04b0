//! What the options of an image ask of a pipeline, and how they were applied.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::Path;

use sana_pipeline::image::RgbImage;
use sana_pipeline::request::{InstructionChoice, Settings};
use sana_pipeline::sampler::Solver;
use sana_pipeline::spec::ModelSpec;
use sana_pipeline::{PipelineError, Request, SanaPipeline};
use sana_sampler::{AdaptiveProjection, GuidanceInterval, Order};
use sana_text::Instruction;

use super::args::hires::HiresArgs;
use super::args::{GuidanceArgs, ImageArgs, InstructionTemplate, SolverName};
use super::events::Report;
use crate::args::{Aspect, NoiseLevels, Size};

impl ImageArgs {
    /// Refuses a size that does not fit into memory before images are read and fitted to it: it may be
    /// what the record of somebody else's image claims.
    pub fn check_memory(&self, pipeline: &mut SanaPipeline) -> anyhow::Result<()> {
        let fits = self.start.image.is_some() || self.control.control.is_some();
        if fits && (self.size.is_some() || self.aspect.is_some()) {
            let request = self.request_without_files(pipeline.spec())?;
            // What else is wrong is found with the images.
            if let Err(error @ PipelineError::Memory { .. }) = pipeline.check_memory(&request) {
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// What they ask of a pipeline. The control image is written to `control_save` if it is given.
    pub fn request(
        &self,
        pipeline: &SanaPipeline,
        control_save: Option<&Path>,
    ) -> anyhow::Result<Request> {
        let request = self.start.apply(self.text_request(pipeline.spec())?)?;
        self.control
            .apply(request, pipeline, self.start.background(), control_save)
    }

    /// What takes as much memory as what they ask of a model, for options of a certain size: a pixel
    /// is in place of the images that they name.
    pub fn request_without_files(&self, spec: &ModelSpec) -> anyhow::Result<Request> {
        let mut request = self.text_request(spec)?;
        if self.start.image.is_some() {
            // A strength of less might leave none of few steps.
            request = request.image(RgbImage::new(1, 1)).strength(1.0);
        }
        if self.control.control.is_some() {
            request = request.control(RgbImage::new(1, 1));
        }
        Ok(request)
    }

    /// What they ask of a model, without the images that they name.
    pub fn text_request(&self, spec: &ModelSpec) -> anyhow::Result<Request> {
        let mut request = Request::new(self.prompt())
            .negative(self.negative())
            .seed(self.seed.unwrap_or_else(random_seed))
            .count(self.count());
        if let Some(Size { width, height }) = self.size {
            request = match self.bucket {
                true => request.bucketed_size(width, height),
                false => request.size(width, height),
            };
        }
        if let Some(Aspect { width, height }) = self.aspect {
            request = request.aspect(width, height);
        }
        if let Some(steps) = self.steps {
            request = request.steps(steps);
        }
        if let Some(guidance) = self.guidance {
            request = request.guidance(guidance);
        }
        request = self.more_guidance.apply(request)?;
        if let Some(timesteps) = self.timesteps {
            request = request.timesteps(timesteps);
        }
        if let Some(solver) = self.solver {
            request = request.solver(solver.with_order_of(spec.defaults().solver));
        }
        if let Some(template) = self.instruction {
            request = request.instruction(template.into());
        }
        if self.no_instruction {
            request = request.instruction(InstructionChoice::None);
        }
        Ok(self.hires.apply(request))
    }

    /// As they were applied to an image, with what was left to the model.
    pub fn applied(&self, settings: &Settings, seed: u64) -> Self {
        let made = [settings.width, settings.height];
        let [width, height] = settings.output_size.unwrap_or(made);
        Self {
            prompt: Some(self.prompt().to_owned()),
            negative: Some(self.negative().to_owned()),
            seed: Some(seed),
            steps: Some(settings.schedule_steps()),
            guidance: Some(settings.guidance.scale()),
            more_guidance: GuidanceArgs::applied(settings),
            solver: Some(SolverName::of(settings.solver)),
            timesteps: self.timesteps,
            size: Some(Size { width, height }),
            bucket: self.bucket,
            aspect: None,
            count: None,
            instruction: self.instruction,
            no_instruction: self.no_instruction,
            style: Vec::new(),
            template: self.template.clone(),
            hires: HiresArgs::applied(settings),
            control: self.control.applied(settings),
            start: self.start.applied(settings),
        }
    }
}

/// Reports what a user may want to know of a request before it is fulfilled.
pub fn write_notes(settings: &Settings, args: &ImageArgs, report: &mut Report) -> io::Result<()> {
    if args.aspect.is_some() || args.bucket {
        report.line(format_args!(
            "bucket {}x{}",
            settings.width, settings.height
        ))?;
    }
    report.notes(settings.notes().iter().cloned().chain(args.note()))
}

/// A warning of tokens that did not fit into a prompt.
pub fn cut(what: &str, dropped_tokens: &[usize]) -> Option<String> {
    let dropped: usize = dropped_tokens.iter().sum();
    (dropped > 0)
        .then(|| format!("the {what} is too long, its last {dropped} tokens were left out"))
}

impl GuidanceArgs {
    fn apply(&self, mut request: Request) -> anyhow::Result<Request> {
        if let Some(NoiseLevels(interval)) = self.guidance_interval {
            request = request.guidance_interval(interval);
        }
        if let Some(scale) = self.pag {
            request = request.perturbed_attention(scale);
        }
        if let Some(layers) = &self.pag_layers {
            request = request.perturbed_blocks(layers.iter().copied());
        }
        if self.apg {
            let default = AdaptiveProjection::default();
            request = request.projection(AdaptiveProjection::new(
                self.apg_eta.unwrap_or(default.eta()),
                self.apg_norm.unwrap_or(default.norm()),
                self.apg_momentum.unwrap_or(default.momentum()),
            )?);
        }
        Ok(request)
    }

    fn applied(settings: &Settings) -> Self {
        let interval = settings.guidance.interval();
        let blocks = settings.perturbed_blocks.as_ref();
        let projection = settings.projection;
        Self {
            guidance_interval: (interval != GuidanceInterval::FULL)
                .then_some(NoiseLevels(interval)),
            pag: blocks.map(|_| settings.guidance.perturbed_scale()),
            pag_layers: blocks.map(|blocks| blocks.indices().to_vec()),
            apg: projection.is_some(),
            apg_eta: projection.map(|projection| projection.eta()),
            apg_norm: projection.map(|projection| projection.norm()),
            apg_momentum: projection.map(|projection| projection.momentum()),
        }
    }
}

impl SolverName {
    fn of(solver: Solver) -> Self {
        match solver {
            Solver::FlowDpm { .. } => Self::FlowDpm,
            Solver::FlowEuler => Self::FlowEuler,
            Solver::Scm => Self::Scm,
        }
    }

    /// The solver, with the checkpoint's order where it has one.
    fn with_order_of(self, checkpoint: Solver) -> Solver {
        match (self, checkpoint) {
            (Self::FlowDpm, Solver::FlowDpm { .. }) => checkpoint,
            (Self::FlowDpm, _) => Solver::FlowDpm {
                order: Order::default(),
            },
            (Self::FlowEuler, _) => Solver::FlowEuler,
            (Self::Scm, _) => Solver::Scm,
        }
    }
}

impl From<InstructionTemplate> for InstructionChoice {
    fn from(template: InstructionTemplate) -> Self {
        match template {
            InstructionTemplate::Reference => Self::Custom(Instruction::reference()),
            InstructionTemplate::Repository => Self::Custom(Instruction::paper_repository()),
            InstructionTemplate::None => Self::None,
        }
    }
}

/// A seed of 32 bits: enough to differ, and short enough to type.
pub fn random_seed() -> u64 {
    RandomState::new().hash_one(0) >> 32
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn instruction_templates() {
        let custom = InstructionChoice::Custom;
        let expected = [
            ("reference", custom(Instruction::reference())),
            ("repository", custom(Instruction::paper_repository())),
            ("none", InstructionChoice::None),
        ];
        assert_eq!(InstructionTemplate::value_variants().len(), expected.len());
        for (name, choice) in expected {
            let template = InstructionTemplate::from_str(name, false).unwrap();
            assert_eq!(serde_json::to_value(template).unwrap(), name);
            assert_eq!(InstructionChoice::from(template), choice, "{name}");
        }
    }
}
