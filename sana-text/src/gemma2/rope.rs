//! Rotary position embedding in the half-split convention.

use burn::tensor::{DType, Device, Tensor, TensorData};

/// Cosines and sines of the rotation angles `p theta^(-2i / head_dim)` of positions `p` and
/// channel pairs `i`. Channel `i` is paired with channel `i + head_dim / 2`.
///
/// Source: Su et al., "RoFormer", arXiv:2104.09864, section 3.2.2; the pairing of halves is that
/// of the reference.
#[derive(Debug, Clone)]
pub struct Rope {
    cos: Tensor<4>,
    sin: Tensor<4>,
}

impl Rope {
    /// The table of positions `0..tokens`, in f32. Angles are rounded as in the reference, which
    /// computes frequencies and products in f32.
    pub fn new(theta: f64, head_dim: usize, tokens: usize, device: &Device) -> Self {
        let half = head_dim / 2;
        let frequencies: Vec<f32> = (0..half)
            .map(|i| 1.0 / (theta as f32).powf((2 * i) as f32 / head_dim as f32))
            .collect();
        let angles = || {
            (0..tokens).flat_map(|position| {
                frequencies
                    .iter()
                    .map(move |frequency| f64::from(position as f32 * frequency))
            })
        };
        let table = |values: Vec<f32>| {
            let data = TensorData::new(values, [1, 1, tokens, half]);
            Tensor::from_data(data, (device, DType::F32))
        };
        Self {
            cos: table(angles().map(|angle| angle.cos() as f32).collect()),
            sin: table(angles().map(|angle| angle.sin() as f32).collect()),
        }
    }

    /// Rotates every pair of channels by the angle of its token.
    ///
    /// # Shapes
    /// - input and output `[batch, heads, tokens, head_dim]` in f32
    pub fn rotate(&self, x: Tensor<4>) -> Tensor<4> {
        let half = x.dims()[3] / 2;
        let first = x.clone().narrow(3, 0, half);
        let second = x.narrow(3, half, half);
        let (cos, sin) = (self.cos.clone(), self.sin.clone());
        Tensor::cat(
            vec![
                first.clone() * cos.clone() - second.clone() * sin.clone(),
                second * cos + first * sin,
            ],
            3,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sana_linear_attn::parity::{assert_parity, device};

    fn sample(tokens: usize, head_dim: usize) -> Tensor<4> {
        let values: Vec<f32> = (0..2 * tokens * head_dim)
            .map(|i| (i as f32 * 0.7).sin())
            .collect();
        Tensor::from_data(TensorData::new(values, [1, 2, tokens, head_dim]), &device())
    }

    #[test]
    fn keeps_the_first_token_and_all_lengths() {
        let (tokens, head_dim) = (5, 6);
        let x = sample(tokens, head_dim);
        let y = Rope::new(100.0, head_dim, tokens, &device()).rotate(x.clone());
        assert_parity(
            "first token",
            y.clone().narrow(2, 0, 1),
            x.clone().narrow(2, 0, 1),
        );
        assert_parity("lengths", y.square().sum_dim(3), x.square().sum_dim(3));
    }

    #[test]
    fn scores_depend_on_the_distance_only() {
        let (tokens, head_dim) = (7, 4);
        let row = sample(1, head_dim);
        let same = row.clone().expand([1, 2, tokens, head_dim]);
        let y = Rope::new(50.0, head_dim, tokens, &device()).rotate(same);
        let scores = y.clone().matmul(y.swap_dims(2, 3)); // [1, 2, tokens, tokens]
        let left = scores
            .clone()
            .narrow(2, 1, tokens - 1)
            .narrow(3, 1, tokens - 1);
        let right = scores.narrow(2, 0, tokens - 1).narrow(3, 0, tokens - 1);
        assert_parity("Toeplitz", left, right);
    }
}
