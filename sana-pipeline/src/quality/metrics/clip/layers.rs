//! The transformer layers of both towers.

use burn::module::{Initializer, Module, Param};
use burn::tensor::activation::{gelu, gelu_approximate, sigmoid};
use burn::tensor::module::{attention, layer_norm};
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Device, Tensor};
use sana_linear_attn::TorchLinear;

use super::config::Activation;

/// A norm over channels to mean 0 and variance 1, with a learnt scale and shift.
#[derive(Module, Debug)]
pub(super) struct ChannelNorm {
    /// `[channels]`.
    weight: Param<Tensor<1>>,
    /// `[channels]`.
    bias: Param<Tensor<1>>,
    eps: f64,
}

impl ChannelNorm {
    pub fn new(channels: usize, eps: f64, device: &Device) -> Self {
        Self {
            weight: Initializer::Ones.init([channels], device),
            bias: Initializer::Zeros.init([channels], device),
            eps,
        }
    }

    /// # Shapes
    /// - input and output `[.., channels]`
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        layer_norm(x, self.weight.val(), Some(self.bias.val()), self.eps)
    }
}

/// A table with one vector a row.
#[derive(Module, Debug)]
pub(super) struct Table {
    /// `[rows, channels]`.
    pub weight: Param<Tensor<2>>,
}

impl Table {
    pub fn new(rows: usize, channels: usize, device: &Device) -> Self {
        Self {
            weight: Initializer::Zeros.init([rows, channels], device),
        }
    }
}

#[derive(Module, Debug)]
struct SelfAttention {
    q_proj: TorchLinear,
    k_proj: TorchLinear,
    v_proj: TorchLinear,
    out_proj: TorchLinear,
    heads: usize,
    causal: bool,
}

impl SelfAttention {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, tokens, channels] = x.dims();
        let head_dim = channels / self.heads;
        let split = |projected: Tensor<3>| {
            let projected = projected.reshape([batch, tokens, self.heads, head_dim]);
            projected.swap_dims(1, 2) // [batch, heads, tokens, head_dim]
        };
        let options = AttentionModuleOptions {
            is_causal: self.causal,
            ..AttentionModuleOptions::default()
        };
        let [query, key, value] = [&self.q_proj, &self.k_proj, &self.v_proj]
            .map(|projection| split(projection.forward(x.clone())));
        let attended = attention(query, key, value, None, None, options);
        let attended = attended.swap_dims(1, 2); // [batch, tokens, heads, head_dim]
        self.out_proj
            .forward(attended.reshape([batch, tokens, channels]))
    }
}

#[derive(Module, Debug)]
struct Mlp {
    fc1: TorchLinear,
    fc2: TorchLinear,
    #[module(skip)]
    activation: Activation,
}

impl Mlp {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = self.fc1.forward(x);
        let x = match self.activation {
            Activation::QuickGelu => sigmoid(x.clone().mul_scalar(1.702)) * x,
            Activation::Gelu => gelu(x),
            Activation::GeluNew => gelu_approximate(x),
        };
        self.fc2.forward(x)
    }
}

/// What the layers of a tower have in common.
pub(super) struct LayerOptions {
    pub width: usize,
    pub heads: usize,
    pub mlp_width: usize,
    pub activation: Activation,
    pub eps: f64,
    pub causal: bool,
}

/// `x + attention(norm(x))`, then `x + MLP(norm(x))`.
#[derive(Module, Debug)]
struct Layer {
    self_attn: SelfAttention,
    layer_norm1: ChannelNorm,
    mlp: Mlp,
    layer_norm2: ChannelNorm,
}

impl Layer {
    fn new(options: &LayerOptions, device: &Device) -> Self {
        let linear = |from, to| TorchLinear::new(from, to, true, device);
        let LayerOptions {
            width, mlp_width, ..
        } = *options;
        Self {
            self_attn: SelfAttention {
                q_proj: linear(width, width),
                k_proj: linear(width, width),
                v_proj: linear(width, width),
                out_proj: linear(width, width),
                heads: options.heads,
                causal: options.causal,
            },
            layer_norm1: ChannelNorm::new(width, options.eps, device),
            mlp: Mlp {
                fc1: linear(width, mlp_width),
                fc2: linear(mlp_width, width),
                activation: options.activation,
            },
            layer_norm2: ChannelNorm::new(width, options.eps, device),
        }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = x.clone() + self.self_attn.forward(self.layer_norm1.forward(x));
        x.clone() + self.mlp.forward(self.layer_norm2.forward(x))
    }
}

/// The layers of a tower.
#[derive(Module, Debug)]
pub(super) struct Encoder {
    layers: Vec<Layer>,
}

impl Encoder {
    pub fn new(layers: usize, options: &LayerOptions, device: &Device) -> Self {
        Self {
            layers: (0..layers).map(|_| Layer::new(options, device)).collect(),
        }
    }

    /// # Shapes
    /// - input and output `[batch, tokens, width]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.layers.iter().fold(x, |x, layer| layer.forward(x))
    }
}
