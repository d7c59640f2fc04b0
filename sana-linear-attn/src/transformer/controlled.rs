use burn::tensor::Tensor;

use super::model::{SanaTransformer, TextContext};
use super::perturbed::{PerturbedBlocks, PerturbedOutput};
use super::trunk::Conditions;

/// A transformer together with the residuals of a [`SanaControlNet`](super::SanaControlNet) at one
/// step: its forwards are those of [`SanaTransformer`], with residual `i` added to the output of
/// block `i + 1`, counted from 0.
///
/// From [`SanaTransformer::controlled`].
#[derive(Debug, Clone, Copy)]
pub struct ControlledTransformer<'a> {
    pub(super) transformer: &'a SanaTransformer,
    pub(super) residuals: &'a [Tensor<3>],
}

impl<'a> ControlledTransformer<'a> {
    pub(super) fn new(transformer: &'a SanaTransformer, residuals: &'a [Tensor<3>]) -> Self {
        let blocks = transformer.config().num_layers;
        assert!(
            residuals.is_empty() || residuals.len() < blocks,
            "{} residuals for a transformer of {blocks} blocks",
            residuals.len()
        );
        Self {
            transformer,
            residuals,
        }
    }

    /// As [`SanaTransformer::forward`].
    pub fn forward(
        &self,
        latents: Tensor<4>,
        timestep: Tensor<1>,
        guidance: Option<Tensor<1>>,
        text: &TextContext,
    ) -> Tensor<4> {
        self.forward_observed(latents, timestep, guidance, text, |_, _| {})
    }

    /// As [`SanaTransformer::forward_observed`]; the tokens after a block are those with its
    /// residual.
    pub fn forward_observed(
        &self,
        latents: Tensor<4>,
        timestep: Tensor<1>,
        guidance: Option<Tensor<1>>,
        text: &TextContext,
        mut observe: impl FnMut(usize, &Tensor<3>),
    ) -> Tensor<4> {
        let trunk = self.transformer.trunk();
        let grid = trunk.grid(&latents);
        let x = trunk.embed(latents);
        observe(0, &x);
        let (embedding, modulation) = self.transformer.embed_time(timestep, guidance);
        let conditions = Conditions {
            modulation,
            text,
            grid,
            perturbed: &[],
            residuals: self.residuals,
        };
        let x = trunk.run_blocks(0..trunk.blocks.len(), x, &conditions, observe);
        self.transformer.output(x, embedding, grid)
    }

    /// As [`SanaTransformer::forward_perturbed`]; the perturbed items have the same residuals.
    ///
    /// # Panics
    /// As there.
    pub fn forward_perturbed(
        &self,
        latents: Tensor<4>,
        timestep: Tensor<1>,
        guidance: Option<Tensor<1>>,
        text: &TextContext,
        blocks: &PerturbedBlocks,
        perturbed_text: &TextContext,
    ) -> PerturbedOutput {
        let [batch, _, _, _] = latents.dims();
        let items = perturbed_text.batch();
        assert!(
            items <= batch,
            "{items} perturbed items of a batch of {batch}"
        );
        let start = batch - items;
        let trunk = self.transformer.trunk();
        let grid = trunk.grid(&latents);
        let x = trunk.embed(latents);
        let (embedding, modulation) = self.transformer.embed_time(timestep, guidance);
        let conditions = Conditions {
            modulation: modulation.clone(),
            text,
            grid,
            perturbed: &[],
            residuals: self.residuals,
        };
        let last_residuals: Vec<Tensor<3>> = self
            .residuals
            .iter()
            .map(|residual| residual.clone().narrow(0, start, items))
            .collect();
        let perturbed_conditions = Conditions {
            modulation: modulation.narrow(0, start, items),
            text: perturbed_text,
            grid,
            perturbed: blocks.indices(),
            residuals: &last_residuals,
        };
        let (first, all) = (blocks.first(), trunk.blocks.len());
        let x = trunk.run_blocks(0..first, x, &conditions, |_, _| {});
        let perturbed = x.clone().narrow(0, start, items);
        let perturbed = trunk.run_blocks(first..all, perturbed, &perturbed_conditions, |_, _| {});
        let x = trunk.run_blocks(first..all, x, &conditions, |_, _| {});
        let perturbed_embedding = embedding.clone().narrow(0, start, items);
        PerturbedOutput {
            output: self.transformer.output(x, embedding, grid),
            perturbed: self
                .transformer
                .output(perturbed, perturbed_embedding, grid),
        }
    }
}
