//! One decoder layer and its feed-forward part.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use sana_linear_attn::TorchLinear;
use sana_linear_attn::kernels::{add, gelu_gate};
use sana_linear_attn::layers::LinearLayers;
use sana_linear_attn::precision::Bf16Gemm;

use super::attention::Gemma2Attention;
use super::config::Gemma2Config;
use super::init::MatrixInit;
use super::norm::GemmaRmsNorm;
use super::rope::Rope;

/// Gated feed-forward part: `down(gelu(gate(x)) * up(x))` with the tanh form of GELU.
#[derive(Module, Debug)]
pub struct Gemma2Mlp {
    /// `[intermediate, channels]`.
    pub gate_proj: TorchLinear,
    /// `[intermediate, channels]`.
    pub up_proj: TorchLinear,
    /// `[channels, intermediate]`.
    pub down_proj: TorchLinear,
}

impl LinearLayers for Gemma2Mlp {
    fn set_bf16_gemm(&mut self, gemm: Bf16Gemm) {
        self.gate_proj.set_bf16_gemm(gemm);
        self.up_proj.set_bf16_gemm(gemm);
        self.down_proj.set_bf16_gemm(gemm);
    }
}

impl Gemma2Mlp {
    fn new(config: &Gemma2Config, init: &mut MatrixInit<'_>) -> Self {
        let (channels, intermediate) = (config.hidden_size, config.intermediate_size);
        Self {
            gate_proj: init.linear(channels, intermediate),
            up_proj: init.linear(channels, intermediate),
            down_proj: init.linear(intermediate, channels),
        }
    }

    /// Applies the part to every token.
    ///
    /// # Shapes
    /// - input and output `[batch, tokens, channels]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let gate = self.gate_proj.forward(x.clone());
        self.down_proj
            .forward(gelu_gate(gate, self.up_proj.forward(x)))
    }
}

/// One layer: attention and feed-forward part, each between two norms.
#[derive(Module, Debug)]
pub struct Gemma2Layer {
    /// Attention over the tokens.
    pub self_attn: Gemma2Attention,
    /// Feed-forward part.
    pub mlp: Gemma2Mlp,
    /// Before attention.
    pub input_layernorm: GemmaRmsNorm,
    /// After attention, before the sum.
    pub post_attention_layernorm: GemmaRmsNorm,
    /// Before the feed-forward part.
    pub pre_feedforward_layernorm: GemmaRmsNorm,
    /// After the feed-forward part, before the sum.
    pub post_feedforward_layernorm: GemmaRmsNorm,
}

impl LinearLayers for Gemma2Layer {
    fn set_bf16_gemm(&mut self, gemm: Bf16Gemm) {
        self.self_attn.set_bf16_gemm(gemm);
        self.mlp.set_bf16_gemm(gemm);
    }
}

impl Gemma2Layer {
    pub(super) fn new(config: &Gemma2Config, init: &mut MatrixInit<'_>) -> Self {
        let norm =
            |device: &Device| GemmaRmsNorm::new(config.hidden_size, config.rms_norm_eps, device);
        Self {
            self_attn: Gemma2Attention::new(config, init),
            mlp: Gemma2Mlp::new(config, init),
            input_layernorm: norm(init.device()),
            post_attention_layernorm: norm(init.device()),
            pre_feedforward_layernorm: norm(init.device()),
            post_feedforward_layernorm: norm(init.device()),
        }
    }

    /// Applies the layer.
    ///
    /// # Shapes
    /// - `x` and output `[batch, tokens, channels]`
    /// - `mask` `[batch, 1, tokens, tokens]`, added to the scores
    pub fn forward(&self, x: Tensor<3>, rope: &Rope, mask: Tensor<4>) -> Tensor<3> {
        let attended = self
            .self_attn
            .forward(self.input_layernorm.forward(x.clone()), rope, mask);
        let x = add(x, self.post_attention_layernorm.forward(attended));
        let fed = self
            .mlp
            .forward(self.pre_feedforward_layernorm.forward(x.clone()));
        add(x, self.post_feedforward_layernorm.forward(fed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sana_linear_attn::parity::{assert_parity, device};

    #[test]
    fn gelu_known_values() {
        let x = Tensor::<3>::from_data([[[-30.0, -1.0, 0.0, 0.5, 2.0, 30.0]]], &device());
        // 0.5 x (1 + tanh(0.7978845608 (x + 0.044715 x^3))) in f64
        let expected = Tensor::<3>::from_data(
            [[[0.0, -0.158_808_009, 0.0, 0.345_714_019, 1.954_597_694, 30.0]]],
            &device(),
        );
        let ones = Tensor::ones_like(&x);
        assert_parity("gelu", gelu_gate(x, ones), expected);
    }
}
