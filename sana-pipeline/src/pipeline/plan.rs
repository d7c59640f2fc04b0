//! How a request is run in the memory there is.

use sana_dcae::Tiling;

use crate::checkpoint::Component;
use crate::error::{MemoryAdvice, PipelineError, Shortage, shortage};
use crate::memory::{
    Limits, MemoryEstimate, MemoryModel, MemoryPolicy, MemoryShortage, StageEstimate, Way,
    Workload, available_bytes, device_budget, text_length,
};
use crate::pipeline::SanaPipeline;
use crate::request::{Request, Settings};
use crate::support::units::human;

/// What the notes on memory begin with: a request replaces those of the one before.
const NOTE: &str = "memory: ";

/// How the images of a request are made in the memory that there was when it was
/// [planned](SanaPipeline::plan).
#[derive(Debug, Clone)]
pub struct Plan {
    settings: Settings,
    pub(in crate::pipeline) one_stage: bool,
    pub(in crate::pipeline) tiling: Option<Tiling>,
}

impl Plan {
    /// The settings of the request.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether images are decoded in tiles, which changes pixels a little.
    pub fn decodes_in_tiles(&self) -> bool {
        self.tiling.is_some()
    }
}

impl SanaPipeline {
    /// What a request needs, before anything is loaded.
    ///
    /// # Errors
    /// When the request is not valid.
    pub fn memory_estimate(&self, request: &Request) -> Result<MemoryEstimate, PipelineError> {
        let settings = request.validate(&self.spec)?;
        let settings = settings.larger.as_deref().unwrap_or(&settings);
        Ok(self.memory.estimate(&workload(settings)))
    }

    /// Refuses a request that does not fit into memory in any way, as
    /// [`generate`](Self::generate) would, before anything is loaded.
    ///
    /// # Errors
    /// [`PipelineError::Memory`] when it does not fit, or when the request is not valid.
    pub fn check_memory(&mut self, request: &Request) -> Result<(), PipelineError> {
        let settings = request.validate(&self.spec)?;
        self.plan_request(&settings).map(drop)
    }

    /// The memory that a request may take, the weights that are loaded already included, in bytes:
    /// [`LoadOptions::memory_limit`](crate::LoadOptions::memory_limit), or else on the CPU what the
    /// system has left, on a GPU all of its memory, where the driver states it; a tenth of either is kept
    /// free. `None` where it is not known.
    ///
    /// Programs next to this one on a GPU are not seen: with any, set a limit.
    pub fn memory_budget(&self) -> Option<u64> {
        if self.memory_limit.is_some() {
            return self.memory_limit;
        }
        if let Some(device) = self.memory.device {
            return device_budget(device);
        }
        let free = self.memory.cpu.then(available_bytes).flatten()?;
        Some((free / 10 * 9).saturating_add(self.loaded_bytes()))
    }

    /// Bytes of the weights that are in memory.
    fn loaded_bytes(&self) -> u64 {
        let loaded = self.memory.parts.iter();
        loaded
            .filter(|part| self.is_loaded(part.part))
            .fold(0, |sum: u64, part| sum.saturating_add(part.bytes()))
    }

    /// Whether to begin with one stage at a time: where all components do not fit with an image of the
    /// model's own size.
    pub(crate) fn begins_with_one_stage(&self) -> bool {
        let options = &self.spec.prompt_options;
        let work = Workload::one_image(options, self.spec.defaults().size);
        let all = || {
            self.memory
                .estimate(&work)
                .all_components(self.tiling.is_some())
        };
        match self.memory_policy {
            MemoryPolicy::KeepAll => false,
            MemoryPolicy::OneStageAtATime => true,
            MemoryPolicy::Auto => self.memory_budget().is_some_and(|free| all() > free),
        }
    }

    /// Decides, before anything is loaded, how the images of a request that was
    /// [validated](Request::validate) against this pipeline's [`spec`](Self::spec) are made in the
    /// memory there is now. [`generate_plan`](Self::generate_plan) makes them.
    ///
    /// # Errors
    /// [`PipelineError::Memory`] when the request does not fit in any way.
    pub fn plan(&mut self, settings: Settings) -> Result<Plan, PipelineError> {
        let way = self.choose_way(&settings)?;
        Ok(Plan {
            settings,
            one_stage: way.one_stage,
            tiling: self.tiles(way),
        })
    }

    /// Decides which networks stay in memory, and returns the tiles to decode in.
    pub(crate) fn plan_request(
        &mut self,
        settings: &Settings,
    ) -> Result<Option<Tiling>, PipelineError> {
        let way = self.choose_way(settings)?;
        self.one_stage_at_a_time = way.one_stage;
        Ok(self.tiles(way))
    }

