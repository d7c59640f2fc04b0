//! Where in the network the first value that is not finite appears.

use burn::tensor::Tensor;

use crate::precision::is_finite;

use super::SanaTransformer;
use crate::transformer::input::{BlockPart, Place, TextContext, TransformerInput};

impl SanaTransformer {
    /// Repeats a forward pass and names the first place whose values are not all finite, or `None`
    /// when all are, the output included. For after a failure: it reads a value from the device at
    /// every place.
    ///
    /// `captions` are the embeddings that the context was made of,
    /// `[batch, text_tokens, caption_channels]` each, as far as they are at hand. An observer of the
    /// input is replaced.
    ///
    /// A value that cannot be read from the device counts as finite.
    #[doc(hidden)]
    pub fn locate_non_finite(
        &self,
        input: TransformerInput<'_>,
        captions: &[Tensor<3>],
    ) -> Option<Place> {
        if let Some(place) = self.locate_in_inputs(&input.latents, captions, input.context) {
            return Some(place);
        }
        let mut first = None;
        let mut look = |place, values: &Tensor<3>| {
            if first.is_none() && !is_finite(values) {
                first = Some(place);
            }
        };
        self.forward(input.with_observer(&mut look));
        first
    }

    fn locate_in_inputs(
        &self,
        latents: &Tensor<4>,
        captions: &[Tensor<3>],
        context: &TextContext,
    ) -> Option<Place> {
        if !is_finite(latents) {
            return Some(Place::Latents);
        }
        if !captions.iter().all(is_finite) {
            return Some(Place::TextEmbeddings);
        }
        let projected = |caption: &Tensor<3>| is_finite(&self.project_caption(caption.clone()));
        if !captions.iter().all(projected) {
            return Some(Place::CaptionProjection);
        }
        let index = context.blocks.iter().position(|text| {
            let [key, value] = text.tensors();
            !(is_finite(key) && is_finite(value))
        })?;
        let part = BlockPart::TextKeysValues;
        Some(Place::Block { index, part })
    }
}
