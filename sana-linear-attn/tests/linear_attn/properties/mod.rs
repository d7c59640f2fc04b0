//! What holds of the layers and of the whole transformer without any reference output: the f16
//! limit, half precision, one token, batches, text padding, gradients, and that a changed weight
//! is seen. Models are tiny, with weights and inputs drawn on the host, so that they are the same
//! on every device and in every thread.

mod batches;
mod f16;
mod parameters;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Device, Gradients, Tensor, TensorData};
use sana_linear_attn::parity::{assert_close, device, tolerance, values};
use sana_linear_attn::transformer::{F16Clamp, QkNorm, TextContext, TransformerInput};
use sana_linear_attn::weights::{parameter_shapes, write_tensors};
use sana_linear_attn::{
    KeyMap, LinearAttention, LinearAttentionConfig, LoadOptions, SanaTransformer,
    SanaTransformerConfig, Weights, load_module,
};

/// Largest finite f16.
const F16_MAX: f32 = 65504.0;
const GRID: [usize; 2] = [5, 11];
const TEXT_TOKENS: usize = 9;

/// Heads of 16 channels, so that a query is never negative in all of them: there linear attention
/// jumps to 0, and no precision is enough to compare.
fn tiny() -> SanaTransformerConfig {
    SanaTransformerConfig {
        in_channels: 6,
        out_channels: Some(7),
        num_attention_heads: 2,
        attention_head_dim: 16,
        num_layers: 3,
        num_cross_attention_heads: 4,
        cross_attention_head_dim: 8,
        cross_attention_dim: 32,
        caption_channels: 20,
        sample_size: 12,
        ..SanaTransformerConfig::default()
    }
}

/// Together these take every path through the network.
fn variants() -> [(&'static str, SanaTransformerConfig); 3] {
    let normed = SanaTransformerConfig {
        qk_norm: Some(QkNorm::RmsNormAcrossHeads),
        guidance_embeds: true,
        attention_bias: true,
        ..tiny()
    };
    let patched = SanaTransformerConfig {
        patch_size: 2,
        interpolation_scale: Some(2.0),
        ..tiny()
    };
    [
        ("plain", tiny()),
        ("qk norm, guidance, biases", normed),
        ("patches of 2, positions", patched),
    ]
}

/// Values between -1 and 1 from a small congruential generator.
fn pseudo_random(length: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

/// A tensor of values between -`bound` and `bound`.
fn tensor<const D: usize>(shape: [usize; D], bound: f32, seed: u64, device: &Device) -> Tensor<D> {
    let values = pseudo_random(shape.iter().product(), seed);
    let values: Vec<f32> = values.into_iter().map(|value| bound * value).collect();
    Tensor::from_data(TensorData::new(values, shape), (device, DType::F32))
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0f32, |max, value| max.max(value.abs()))
}

/// The largest difference.
fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "lengths");
    let differences: Vec<f32> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    largest(&differences)
}

#[derive(Clone)]
struct NamedTensor {
    name: String,
    shape: Vec<usize>,
    values: Vec<f32>,
}

/// The weights of a tiny model.
#[derive(Clone)]
struct Checkpoint(Vec<NamedTensor>);

impl Checkpoint {
    /// Weights of a size at which every part of a block matters: they keep the variance of what
    /// passes through, those of convolutions more than that, because SiLU and the gate take half
    /// of it away.
    fn random<M: Module>(module: &M) -> Self {
        let tensors = parameter_shapes(module, KeyMap::default())
            .into_iter()
            .zip(600..)
            .map(|((name, shape), seed)| {
                let fan_in = shape[1..].iter().product::<usize>() as f32;
                let (centre, bound) = if name.contains("norm") {
                    (1.0, 0.3)
                } else if name.ends_with("scale_shift_table") {
                    (0.0, 1.0)
                } else {
                    match shape.len() {
                        1 => (0.0, 0.3),
                        4 => (0.0, (7.0 / fan_in).sqrt()),
                        _ => (0.0, (3.0 / fan_in).sqrt()),
                    }
                };
                let values = pseudo_random(shape.iter().product(), seed)
                    .into_iter()
                    .map(|value| centre + bound * value)
                    .collect();
                NamedTensor {
                    name,
                    shape,
                    values,
                }
            });
        Self(tensors.collect())
    }

    /// The same weights with one tensor changed.
    fn with(&self, name: &str, change: impl FnOnce(&mut [f32])) -> Self {
        let mut changed = self.clone();
        let tensor = changed
            .0
            .iter_mut()
            .find(|tensor| tensor.name == name)
            .unwrap_or_else(|| panic!("no tensor {name}"));
        change(&mut tensor.values);
        changed
    }

    /// The same weights with one tensor multiplied.
    fn scaled(&self, name: &str, factor: f32) -> Self {
        self.with(name, |values| {
            values.iter_mut().for_each(|value| *value *= factor);
        })
    }

    fn weights(&self, dtype: DType) -> Weights {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("tiny.safetensors");
        let tensors = self.0.iter().map(|tensor| {
            let data = TensorData::new(tensor.values.clone(), tensor.shape.clone());
            (tensor.name.clone(), data.convert_dtype(dtype))
        });
        write_tensors(&path, tensors.collect()).expect("written");
        let bytes = std::fs::read(&path).expect("just written");
        Weights::from_bytes("the tiny model", bytes).expect("valid")
    }

