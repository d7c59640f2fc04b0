//! Which tokens see which.

use burn::tensor::{DType, Device, Tensor, TensorData};

use super::config::LayerType;

/// Added to the score of a hidden pair. Finite, so that a row that sees nothing (padding on the
/// left) stays finite too; large enough that its weight is exactly zero elsewhere.
const HIDDEN: f32 = -1e30;

/// The additive masks of the two kinds of layers: causal, limited to the sliding window, and blind
/// to padding.
#[derive(Debug, Clone)]
pub struct AttentionMasks {
    full: Tensor<4>,
    sliding: Tensor<4>,
}

impl AttentionMasks {
    /// Builds both masks.
    ///
    /// # Shapes
    /// - `keep` `[batch, tokens]`: 1 for a token, 0 for padding
    pub fn new(keep: Tensor<2>, sliding_window: Option<usize>) -> Self {
        let [batch, tokens] = keep.dims();
        let device = keep.device();
        let padding = ((keep.cast(DType::F32) - 1.0) * -HIDDEN).reshape([batch, 1, 1, tokens]);
        let full = causal(tokens, tokens, &device) + padding.clone();
        let sliding = match sliding_window {
            Some(window) if window < tokens => causal(tokens, window, &device) + padding,
            _ => full.clone(),
        };
        Self { full, sliding }
    }

    /// The mask of a layer, `[batch, 1, tokens, tokens]` in f32 (queries, then keys): 0 where the
    /// query sees the key, at most -1e30 where it does not.
    pub fn of(&self, layer_type: LayerType) -> Tensor<4> {
        match layer_type {
            LayerType::Full => self.full.clone(),
            LayerType::Sliding => self.sliding.clone(),
        }
    }
}

/// `[1, 1, tokens, tokens]`: query `q` sees keys `q - window < k <= q`.
fn causal(tokens: usize, window: usize, device: &Device) -> Tensor<4> {
    let values: Vec<f32> = (0..tokens)
        .flat_map(|query| {
            (0..tokens).map(move |key| {
                if key <= query && query - key < window {
                    0.0
                } else {
                    HIDDEN
                }
            })
        })
        .collect();
    Tensor::from_data(
        TensorData::new(values, [1, 1, tokens, tokens]),
        (device, DType::F32),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use sana_linear_attn::parity::device;

    fn visible(mask: Tensor<4>) -> Vec<String> {
        let [batch, _, tokens, _] = mask.dims();
        let values = mask.into_data().try_into_vec::<f32>().unwrap();
        assert_eq!(values.len(), batch * tokens * tokens);
        values
            .chunks(tokens)
            .map(|row| {
                row.iter()
                    .map(|&v| if v == 0.0 { '1' } else { '.' })
                    .collect()
            })
            .collect()
    }

    #[test]
    fn causal_window_and_padding() {
        let keep = Tensor::<2>::from_data([[1.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 1.0]], &device());
        let masks = AttentionMasks::new(keep, Some(2));
        assert_eq!(
            visible(masks.of(LayerType::Full)),
            [
                "1...", "11..", "111.", "111.", "....", ".1..", ".11.", ".111"
            ]
        );
        assert_eq!(
            visible(masks.of(LayerType::Sliding)),
            [
                "1...", "11..", ".11.", "..1.", "....", ".1..", ".11.", "..11"
            ]
        );
    }

    #[test]
    fn a_wide_window_is_no_window() {
        let keep = Tensor::<2>::ones([1, 3], &device());
        for window in [None, Some(3), Some(4096)] {
            let masks = AttentionMasks::new(keep.clone(), window);
            assert_eq!(visible(masks.of(LayerType::Sliding)), ["1..", "11.", "111"]);
        }
    }
}
