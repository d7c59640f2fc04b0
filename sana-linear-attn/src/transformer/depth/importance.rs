//! Which blocks of a transformer matter.

use burn::tensor::{DType, Tensor};

use super::growth::GrowthError;
use crate::transformer::input::{BlockPart, Place};

/// Block importance: one minus the mean cosine between what goes into a block and what comes out,
///
/// ```text
/// BI_i = 1 - E <X_i, X_{i+1}> / (|X_i| |X_{i+1}|)
/// ```
///
/// token by token, over all tokens, items and forward passes that were observed. From 0, for a block
/// that changes no direction, to 2.
///
/// It is an observer of a forward pass
/// ([`TransformerInput::observer`](crate::transformer::TransformerInput::observer)). Of the hidden states it
/// holds the last one only, and for each block a sum on the device, which is read at the end.
#[derive(Debug, Clone)]
pub struct BlockImportance {
    /// What goes into block `next`.
    input: Option<Tensor<3>>,
    next: usize,
    /// Sum of cosines and number of tokens of each block.
    sums: Vec<Option<(Tensor<1>, usize)>>,
}

impl BlockImportance {
    /// For a network of this many blocks, before its first forward pass.
    pub fn new(blocks: usize) -> Self {
        Self {
            input: None,
            next: 0,
            sums: vec![None; blocks],
        }
    }

    /// Takes the values of a place of a forward pass. What is not the input or the output of a block
    /// is passed over.
    pub fn observe(&mut self, place: Place, values: &Tensor<3>) {
        match place {
            Place::PatchEmbedding => self.follow(0, values),
            Place::Block {
                index,
                part: BlockPart::FeedForward,
            } => {
                let input = self.input.take();
                // In the second path of perturbed attention the first block's input is not seen.
                if let Some(input) = input.filter(|_| index == self.next) {
                    self.add(index, input, values);
                }
                self.follow(index + 1, values);
            }
            // Before block `index` or behind it, by the wiring: it goes into the next one.
            Place::Block {
                part: BlockPart::ControlResidual,
                ..
            } => self.input = Some(values.clone()),
            _ => {}
        }
    }

    fn follow(&mut self, next: usize, values: &Tensor<3>) {
        self.input = Some(values.clone());
        self.next = next;
    }

    fn add(&mut self, index: usize, input: Tensor<3>, output: &Tensor<3>) {
        let [batch, tokens, _] = input.dims();
        let input = input.cast(DType::F32);
        let output = output.clone().cast(DType::F32);
        let norm = |x: &Tensor<3>| x.clone().square().sum_dim(2).sqrt();
        let lengths = norm(&input) * norm(&output);
        // A token of zeros has no direction: it counts as changed.
        let cosine = (input * output).sum_dim(2) / lengths.clamp_min(f32::MIN_POSITIVE);
        if let Some(sum) = self.sums.get_mut(index) {
            let (before, count) = match sum.take() {
                Some((before, count)) => (before + cosine.sum(), count),
                None => (cosine.sum(), 0),
            };
            *sum = Some((before, count + batch * tokens));
        }
    }

    /// The importance of each block, `None` for one that was not observed. Reads from the device.
    pub fn values(&self) -> Vec<Option<f64>> {
        let value = |(sum, count): &(Tensor<1>, usize)| {
            1.0 - f64::from(sum.clone().into_scalar::<f32>()) / *count as f64
        };
        self.sums
            .iter()
            .map(|sum| sum.as_ref().map(value))
            .collect()
    }

    /// The `keep` blocks of most importance, in their order in the network: the least important are
    /// left out, of equal ones the later. To be given to
    /// [`keep_blocks`](crate::SanaTransformerConfig::keep_blocks).
    ///
    /// # Errors
    /// [`GrowthError::Keep`] unless `1 <= keep <= blocks`, and [`GrowthError::Importance`] for a
    /// block whose importance is not known or not finite.
    pub fn most_important(&self, keep: usize) -> Result<Vec<usize>, GrowthError> {
        let blocks = self.sums.len();
        if keep == 0 || keep > blocks {
            return Err(GrowthError::Keep { keep, blocks });
        }
        let values = self.values();
        let known = values.iter().enumerate().map(|(block, value)| {
            let value = value.filter(|value| value.is_finite());
            value
                .map(|value| (block, value))
                .ok_or(GrowthError::Importance { block })
        });
        let mut ranked: Vec<(usize, f64)> = known.collect::<Result<_, _>>()?;
        ranked.sort_by(|(_, left), (_, right)| right.total_cmp(left));
        let mut kept: Vec<usize> = ranked[..keep].iter().map(|(block, _)| *block).collect();
        kept.sort_unstable();
        Ok(kept)
    }
}
