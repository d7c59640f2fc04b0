//! The two towers: images and texts to one vector each.

use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Int, Tensor};

use super::config::{TextConfig, VisionConfig};
use super::layers::{ChannelNorm, Encoder, LayerOptions, Table};

#[derive(Module, Debug)]
struct TextEmbeddings {
    token_embedding: Table,
    position_embedding: Table,
}

/// A causal transformer over tokens.
#[derive(Module, Debug)]
pub(super) struct TextTower {
    embeddings: TextEmbeddings,
    encoder: Encoder,
    final_layer_norm: ChannelNorm,
}

impl TextTower {
    pub fn new(config: &TextConfig, device: &Device) -> Self {
        let width = config.hidden_size;
        let options = LayerOptions {
            width,
            heads: config.num_attention_heads,
            mlp_width: config.intermediate_size,
            activation: config.hidden_act,
            eps: config.layer_norm_eps,
            causal: true,
        };
        Self {
            embeddings: TextEmbeddings {
                token_embedding: Table::new(config.vocab_size, width, device),
                position_embedding: Table::new(config.max_position_embeddings, width, device),
            },
            encoder: Encoder::new(config.num_hidden_layers, &options, device),
            final_layer_norm: ChannelNorm::new(width, config.layer_norm_eps, device),
        }
    }

    /// # Shapes
    /// - `ids` `[batch * tokens]`, `pooled` `[batch]`, places in it
    /// - output `[batch, width]`
    pub fn forward(&self, ids: Tensor<1, Int>, batch: usize, pooled: Tensor<1, Int>) -> Tensor<2> {
        let [all] = ids.dims();
        let table = self.embeddings.token_embedding.weight.val();
        let [_, width] = table.dims();
        let tokens = all / batch;
        let positions = self.embeddings.position_embedding.weight.val();
        let positions = positions.slice([0..tokens, 0..width]).unsqueeze::<3>();
        let x = table.select(0, ids).reshape([batch, tokens, width]) + positions;
        let x = self.encoder.forward(x).reshape([all, width]);
        self.final_layer_norm.forward(x.select(0, pooled))
    }
}

#[derive(Module, Debug)]
struct PatchProjection {
    /// `[width, channels, patch, patch]`.
    weight: Param<Tensor<4>>,
}

#[derive(Module, Debug)]
struct VisionEmbeddings {
    /// `[width]`.
    class_embedding: Param<Tensor<1>>,
    patch_embedding: PatchProjection,
    position_embedding: Table,
}

/// A transformer over patches and one more token, whose vector is that of the image.
#[derive(Module, Debug)]
pub(super) struct VisionTower {
    embeddings: VisionEmbeddings,
    /// As it is spelled in the checkpoints.
    pre_layrnorm: ChannelNorm,
    encoder: Encoder,
    post_layernorm: ChannelNorm,
}

impl VisionTower {
    pub fn new(config: &VisionConfig, device: &Device) -> Self {
        let width = config.hidden_size;
        let patch = config.patch_size;
        let patches = (config.image_size / patch).pow(2);
        let options = LayerOptions {
            width,
            heads: config.num_attention_heads,
            mlp_width: config.intermediate_size,
            activation: config.hidden_act,
            eps: config.layer_norm_eps,
            causal: false,
        };
        let norm = || ChannelNorm::new(width, config.layer_norm_eps, device);
        Self {
            embeddings: VisionEmbeddings {
                class_embedding: Initializer::Zeros.init([width], device),
                patch_embedding: PatchProjection {
                    weight: Initializer::Zeros
                        .init([width, config.num_channels, patch, patch], device),
                },
                position_embedding: Table::new(patches + 1, width, device),
            },
            pre_layrnorm: norm(),
            encoder: Encoder::new(config.num_hidden_layers, &options, device),
            post_layernorm: norm(),
        }
    }

    /// # Shapes
    /// - pixels `[batch, channels, size, size]`
    /// - output `[batch, width]`
    pub fn forward(&self, pixels: Tensor<4>) -> Tensor<2> {
        let [batch, channels, size, _] = pixels.dims();
        let weight = self.embeddings.patch_embedding.weight.val();
        let [width, _, patch, _] = weight.dims();
        let grid = size / patch;
        let whole = grid * patch;
        let patches = pixels
            .slice([0..batch, 0..channels, 0..whole, 0..whole])
            .reshape([batch, channels, grid, patch, grid, patch])
            .permute([0, 2, 4, 1, 3, 5]) // [batch, grid, grid, channels, patch, patch]
            .reshape([batch * grid * grid, channels * patch * patch]);
        let weight = weight.reshape([width, channels * patch * patch]);
        let patches = patches.matmul(weight.transpose());
        let patches = patches.reshape([batch, grid * grid, width]);
        let class = self.embeddings.class_embedding.val().unsqueeze::<3>();
        let x = Tensor::cat(vec![class.repeat_dim(0, batch), patches], 1);
        let positions = self.embeddings.position_embedding.weight.val();
        let x = self.pre_layrnorm.forward(x + positions.unsqueeze::<3>());
        let x = self.encoder.forward(x);
        let class = x.slice([0..batch, 0..1, 0..width]);
        self.post_layernorm.forward(class.reshape([batch, width]))
    }
}
