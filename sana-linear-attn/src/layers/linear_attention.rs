//! ReLU linear self-attention over tokens (Sana paper, section 2.2).

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::kernels::relu_linear_attention;
use crate::precision::Bf16Gemm;

use super::linear::{LinearLayers, TorchLinear};
use super::norm::RmsNormAffine;

/// Largest finite f16: checkpoints trained in f16 rely on activations saturating there.
const F16_MAX: f64 = 65504.0;

/// Options of [`LinearAttention`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinearAttentionConfig {
    /// Channels of the input and the output.
    pub channels: usize,
    /// Number of heads.
    pub heads: usize,
    /// Channels of one head; 32 in every released checkpoint.
    pub head_dim: usize,
    /// Whether the query, key and value projections have a bias.
    pub bias: bool,
    /// RMS norm of queries and keys over all heads together, before the head split (SANA-1.5 and
    /// Sana-Sprint).
    pub qk_norm: bool,
}

impl LinearAttentionConfig {
    /// Builds the layer with lazily initialised weights.
    pub fn init(&self, device: &Device) -> LinearAttention {
        let inner = self.heads * self.head_dim;
        let projection = || TorchLinear::new(self.channels, inner, self.bias, device);
        let norm = || {
            self.qk_norm
                .then(|| RmsNormAffine::new(inner, false, 1e-5, device))
        };
        LinearAttention {
            to_q: projection(),
            to_k: projection(),
            to_v: projection(),
            norm_q: norm(),
            norm_k: norm(),
            to_out: [TorchLinear::new(inner, self.channels, true, device)],
            head_dim: self.head_dim,
            clamp: false,
        }
    }
}

/// Self-attention whose cost grows linearly with the number of tokens.
///
/// With `phi = relu`, head by head,
///
/// ```text
/// out_i = phi(q_i) (sum_j phi(k_j)^T v_j) / (phi(q_i) . sum_j phi(k_j) + eps)
/// ```
///
/// Both sums run once over all tokens, in f32, with eps = 1e-15; then the result is projected.
#[derive(Module, Debug)]
pub struct LinearAttention {
    /// Query projection.
    pub to_q: TorchLinear,
    /// Key projection.
    pub to_k: TorchLinear,
    /// Value projection.
    pub to_v: TorchLinear,
    /// Query norm over all heads.
    pub norm_q: Option<RmsNormAffine>,
    /// Key norm over all heads.
    pub norm_k: Option<RmsNormAffine>,
    /// Output projection (a list of one in checkpoints).
    pub to_out: [TorchLinear; 1],
    head_dim: usize,
    clamp: bool,
}

impl LinearLayers for LinearAttention {
    fn set_bf16_gemm(&mut self, gemm: Bf16Gemm) {
        self.to_q.set_bf16_gemm(gemm);
        self.to_k.set_bf16_gemm(gemm);
        self.to_v.set_bf16_gemm(gemm);
        self.to_out.set_bf16_gemm(gemm);
    }
}

impl LinearAttention {
    /// Limits the projected output to the range of f16, whatever the compute dtype. Checkpoints
    /// trained in f16 without qk norm depend on it.
    pub fn with_f16_clamp(mut self, clamp: bool) -> Self {
        self.clamp = clamp;
        self
    }

    /// Whether the output is limited so.
    pub(crate) fn has_f16_clamp(&self) -> bool {
        self.clamp
    }

    /// Applies the attention.
    ///
    /// # Shapes
    /// - input and output `[batch, tokens, channels]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let query = normed(&self.norm_q, self.to_q.forward(x.clone()));
        let key = normed(&self.norm_k, self.to_k.forward(x.clone()));
        let value = self.to_v.forward(x);
        self.project(relu_linear_attention(query, key, value, self.head_dim))
    }

    /// The layer with its attention map replaced by the identity: every token attends to itself
    /// alone. The perturbed path of perturbed attention guidance.
    ///
    /// # Shapes
    /// - input and output `[batch, tokens, channels]`
    pub fn forward_identity(&self, x: Tensor<3>) -> Tensor<3> {
        self.project(self.to_v.forward(x))
    }

    fn project(&self, attended: Tensor<3>) -> Tensor<3> {
        let out = self.to_out[0].forward(attended);
        if self.clamp {
            out.clamp(-F16_MAX, F16_MAX)
        } else {
            out
        }
    }
}

fn normed(norm: &Option<RmsNormAffine>, x: Tensor<3>) -> Tensor<3> {
    match norm {
        Some(norm) => norm.forward(x),
        None => x,
    }
}
