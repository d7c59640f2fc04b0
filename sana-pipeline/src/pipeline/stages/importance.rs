//! How much each block of the transformer changes, while it denoises.

use burn::tensor::read_sync;
use sana_linear_attn::transformer::depth::BlockImportance;

use super::denoise::Encoded;
use crate::error::{ObserverError, PipelineError};
use crate::pipeline::SanaPipeline;
use crate::pipeline::observer::{self, StepAction, StepInfo};
use crate::request::Request;

impl SanaPipeline {
    /// Denoises a request's images and adds what the blocks of the transformer do at every step to
    /// their importance; the images are not decoded. With classifier-free guidance both the prompts
    /// and the negative prompts count.
    ///
    /// Nothing is computed twice and no hidden states are kept: see [`BlockImportance`].
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    pub fn add_block_importance<R>(
        &mut self,
        importance: BlockImportance,
        request: &Request,
        observe: &mut dyn FnMut(StepInfo<'_>) -> R,
    ) -> Result<BlockImportance, PipelineError>
    where
        R: Into<Result<StepAction, ObserverError>>,
    {
        let settings = request.validate(&self.spec)?;
        let tiling = self.plan_request(&settings)?;
        self.load_text(&settings)?;
        let conditioning = read_sync(self.encode_texts(&settings))?;
        let encoded = Encoded {
            control: read_sync(self.encode_control_images(&settings, tiling))?,
            known: read_sync(self.encode_known(&settings, tiling))?,
            tiling,
            ..Encoded::default()
        };
        self.importance = Some(importance);
        let observe = &mut async |step: StepInfo<'_>| observer::answer(observe(step));
        let sampled = read_sync(self.sample_encoded(&settings, &conditioning, &encoded, observe));
        let importance = self.importance.take();
        sampled?;
        Ok(importance.unwrap_or_else(|| BlockImportance::new(self.spec.transformer.num_layers)))
    }
}
