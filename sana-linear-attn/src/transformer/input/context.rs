use std::ops::Range;

use burn::tensor::Tensor;

use crate::layers::TextKeysValues;

/// Everything of the prompt that does not change between steps: every block's cross-attention
/// keys and values, and the mask.
#[derive(Debug, Clone)]
pub struct TextContext {
    pub(in crate::transformer) blocks: Vec<TextKeysValues>,
    pub(in crate::transformer) bias: Option<Tensor<4>>,
}

impl TextContext {
    /// Number of texts.
    pub fn batch(&self) -> usize {
        self.blocks.first().map_or(0, TextKeysValues::batch)
    }

    /// The context of some of the texts, without computing anything again.
    ///
    /// # Panics
    /// If the range is empty or goes beyond the last text.
    pub fn items(&self, range: Range<usize>) -> Self {
        let (first, count) = (range.start, range.len());
        let blocks = self.blocks.iter();
        Self {
            blocks: blocks.map(|text| text.items(first, count)).collect(),
            bias: self
                .bias
                .as_ref()
                .map(|bias| bias.clone().narrow(0, first, count)),
        }
    }
}
