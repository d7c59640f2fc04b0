//! Grouped-query attention with soft-capped scores.

use burn::module::Module;
use burn::tensor::{DType, Tensor};
use sana_linear_attn::TorchLinear;
use sana_linear_attn::kernels::{softmax_attention, split_heads};
use sana_linear_attn::layers::LinearLayers;
use sana_linear_attn::precision::Bf16Gemm;

use super::config::Gemma2Config;
use super::init::MatrixInit;
use super::rope::Rope;

/// `softmax(cap tanh(q k^T / (sqrt(s) cap)) + mask) v` with rotary positions, where several query
/// heads share a key and value head and `s` is `query_pre_attn_scalar`.
///
/// Scores, softmax and sums are f32 whatever the dtype of the weights; one cast back before the
/// output projection.
#[derive(Module, Debug)]
pub struct Gemma2Attention {
    /// Queries, `[heads * head_dim, channels]`.
    pub q_proj: TorchLinear,
    /// Keys, `[key_value_heads * head_dim, channels]`.
    pub k_proj: TorchLinear,
    /// Values, `[key_value_heads * head_dim, channels]`.
    pub v_proj: TorchLinear,
    /// Output, `[channels, heads * head_dim]`.
    pub o_proj: TorchLinear,
    head_dim: usize,
    scale: f64,
    softcap: Option<f64>,
}

impl LinearLayers for Gemma2Attention {
    fn set_bf16_gemm(&mut self, gemm: Bf16Gemm) {
        self.q_proj.set_bf16_gemm(gemm);
        self.k_proj.set_bf16_gemm(gemm);
        self.v_proj.set_bf16_gemm(gemm);
        self.o_proj.set_bf16_gemm(gemm);
    }
}

impl Gemma2Attention {
    pub(super) fn new(config: &Gemma2Config, init: &mut MatrixInit<'_>) -> Self {
        let channels = config.hidden_size;
        let heads = config.num_attention_heads * config.head_dim;
        let key_heads = config.num_key_value_heads * config.head_dim;
        Self {
            q_proj: init.linear(channels, heads),
            k_proj: init.linear(channels, key_heads),
            v_proj: init.linear(channels, key_heads),
            o_proj: init.linear(heads, channels),
            head_dim: config.head_dim,
            scale: (config.query_pre_attn_scalar as f64).powf(-0.5),
            softcap: config.attn_logit_softcapping,
        }
    }

    /// Attends within each sequence.
    ///
    /// # Shapes
    /// - `x` and output `[batch, tokens, channels]`
    /// - `mask` `[batch, 1, tokens, tokens]`, added to the scores
    pub fn forward(&self, x: Tensor<3>, rope: &Rope, mask: Tensor<4>) -> Tensor<3> {
        let dtype = x.dtype();
        let query = rope.rotate(self.heads(self.q_proj.forward(x.clone())));
        let key = rope.rotate(self.heads(self.k_proj.forward(x.clone())));
        let value = self.heads(self.v_proj.forward(x));
        let out = softmax_attention(query, key, value, Some(mask), self.scale, self.softcap);
        self.o_proj.forward(out.cast(dtype))
    }

    /// `[batch, tokens, heads * head_dim]` to `[batch, heads, tokens, head_dim]` in f32.
    fn heads(&self, x: Tensor<3>) -> Tensor<4> {
        split_heads(x.cast(DType::F32), self.head_dim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gemma2::config::LayerType;
    use crate::gemma2::mask::AttentionMasks;
    use burn::tensor::TensorData;
    use sana_linear_attn::parity::{assert_parity, device};

    /// The same attention one query at a time, with keys repeated per head.
    fn slow(attention: &Gemma2Attention, x: &Tensor<3>, window: usize, theta: f64) -> Tensor<3> {
        let [batch, tokens, _] = x.dims();
        let rope = Rope::new(theta, attention.head_dim, tokens, &x.device());
        let rows = |x: Tensor<4>| x.into_data().try_into_vec::<f32>().unwrap();
        let query = rope.rotate(attention.heads(attention.q_proj.forward(x.clone())));
        let key = rope.rotate(attention.heads(attention.k_proj.forward(x.clone())));
        let value = attention.heads(attention.v_proj.forward(x.clone()));
        let [_, heads, _, dim] = query.dims();
        let groups = heads / key.dims()[1];
        let (query, key, value) = (rows(query), rows(key), rows(value));
        let cap = attention.softcap.unwrap();
        let mut out = vec![0f32; batch * tokens * heads * dim];
        for b in 0..batch {
            for head in 0..heads {
                let key_head = head / groups;
                for q in 0..tokens {
                    let at_query = ((b * heads + head) * tokens + q) * dim;
                    let at_key = |k: usize| ((b * heads / groups + key_head) * tokens + k) * dim;
                    let seen: Vec<usize> = (0..=q).filter(|k| q - k < window).collect();
                    let weights: Vec<f64> = seen
                        .iter()
                        .map(|&k| {
                            let dot: f64 = (0..dim)
                                .map(|i| f64::from(query[at_query + i] * key[at_key(k) + i]))
                                .sum();
                            ((dot * attention.scale / cap).tanh() * cap).exp()
                        })
                        .collect();
                    let sum: f64 = weights.iter().sum();
                    for i in 0..dim {
                        let mixed: f64 = seen
                            .iter()
                            .zip(&weights)
                            .map(|(&k, weight)| weight * f64::from(value[at_key(k) + i]))
                            .sum();
                        out[((b * tokens + q) * heads + head) * dim + i] = (mixed / sum) as f32;
                    }
                }
            }
        }
        let out = TensorData::new(out, [batch, tokens, heads * dim]);
        attention
            .o_proj
            .forward(Tensor::from_data(out, &x.device()))
    }

    #[test]
    fn equals_the_loop_over_queries() {
        let device = device();
        let config = Gemma2Config {
            hidden_size: 10,
            num_attention_heads: 6,
            num_key_value_heads: 2,
            head_dim: 4,
            query_pre_attn_scalar: 7,
            attn_logit_softcapping: Some(0.8),
            initializer_range: 0.7,
            ..Gemma2Config::gemma_2_2b()
        };
        let attention = Gemma2Attention::new(&config, &mut MatrixInit::seeded(3, 0.7, &device));
        for (tokens, window) in [(1, 4), (5, 9), (7, 3)] {
            let values: Vec<f32> = (0..2 * tokens * 10)
                .map(|i| (i as f32 * 1.3).cos())
                .collect();
            let x = Tensor::<3>::from_data(TensorData::new(values, [2, tokens, 10]), &device);
            let masks = AttentionMasks::new(Tensor::ones([2, tokens], &device), Some(window));
            let rope = Rope::new(10000.0, 4, tokens, &device);
            let fast = attention.forward(x.clone(), &rope, masks.of(LayerType::Sliding));
            assert_parity("attention", fast, slow(&attention, &x, window, 10000.0));
        }
    }
}