    /// The transformer of these weights, computing in `dtype`.
    fn load(
        &self,
        config: &SanaTransformerConfig,
        dtype: DType,
        device: &Device,
    ) -> SanaTransformer {
        config
            .load(
                &self.weights(DType::F32),
                Some(dtype),
                F16Clamp::Off,
                device,
            )
            .expect("the weights are the config's own")
    }
}

#[derive(Clone)]
struct Inputs {
    latents: Tensor<4>,
    timestep: Tensor<1>,
    guidance: Option<Tensor<1>>,
    caption: Tensor<3>,
    mask: Tensor<2>,
}

impl Inputs {
    /// Inputs for a grid of tokens. Item `i` of the batch has `7 - i` tokens of text, the rest is
    /// padding.
    fn random(
        config: &SanaTransformerConfig,
        batch: usize,
        [height, width]: [usize; 2],
        device: &Device,
    ) -> Self {
        let patch = config.patch_size;
        let size = [batch, config.in_channels, height * patch, width * patch];
        let visible = |item: usize, token: usize| token + item + 2 < TEXT_TOKENS;
        let mask: Vec<f32> = (0..batch * TEXT_TOKENS)
            .map(|index| visible(index / TEXT_TOKENS, index % TEXT_TOKENS))
            .map(|visible| if visible { 1.0 } else { 0.0 })
            .collect();
        Self {
            latents: tensor(size, 2.0, 1000, device),
            timestep: tensor([batch], 500.0, 1001, device) + 500.0,
            guidance: config
                .guidance_embeds
                .then(|| tensor([batch], 1.0, 1002, device) + 1.0),
            caption: tensor(
                [batch, TEXT_TOKENS, config.caption_channels],
                3.0,
                1003,
                device,
            ),
            mask: Tensor::from_data(
                TensorData::new(mask, [batch, TEXT_TOKENS]),
                (device, DType::F32),
            ),
        }
    }

    /// The input of a forward pass.
    fn given<'a>(&self, context: &'a TextContext) -> TransformerInput<'a> {
        let (latents, timestep) = (self.latents.clone(), self.timestep.clone());
        let input = TransformerInput::new(latents, timestep, context);
        match &self.guidance {
            Some(guidance) => input.with_guidance(guidance.clone()),
            None => input,
        }
    }

    /// One item as a batch of one.
    fn item(&self, index: usize) -> Self {
        Self {
            latents: self.latents.clone().narrow(0, index, 1),
            timestep: self.timestep.clone().narrow(0, index, 1),
            guidance: self
                .guidance
                .clone()
                .map(|guidance| guidance.narrow(0, index, 1)),
            caption: self.caption.clone().narrow(0, index, 1),
            mask: self.mask.clone().narrow(0, index, 1),
        }
    }
}

fn forward(model: &SanaTransformer, inputs: &Inputs) -> Tensor<4> {
    let text = model.text_context(inputs.caption.clone(), Some(inputs.mask.clone()));
    model.forward(inputs.given(&text)).velocity
}

fn run(model: &SanaTransformer, inputs: &Inputs) -> Vec<f32> {
    values(forward(model, inputs))
}

const ATTENTION: LinearAttentionConfig = LinearAttentionConfig {
    channels: 6,
    heads: 2,
    head_dim: 5,
    bias: true,
    qk_norm: false,
};

fn attention(checkpoint: &Checkpoint, device: &Device) -> LinearAttention {
    let weights = checkpoint.weights(DType::F32);
    load_module(
        ATTENTION.init(device),
        &weights,
        &LoadOptions::default(),
        device,
    )
    .expect("the weights are the layer's own")
}

/// A grid of one token has no neighbours to attend to or to convolve with.
#[test]
fn one_token() {
    let device = device();
    for (name, config) in variants() {
        let model = Checkpoint::random(&config.init(&device)).load(&config, DType::F32, &device);
        let output = forward(&model, &Inputs::random(&config, 1, [1, 1], &device));
        let patch = config.patch_size;
        assert_eq!(output.dims(), [1, 7, patch, patch], "shape of {name}");
        let output = values(output);
        let finite = output.iter().all(|value| value.is_finite());
        assert!(finite && largest(&output) > 0.1, "{name}: {output:?}");
    }
}

/// One token attends to itself alone, so its value comes out as it went in, provided that query
/// and key are not orthogonal after ReLU: positive inputs and weights see to that.
#[test]
fn linear_attention_of_one_token_is_the_identity() {
    let device = device();
    let positive = |values: &mut [f32]| values.iter_mut().for_each(|value| *value = value.abs());
    let checkpoint = Checkpoint::random(&ATTENTION.init(&device))
        .with("to_q.weight", positive)
        .with("to_q.bias", positive)
        .with("to_k.weight", positive)
        .with("to_k.bias", positive);
    let layer = attention(&checkpoint, &device);
    let x = tensor([3, 1, ATTENTION.channels], 1.0, 50, &device) + 1.0;
    let (ours, identity) = (layer.forward(x.clone()), layer.forward_identity(x));
    assert_close("one token", &values(ours), &values(identity), tolerance());
}