    fn choose_way(&mut self, settings: &Settings) -> Result<Way, PipelineError> {
        // Of two passes the second, at a larger size, needs more: what fits it fits the first, and both
        // are decoded in the same way.
        let work = workload(settings.larger.as_deref().unwrap_or(settings));
        let stages: &[bool] = match self.memory_policy {
            MemoryPolicy::Auto => &[false, true],
            MemoryPolicy::KeepAll => &[false],
            MemoryPolicy::OneStageAtATime => &[true],
        };
        self.choose(stages, &work, MemoryModel::estimate)
    }

    /// Refuses an image of `[width, height]` pixels that cannot be encoded, and decoded again, in the
    /// memory there is, before anything is loaded.
    ///
    /// # Errors
    /// [`PipelineError::Memory`].
    pub fn check_encoding(&mut self, size: [usize; 2]) -> Result<(), PipelineError> {
        self.plan_encoding(size).map(drop)
    }

    /// The tiles to decode latents in, next to the networks that are loaded.
    ///
    /// # Errors
    /// [`PipelineError::Memory`] when the latents cannot be decoded even so.
    pub(crate) fn plan_decoding(
        &mut self,
        images: usize,
        size: [usize; 2],
    ) -> Result<Option<Tiling>, PipelineError> {
        self.plan_autoencoder(images, size, false)
    }

    /// The tiles to encode an image in, as [`plan_decoding`](Self::plan_decoding).
    pub(crate) fn plan_encoding(
        &mut self,
        size: [usize; 2],
    ) -> Result<Option<Tiling>, PipelineError> {
        self.plan_autoencoder(1, size, true)
    }

    fn plan_autoencoder(
        &mut self,
        images: usize,
        size: [usize; 2],
        encodes: bool,
    ) -> Result<Option<Tiling>, PipelineError> {
        let work = Workload {
            text: None,
            text_tokens: 0,
            prompts: images,
            images,
            guided: false,
            perturbed: false,
            size,
            output: None,
            text_bytes: 0,
            encodes,
        };
        let others = self.memory.parts.iter();
        let others = others
            .filter(|part| part.part != Component::Vae && self.is_loaded(part.part))
            .fold(0, |sum: u64, part| sum.saturating_add(part.bytes()));
        let loaded = StageEstimate {
            name: "loaded",
            weights: if self.one_stage_at_a_time { 0 } else { others },
            activations: 0,
            largest_tensor: 0,
        };
        let estimate = |model: &MemoryModel, work: &Workload| MemoryEstimate {
            stages: vec![loaded, model.decode(work, false)],
            decode_in_tiles: model.decode(work, true),
        };
        let way = self.choose(&[self.one_stage_at_a_time], &work, estimate)?;
        Ok(self.tiles(way))
    }

    /// The first way that fits, whole images before tiles; notes say why it is not the first.
    fn choose(
        &mut self,
        stages: &[bool],
        work: &Workload,
        estimate: impl Fn(&MemoryModel, &Workload) -> MemoryEstimate,
    ) -> Result<Way, PipelineError> {
        let tiles: &[bool] = match self.tiling {
            Some(_) => &[true],
            None => &[false, true],
        };
        let ways: Vec<Way> = tiles
            .iter()
            .flat_map(|&in_tiles| {
                let way = move |&one_stage| Way {
                    one_stage,
                    in_tiles,
                };
                stages.iter().map(way)
            })
            .collect();
        self.networks.forget_notes(NOTE);
        let estimated = estimate(&self.memory, work);
        let (first, least) = (ways[0], ways[ways.len() - 1]);
        let limits = Limits::new(self.memory_budget(), self.memory.device);
        let Limits { free, .. } = limits;
        let fitting = ways.iter().find(|&&way| limits.allow(&estimated, way));
        let way = match (fitting, self.memory_shortage) {
            (Some(&way), _) => way,
            (None, MemoryShortage::Try) => {
                let short = shortage(limits.shortage(&estimated, least));
                self.networks
                    .note(format!("{NOTE}{short}; trying all the same"));
                least
            }
            (None, MemoryShortage::Refuse) => {
                let fits = |model: &MemoryModel, work: &Workload, ways: &[Way]| {
                    let estimated = estimate(model, work);
                    ways.iter().any(|&way| limits.allow(&estimated, way))
                };
                let Shortage {
                    needs,
                    free,
                    single_tensor,
                } = limits.shortage(&estimated, least);
                return Err(PipelineError::Memory {
                    needs,
                    free,
                    single_tensor,
                    advice: self.advice(work, &ways, fits),
                });
            }
        };
        if way.one_stage && !first.one_stage {
            let needs = human(estimated.need(first));
            self.networks.note(format!(
                "{NOTE}one component at a time, since all of them need {needs} and {} are \
                 free",
                human(free)
            ));
        }
        if way.in_tiles && !first.in_tiles {
            let whole = Way {
                in_tiles: false,
                ..way
            };
            let [height, width] = self.memory.tiling.tile;
            let reason = match limits.shortage(&estimated, whole) {
                short if short.single_tensor => {
                    let (needs, most) = (human(short.needs), human(short.free));
                    format!("a tensor of whole images is {needs}, and {most} can be had at once")
                }
                short => {
                    let (needs, free) = (human(short.needs), human(short.free));
                    format!("whole images need {needs} and {free} are free")
                }
            };
            self.networks.note(format!(
                "{NOTE}decoding in tiles of {width}x{height}, since {reason}"
            ));
        }
        Ok(way)
    }

