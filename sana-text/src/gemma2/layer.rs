//! One decoder layer and its feed-forward part.

use burn::module::{Initializer, Module, Param};
use burn::tensor::{DType, Device, Tensor, TensorData};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};
use sana_linear_attn::TorchLinear;
use sana_linear_attn::kernels::{add, gelu_gate};

use super::attention::Gemma2Attention;
use super::config::Gemma2Config;
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

impl Gemma2Layer {
    pub(super) fn new(config: &Gemma2Config, init: &mut MatrixInit<'_>) -> Self {
        let norm =
            |device: &Device| GemmaRmsNorm::new(config.hidden_size, config.rms_norm_eps, device);
        Self {
            self_attn: Gemma2Attention::new(config, init),
            mlp: Gemma2Mlp::new(config, init),
            input_layernorm: norm(init.device),
            post_attention_layernorm: norm(init.device),
            pre_feedforward_layernorm: norm(init.device),
            post_feedforward_layernorm: norm(init.device),
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

/// Source of a new stack's weight matrices: normal with the config's standard deviation.
pub(super) struct MatrixInit<'a> {
    device: &'a Device,
    std: f64,
    /// Draws on the host, the same on every backend. Without it, the matrices are lazy and drawn
    /// by the backend when first read.
    rng: Option<ChaCha8Rng>,
}

impl<'a> MatrixInit<'a> {
    pub(super) fn lazy(std: f64, device: &'a Device) -> Self {
        Self {
            device,
            std,
            rng: None,
        }
    }

    pub(super) fn seeded(seed: u64, std: f64, device: &'a Device) -> Self {
        Self {
            device,
            std,
            rng: Some(ChaCha8Rng::seed_from_u64(seed)),
        }
    }

    pub(super) fn matrix(&mut self, rows: usize, columns: usize) -> Param<Tensor<2>> {
        let Some(rng) = &mut self.rng else {
            return Initializer::Normal {
                mean: 0.0,
                std: self.std,
            }
            .init([rows, columns], self.device);
        };
        let normal = Normal::new(0.0, self.std as f32).expect("validated standard deviation");
        let values: Vec<f32> = normal.sample_iter(rng).take(rows * columns).collect();
        let data = TensorData::new(values, [rows, columns]);
        Param::from_tensor(Tensor::from_data(data, (self.device, DType::F32)))
    }

    pub(super) fn linear(&mut self, d_input: usize, d_output: usize) -> TorchLinear {
        TorchLinear {
            weight: self.matrix(d_output, d_input),
            bias: None,
            low_rank: Vec::new(),
        }
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

    #[test]
    fn seeded_weights_have_the_asked_deviation() {
        let device = device();
        let mut init = MatrixInit::seeded(5, 0.1, &device);
        let first = init
            .matrix(60, 50)
            .val()
            .into_data()
            .try_into_vec::<f32>()
            .unwrap();
        let again = MatrixInit::seeded(5, 0.1, &device).matrix(60, 50);
        assert_eq!(
            first,
            again.val().into_data().try_into_vec::<f32>().unwrap()
        );
        let second = init
            .matrix(60, 50)
            .val()
            .into_data()
            .try_into_vec::<f32>()
            .unwrap();
        assert_ne!(first, second);
        let variance = first.iter().map(|v| v * v).sum::<f32>() / first.len() as f32;
        assert!((variance.sqrt() - 0.1).abs() < 0.005, "{variance}");
    }
}
