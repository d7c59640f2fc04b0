//! Softmax attention from image tokens to text tokens.

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor};

use crate::kernels::{softmax_attention, split_heads};
use crate::precision::Bf16Gemm;

use super::linear::{LinearLayers, TorchLinear};
use super::norm::RmsNormAffine;

/// Options of [`CrossAttention`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CrossAttentionConfig {
    /// Channels of the image tokens and the output.
    pub channels: usize,
    /// Channels of the text tokens.
    pub text_channels: usize,
    /// Number of heads.
    pub heads: usize,
    /// Channels of one head.
    pub head_dim: usize,
    /// RMS norm of queries and keys over all heads together.
    pub qk_norm: bool,
}

impl CrossAttentionConfig {
    /// Builds the layer with lazily initialised weights.
    pub fn init(&self, device: &Device) -> CrossAttention {
        let inner = self.heads * self.head_dim;
        let norm = || {
            self.qk_norm
                .then(|| RmsNormAffine::new(inner, false, 1e-5, device))
        };
        CrossAttention {
            to_q: TorchLinear::new(self.channels, inner, true, device),
            to_k: TorchLinear::new(self.text_channels, inner, true, device),
            to_v: TorchLinear::new(self.text_channels, inner, true, device),
            norm_q: norm(),
            norm_k: norm(),
            to_out: [TorchLinear::new(inner, self.channels, true, device)],
            head_dim: self.head_dim,
        }
    }
}

/// Text keys and values of one block: they depend on the prompt alone, so they are computed once
/// and serve every step.
#[derive(Debug, Clone)]
pub struct TextKeysValues {
    /// `[batch, heads, head_dim, text_tokens]`, transposed for the product with queries.
    key: Tensor<4>,
    /// `[batch, heads, text_tokens, head_dim]`.
    value: Tensor<4>,
}

impl TextKeysValues {
    /// Number of texts.
    pub(crate) fn batch(&self) -> usize {
        self.key.dims()[0]
    }

    /// Key and value, for a look at their elements.
    pub(crate) fn tensors(&self) -> [&Tensor<4>; 2] {
        [&self.key, &self.value]
    }

    /// Those of some of the texts.
    pub(crate) fn items(&self, first: usize, count: usize) -> Self {
        Self {
            key: self.key.clone().narrow(0, first, count),
            value: self.value.clone().narrow(0, first, count),
        }
    }
}

/// `softmax(q k^T / sqrt(head_dim) + bias) v` with queries from image tokens, keys and values from
/// text tokens. The softmax is taken in f32.
#[derive(Module, Debug)]
pub struct CrossAttention {
    /// Query projection, of image tokens.
    pub to_q: TorchLinear,
    /// Key projection, of text tokens.
    pub to_k: TorchLinear,
    /// Value projection, of text tokens.
    pub to_v: TorchLinear,
    /// Query norm over all heads.
    pub norm_q: Option<RmsNormAffine>,
    /// Key norm over all heads.
    pub norm_k: Option<RmsNormAffine>,
    /// Output projection (a list of one in checkpoints).
    pub to_out: [TorchLinear; 1],
    head_dim: usize,
}

impl LinearLayers for CrossAttention {
    fn set_bf16_gemm(&mut self, gemm: Bf16Gemm) {
        self.to_q.set_bf16_gemm(gemm);
        self.to_k.set_bf16_gemm(gemm);
        self.to_v.set_bf16_gemm(gemm);
        self.to_out.set_bf16_gemm(gemm);
    }
}

impl CrossAttention {
    /// Keys and values of the text.
    ///
    /// # Shapes
    /// - text `[batch, text_tokens, text_channels]`
    pub fn keys_values(&self, text: Tensor<3>) -> TextKeysValues {
        let key = self.to_k.forward(text.clone());
        let key = match &self.norm_k {
            Some(norm) => norm.forward(key),
            None => key,
        };
        let value = self.to_v.forward(text);
        TextKeysValues {
            key: split_heads(key, self.head_dim).swap_dims(2, 3), // [batch, heads, head_dim, text_tokens]
            value: split_heads(value, self.head_dim),
        }
    }

    /// Attends from image tokens to the text.
    ///
    /// # Shapes
    /// - input and output `[batch, tokens, channels]`
    /// - `bias` `[batch, 1, 1, text_tokens]` in f32, added to the scores: see [`mask_bias`]
    pub fn forward(
        &self,
        x: Tensor<3>,
        text: &TextKeysValues,
        bias: Option<&Tensor<4>>,
    ) -> Tensor<3> {
        let query = self.to_q.forward(x);
        let query = match &self.norm_q {
            Some(norm) => norm.forward(query),
            None => query,
        };
        let scale = 1.0 / (self.head_dim as f64).sqrt();
        let out = softmax_attention(
            split_heads(query, self.head_dim),
            text.key.clone().swap_dims(2, 3), // [batch, heads, text_tokens, head_dim]
            text.value.clone(),
            bias.cloned(),
            scale,
            None,
        );
        self.to_out[0].forward(out)
    }
}

/// The additive form of a mask: 0 where it keeps (1), -10000 where it hides (0), as in the
/// reference.
///
/// # Shapes
/// - `mask` `[batch, text_tokens]`
/// - result `[batch, 1, 1, text_tokens]` in f32
pub fn mask_bias(mask: Tensor<2>) -> Tensor<4> {
    let [batch, text_tokens] = mask.dims();
    ((mask.cast(DType::F32) - 1.0) * 10000.0).reshape([batch, 1, 1, text_tokens])
}
