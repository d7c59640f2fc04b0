//! The estimate for one image, by dtype, for people and programs to read.

use std::fmt;

use burn::tensor::DType;
use sana_linear_attn::quantization::Quantization;
use sana_text::PromptOptions;
use serde::Serialize;

use super::estimate::MemoryEstimate;
use super::model::{MemoryModel, Workload};
use crate::checkpoint::{Checkpoint, QuantizeComponents};
use crate::error::PipelineError;
use crate::support::units::human;

/// Memory for one image on the CPU with classifier-free guidance. Its [`fmt::Display`] is a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageMemory {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// One entry for each dtype of the weights.
    pub by_dtype: Vec<ImageMemoryIn>,
}

/// Memory for one image with the weights in one dtype.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageMemoryIn {
    /// The dtype.
    pub dtype: &'static str,
    /// Stage by stage.
    pub estimate: MemoryEstimate,
    /// Bytes with all components in memory.
    pub all_components: u64,
    /// Bytes with one stage in memory at a time.
    pub one_stage: u64,
    /// Bytes with one stage in memory at a time and decoding in tiles.
    pub one_stage_in_tiles: u64,
}

impl ImageMemory {
    /// For an image of `[width, height]`, or else of the model's own size.
    pub(crate) fn new(
        models: &[(&'static str, MemoryModel)],
        size: Option<[usize; 2]>,
        options: &PromptOptions,
    ) -> Self {
        let native = models.first().map_or(0, |(_, model)| model.native());
        let [width, height] = size.unwrap_or([native; 2]);
        let work = Workload::one_image(options, [width, height]);
        let by_dtype = models.iter().map(|(dtype, model)| {
            let estimate = model.estimate(&work);
            ImageMemoryIn {
                dtype,
                all_components: estimate.all_components(false),
                one_stage: estimate.one_stage_at_a_time(false),
                one_stage_in_tiles: estimate.one_stage_at_a_time(true),
                estimate,
            }
        });
        Self {
            width,
            height,
            by_dtype: by_dtype.collect(),
        }
    }
}

impl Checkpoint {
    /// The memory for one image on the CPU with classifier-free guidance, of `[width, height]` or
    /// else of the size that the model was trained at, with the parts in f32 and in bf16, and with
    /// transformer and text encoder [quantized](QuantizeComponents) and the rest in bf16.
    ///
    /// # Errors
    /// When a part is not usable.
    pub fn describe_memory(
        &self,
        variant: Option<&str>,
        size: Option<[usize; 2]>,
    ) -> Result<ImageMemory, PipelineError> {
        let model = |dtype, quantize| MemoryModel::of_checkpoint(self, variant, dtype, quantize);
        let none = QuantizeComponents::default();
        let mut models = vec![
            ("f32", model(DType::F32, none)?),
            ("bf16", model(DType::BF16, none)?),
        ];
        // The rest is in bf16.
        for (name, quantize) in [
            ("int8", QuantizeComponents::usual(Quantization::Int8)),
            ("uint4", QuantizeComponents::usual(Quantization::Uint4)),
            (
                "uint4 with the text encoder",
                QuantizeComponents::both(Quantization::Uint4),
            ),
        ] {
            models.push((name, model(DType::BF16, quantize)?));
        }
        let options = self.keys().prompt_options();
        Ok(ImageMemory::new(&models, size, &options))
    }
}

impl fmt::Display for ImageMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { width, height, .. } = self;
        write!(
            f,
            "memory for an image of {width}x{height} on the CPU, estimated"
        )?;
        for memory in &self.by_dtype {
            write!(f, "\n  weights in {}", memory.dtype)?;
            for stage in &memory.estimate.stages {
                let (weights, activations) = (human(stage.weights), human(stage.activations));
                write!(
                    f,
                    "\n    {:<22} {weights:>10} weights + {activations:>10}",
                    stage.name
                )?;
            }
            let tiled = human(memory.estimate.decode_in_tiles.activations);
            let weights = human(memory.estimate.decode_in_tiles.weights);
            write!(
                f,
                "\n    {:<22} {weights:>10} weights + {tiled:>10}",
                "decode in tiles"
            )?;
            let sums = [
                ("all components", memory.all_components),
                ("one stage at a time", memory.one_stage),
                ("and decoding in tiles", memory.one_stage_in_tiles),
            ];
            for (name, bytes) in sums {
                write!(f, "\n    {name:<22} {:>10}", human(bytes))?;
            }
        }
        Ok(())
    }
}
