//! Where in the decoder the first value that is not finite appears.

use burn::tensor::{DType, Tensor};
use sana_linear_attn::precision::is_finite;

use crate::{DcAe, DecoderPlace};

/// Side of the part of the latents that is decoded again, at most: an image of a quarter of a
/// megapixel at a compression of 32.
const SIDE: usize = 16;

impl DcAe {
    /// Decodes scaled latents once more, as [`DcAe::decode`] does, with every layer's output looked
    /// at, and names the first that holds NaN or infinity. For after a failure: it reads a value
    /// from the device after every layer. Of large latents only the upper left 16 x 16 are decoded, which takes little
    /// memory and is enough to find a weight; `None` when all of that is finite.
    ///
    /// A value that cannot be read from the device counts as finite.
    ///
    /// # Shapes
    /// - latents `[batch, latent_channels, height, width]`
    ///
    /// # Panics
    /// If the latents do not fit the model; [`DcAe::decode`] checks that.
    #[doc(hidden)]
    pub fn locate_non_finite(&self, latents: Tensor<4>) -> Option<DecoderPlace> {
        if !is_finite(&latents) {
            return Some(DecoderPlace::Latents);
        }
        let [_, _, height, width] = latents.dims();
        let part = latents
            .narrow(2, 0, height.min(SIDE))
            .narrow(3, 0, width.min(SIDE));
        let raw = part.cast(DType::F32) / self.scaling_factor();
        let mut first = None;
        self.decoder
            .forward_observed(raw.cast(self.compute_dtype()), |place, x| {
                if first.is_none() && !is_finite(x) {
                    first = Some(place);
                }
            });
        first
    }
}
