use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};

use crate::kernels::{add, cast, gated_residual, norm_modulate};
use crate::layers::{
    CrossAttention, CrossAttentionConfig, GluMbConv, GluMbConvConfig, GluMbConvNorm,
    LinearAttention, LinearAttentionConfig, LinearLayers, TextKeysValues,
};
use crate::precision::Bf16Gemm;

use crate::transformer::config::SanaTransformerConfig;
use crate::transformer::input::BlockPart;

/// Options of [`SanaBlock`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SanaBlockConfig {
    /// The linear self-attention; its `channels` are the block's.
    pub attention: LinearAttentionConfig,
    /// The cross-attention.
    pub cross_attention: CrossAttentionConfig,
    /// Hidden channels of the feed-forward per channel.
    pub mlp_ratio: f64,
    /// Added to the variance of the norms.
    pub norm_eps: f64,
}

impl From<&SanaTransformerConfig> for SanaBlockConfig {
    fn from(config: &SanaTransformerConfig) -> Self {
        let channels = config.width();
        let qk_norm = config.qk_norm.is_some();
        Self {
            attention: LinearAttentionConfig {
                channels,
                heads: config.num_attention_heads,
                head_dim: config.attention_head_dim,
                bias: config.attention_bias,
                qk_norm,
            },
            cross_attention: CrossAttentionConfig {
                channels,
                text_channels: config.cross_attention_dim,
                heads: config.num_cross_attention_heads,
                head_dim: config.cross_attention_head_dim,
                qk_norm,
            },
            mlp_ratio: config.mlp_ratio,
            norm_eps: config.norm_eps,
        }
    }
}

impl SanaBlockConfig {
    /// Builds the block with lazily initialised weights.
    pub fn init(&self, device: &Device) -> SanaBlock {
        let channels = self.attention.channels;
        SanaBlock {
            attn1: self.attention.init(device),
            attn2: self.cross_attention.init(device),
            ff: GluMbConvConfig {
                channels,
                out_channels: channels,
                expand_ratio: self.mlp_ratio,
                norm: GluMbConvNorm::None,
                residual: false,
            }
            .init(device),
            scale_shift_table: Initializer::Normal {
                mean: 0.0,
                std: 1.0 / (channels as f64).sqrt(),
            }
            .init([6, channels], device),
            norm_eps: self.norm_eps,
        }
    }
}

/// One block of the transformer. With modulation `(shift, scale, gate)` for attention and
/// feed-forward made of the timestep:
///
/// ```text
/// x = x + gate_a * LinearAttention(norm(x) * (1 + scale_a) + shift_a)
/// x = x + CrossAttention(x, text)
/// x = x + gate_f * GluMbConv(norm(x) * (1 + scale_f) + shift_f)
/// ```
#[derive(Module, Debug)]
pub struct SanaBlock {
    /// Linear self-attention.
    pub attn1: LinearAttention,
    /// Cross-attention to the text.
    pub attn2: CrossAttention,
    /// Feed-forward.
    pub ff: GluMbConv,
    /// `[6, channels]`: the block's own part of the modulation.
    pub scale_shift_table: Param<Tensor<2>>,
    norm_eps: f64,
}

/// The six vectors that modulate one block, each `[batch, 1, channels]`.
struct Modulation {
    shift_attention: Tensor<3>,
    scale_attention: Tensor<3>,
    gate_attention: Tensor<3>,
    shift_feed_forward: Tensor<3>,
    scale_feed_forward: Tensor<3>,
    gate_feed_forward: Tensor<3>,
}

/// The sum of a block's table and the timestep's modulation, `[batch, 6, channels]`.
fn modulation_rows(table: Tensor<2>, modulation: Tensor<2>) -> Tensor<3> {
    let [rows, channels] = table.dims();
    let [batch, _] = modulation.dims();
    let table = cast(table, modulation.dtype());
    table.unsqueeze::<3>() + modulation.reshape([batch, rows, channels])
}

impl Modulation {
    fn new(all: Tensor<3>) -> Self {
        let row = |index| all.clone().narrow(1, index, 1); // [batch, 1, channels]
        Self {
            shift_attention: row(0),
            scale_attention: row(1),
            gate_attention: row(2),
            shift_feed_forward: row(3),
            scale_feed_forward: row(4),
            gate_feed_forward: row(5),
        }
    }
}

/// One of the forms of the self-attention.
pub(in crate::transformer) type Attend = fn(&LinearAttention, Tensor<3>) -> Tensor<3>;

/// What a block is given next to the tokens.
pub(in crate::transformer) struct BlockConditions<'a> {
    /// `[batch, 6 * channels]`, before the block's table is added.
    pub modulation: Tensor<2>,
    pub text: &'a TextKeysValues,
    /// `[batch, 1, 1, text_tokens]`.
    pub text_bias: Option<&'a Tensor<4>>,
    /// Height and width in tokens.
    pub grid: [usize; 2],
}

impl LinearLayers for SanaBlock {
    fn set_bf16_gemm(&mut self, gemm: Bf16Gemm) {
        self.attn1.set_bf16_gemm(gemm);
        self.attn2.set_bf16_gemm(gemm);
        self.ff.set_bf16_gemm(gemm);
    }
}

impl SanaBlock {
    /// Applies the block to the tokens of a `height` x `width` grid.
    ///
    /// # Shapes
    /// - `x` and output `[batch, height * width, channels]`
    /// - `modulation` `[batch, 6 * channels]`, before the block's table is added
    /// - `text` from [`CrossAttention::keys_values`] of this block
    /// - `text_bias` `[batch, 1, 1, text_tokens]`, see [`mask_bias`](crate::layers::mask_bias)
    pub fn forward(
        &self,
        x: Tensor<3>,
        modulation: Tensor<2>,
        text: &TextKeysValues,
        text_bias: Option<&Tensor<4>>,
        grid: [usize; 2],
    ) -> Tensor<3> {
        let conditions = BlockConditions {
            modulation,
            text,
            text_bias,
            grid,
        };
        self.forward_with(LinearAttention::forward, x, conditions, |_, _| {})
    }

    /// [`forward`](Self::forward) with the given form of the self-attention; `observe` is called with
    /// the modulation and with the tokens after each part.
    pub(in crate::transformer) fn forward_with(
        &self,
        attend: Attend,
        x: Tensor<3>,
        conditions: BlockConditions<'_>,
        mut observe: impl FnMut(BlockPart, &Tensor<3>),
    ) -> Tensor<3> {
        let BlockConditions {
            modulation,
            text,
            text_bias,
            grid: [height, width],
        } = conditions;
        let all = modulation_rows(self.scale_shift_table.val(), modulation);
        observe(BlockPart::Modulation, &all);
        let m = Modulation::new(all);

        let attention_input = self.modulate(x.clone(), m.scale_attention, m.shift_attention);
        let attended = attend(&self.attn1, attention_input);
        let x = gated_residual(x, m.gate_attention, attended);
        observe(BlockPart::SelfAttention, &x);

        let x = add(x.clone(), self.attn2.forward(x, text, text_bias));
        observe(BlockPart::CrossAttention, &x);

        let feed_forward_input =
            self.modulate(x.clone(), m.scale_feed_forward, m.shift_feed_forward);
        let fed_forward = self.ff.forward(feed_forward_input, height, width);
        let x = gated_residual(x, m.gate_feed_forward, fed_forward);
        observe(BlockPart::FeedForward, &x);
        x
    }

    fn modulate(&self, x: Tensor<3>, scale: Tensor<3>, shift: Tensor<3>) -> Tensor<3> {
        norm_modulate(x, scale, shift, self.norm_eps)
    }
}