    /// The single changes that make a request fit which does not fit in any of these ways.
    fn advice(
        &self,
        work: &Workload,
        ways: &[Way],
        fits: impl Fn(&MemoryModel, &Workload, &[Way]) -> bool,
    ) -> Vec<MemoryAdvice> {
        let model = &self.memory;
        let narrow = model.narrowed();
        let low = [Way {
            one_stage: true,
            in_tiles: true,
        }];
        let mut advice = Vec::new();
        let low_is_new = !ways.contains(&low[0]) && self.networks.checkpoint().is_some();
        if fits(&narrow, work, ways) {
            advice.push(MemoryAdvice::Bf16);
        }
        if low_is_new && fits(model, work, &low) {
            advice.push(MemoryAdvice::LowMemory);
        }
        if advice.is_empty() && low_is_new && fits(&narrow, work, &low) {
            advice.push(MemoryAdvice::Bf16LowMemory);
        }
        let fewer = Workload {
            images: work.prompts,
            ..*work
        };
        if fewer.images < work.images && fits(model, &fewer, ways) {
            advice.push(MemoryAdvice::FewerImages);
        }
        // Latents are as many as they are, and of the size they have.
        if work.text_tokens == 0 {
            return advice;
        }
        let of_prompts = |prompts: usize| Workload {
            text: work.text.map(|[_, tokens]| [prompts, tokens]),
            prompts,
            images: prompts * (work.images / work.prompts.max(1)),
            ..*work
        };
        let (mut most, mut too_many) = (0, work.prompts);
        while too_many - most > 1 {
            let middle = most.midpoint(too_many);
            match fits(model, &of_prompts(middle), ways) {
                true => most = middle,
                false => too_many = middle,
            }
        }
        if most > 0 {
            advice.push(MemoryAdvice::FewerPrompts { prompts: most });
        }
        let [width, height] = self.spec.defaults().size;
        let smaller = Workload {
            size: [width, height],
            output: None,
            ..*work
        };
        let area = |size: [usize; 2]| size[0].saturating_mul(size[1]);
        let asked = work.output.unwrap_or(work.size);
        if area(smaller.size) < area(asked) && fits(model, &smaller, ways) {
            advice.push(MemoryAdvice::Size { width, height });
        }
        advice
    }

    fn tiles(&self, way: Way) -> Option<Tiling> {
        way.in_tiles.then_some(self.memory.tiling)
    }
}

/// What a request asks of the networks.
fn workload(settings: &Settings) -> Workload {
    let inputs = &settings.inputs;
    let (options, ready) = (&inputs.prompt_options, &inputs.embeddings);
    let text_tokens = ready
        .as_ref()
        .map_or(options.max_tokens, |(prompt, negative)| {
            let negative = negative
                .as_ref()
                .map_or(0, |embeds| embeds.embeds.dims()[1]);
            negative.max(prompt.embeds.dims()[1])
        });
    Workload {
        text: match ready {
            Some(_) => None,
            None => Some([settings.prompts, text_length(options)]),
        },
        text_tokens,
        prompts: settings.prompts,
        images: settings.images(),
        guided: settings.classifier_free,
        perturbed: settings.perturbed_blocks.is_some(),
        size: settings.size(),
        output: settings.output_size,
        text_bytes: match ready {
            Some(_) => 0,
            None => {
                let texts = inputs.prompts.iter().chain(&inputs.negatives);
                texts.map(String::len).max().unwrap_or(0)
            }
        },
        encodes: settings.image_to_image.is_some() && inputs.image_to_image.latents.is_none()
            || settings.control.is_some_and(|control| control.is_active()),
    }
}
