//! What holds of the layers and of the whole transformer without any reference output: the f16
//! limit, half precision, one token, batches, text padding, gradients, and that a changed weight
//! is seen. Models are tiny, with weights and inputs drawn on the host, so that they are the same
//! on every device and in every thread.

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

/// The perturbed path of the last items of a batch is that of the whole batch, whatever the blocks
/// before the first perturbed one share, and leaves the others as they are, query and key norm
/// included. Which block is perturbed matters.
#[test]
fn perturbed_attention_leaves_the_batch_as_it_is() {
    let device = device();
    for (name, config) in variants() {
        let model = Checkpoint::random(&config.init(&device)).load(&config, DType::F32, &device);
        let inputs = Inputs::random(&config, 3, GRID, &device);
        let text = model.text_context(inputs.caption.clone(), Some(inputs.mask.clone()));
        assert_eq!(text.batch(), 3);
        let with = |blocks: &[usize], first: usize| {
            let blocks = config
                .perturbed_blocks(blocks.iter().copied())
                .expect("blocks of the network");
            let last = text.items(first..3);
            let input = inputs.given(&text).with_perturbed(&blocks, &last);
            let output = model.forward(input);
            let perturbed = output.perturbed.expect("it was asked for");
            (output.velocity, perturbed)
        };
        let plain = run(&model, &inputs);
        let (velocity, all) = with(&[1], 0);
        assert_close(name, &values(velocity), &plain, tolerance());
        let (velocity, last) = with(&[1], 1);
        assert_close(name, &values(velocity), &plain, tolerance());
        let expected = values(all.clone().narrow(0, 1, 2));
        assert_close(name, &values(last), &expected, tolerance());

        let all = values(all);
        let others: [&[usize]; 5] = [&[0], &[2], &[0, 1], &[1, 2], &[0, 1, 2]];
        for blocks in others {
            let other = values(with(blocks, 0).1);
            let change = distance(&other, &all) / largest(&all);
            assert!(
                change > 1e-2,
                "{name}: blocks {blocks:?} differ by {change:e} only"
            );
        }
        let change = distance(&plain, &all) / largest(&all);
        assert!(change > 1e-2, "{name}: perturbed by {change:e} only");
    }
}

/// The limit is that of f16 and of the projected output, and is off unless it is asked for.
#[test]
fn f16_clamp_limits_the_projected_output() {
    let device = device();
    let checkpoint = Checkpoint::random(&ATTENTION.init(&device)).scaled("to_out.0.weight", 1e5);
    let free = attention(&checkpoint, &device);
    let off = free.clone().with_f16_clamp(false);
    let on = free.clone().with_f16_clamp(true);
    let x = tensor([3, 7, ATTENTION.channels], 2.0, 50, &device);
    type Forward = fn(&LinearAttention, Tensor<3>) -> Tensor<3>;
    let paths: [(&str, Forward); 2] = [
        ("forward", LinearAttention::forward),
        ("forward_identity", LinearAttention::forward_identity),
    ];
    for (name, path) in paths {
        let output = |layer: &LinearAttention| values(path(layer, x.clone()));
        let unlimited = output(&free);
        let beyond = unlimited.iter().filter(|v| v.abs() > F16_MAX).count();
        assert!(
            0 < beyond && beyond < unlimited.len(),
            "{name}: {beyond} of {} values lie beyond {F16_MAX}, which tests nothing",
            unlimited.len()
        );
        assert_close(name, &output(&off), &unlimited, tolerance());

        let limited = output(&on);
        let expected: Vec<f32> = unlimited
            .iter()
            .map(|value| value.clamp(-F16_MAX, F16_MAX))
            .collect();
        assert_close(name, &limited, &expected, tolerance());
        let top = largest(&limited);
        assert!(top == F16_MAX, "{name}: largest magnitude {top}");
    }
}

/// The switch of the whole network reaches the attention of every block.
#[test]
fn f16_clamp_reaches_every_block() {
    let (config, device) = (tiny(), device());
    let checkpoint = Checkpoint::random(&config.init(&device));
    let inputs = Inputs::random(&config, 1, GRID, &device);
    for block in 0..config.num_layers {
        let name = format!("transformer_blocks.{block}.attn1.to_out.0.weight");
        let model = checkpoint
            .scaled(&name, 1e6)
            .load(&config, DType::F32, &device);
        let on = run(&model.clone().with_f16_clamp(true), &inputs);
        let off = run(&model.with_f16_clamp(false), &inputs);
        let change = distance(&on, &off) / largest(&off);
        assert!(
            change > 0.1,
            "the limit in block {block} changes the output by {change:e} of its magnitude only"
        );
    }
}

/// Whether a model limits its attention: seen by giving it weights, in f32, whose attention passes
/// the limit. Loading them leaves the switch as it is.
fn is_limited(model: SanaTransformer, checkpoint: &Checkpoint, device: &Device) -> bool {
    let inputs = Inputs::random(model.config(), 1, GRID, device);
    let overflowing = checkpoint
        .scaled("transformer_blocks.0.attn1.to_out.0.weight", 1e6)
        .weights(DType::F32);
    let options = LoadOptions {
        dtype: Some(DType::F32),
        ..LoadOptions::default()
    };
    let model = load_module(model, &overflowing, &options, device).expect("the same shapes");
    let ours = run(&model, &inputs);
    let on = run(&model.clone().with_f16_clamp(true), &inputs);
    let off = run(&model.with_f16_clamp(false), &inputs);
    let (to_on, to_off) = (distance(&ours, &on), distance(&ours, &off));
    assert!(
        to_on.min(to_off) < 0.1 * to_on.max(to_off),
        "neither with the limit ({to_on:e} away) nor without ({to_off:e} away)"
    );
    to_on < to_off
}

/// `Auto` limits models without qk norm whose weights are f16 in the file or in memory; `On` and `Off`
/// are obeyed whatever the model.
#[test]
fn f16_clamp_rule() {
    use DType::{BF16, F16, F32};
    use F16Clamp::{Auto, Off, On};
    let device = device();
    // qk norm, dtype of the weights, dtype asked for, rule, whether the limit is on
    let cases = [
        (false, F32, None, Auto, false),
        (false, F32, Some(F32), Auto, false),
        (false, F16, None, Auto, true),
        (false, F16, Some(F32), Auto, true),
        (false, F32, Some(F16), Auto, true),
        (false, BF16, Some(F32), Auto, false),
        (false, F32, Some(BF16), Auto, false),
        (true, F16, None, Auto, false),
        (true, F16, Some(F32), Auto, false),
        (true, F32, Some(F16), Auto, false),
        (false, F32, Some(F32), On, true),
        (true, F32, Some(F32), On, true),
        (false, F16, Some(F32), Off, false),
        (false, F32, Some(F16), Off, false),
    ];
    for (normed, stored, asked, rule, expected) in cases {
        if !device.supports_dtype(asked.unwrap_or(stored)) {
            continue;
        }
        let config = SanaTransformerConfig {
            qk_norm: normed.then_some(QkNorm::RmsNormAcrossHeads),
            ..tiny()
        };
        let checkpoint = Checkpoint::random(&config.init(&device));
        let model = config
            .load(&checkpoint.weights(stored), asked, rule, &device)
            .expect("the weights are the config's own");
        assert_eq!(
            is_limited(model, &checkpoint, &device),
            expected,
            "limit of a model with qk norm {normed}, weights in {stored:?}, loaded as {asked:?}, \
             rule {rule:?}"
        );
    }
}

/// Weights, activations and output of every variant in `dtype` against f32.
fn check_half(dtype: DType, bound: f64) {
    let device = device();
    if !device.supports_dtype(dtype) {
        assert!(device != Device::flex(), "flex computes in {dtype:?}");
        return;
    }
    for (name, config) in variants() {
        let checkpoint = Checkpoint::random(&config.init(&device));
        let inputs = Inputs::random(&config, 1, GRID, &device);
        let full = run(&checkpoint.load(&config, DType::F32, &device), &inputs);
        let model = checkpoint.load(&config, dtype, &device);
        let model = model.with_compute_dtype(dtype);
        assert_eq!(model.dtype(), dtype, "{name}");
        let half = run(&model, &inputs);
        assert_close(&format!("{name} in {dtype:?}"), &half, &full, bound);
    }
}

/// bf16 keeps 8 bits, so every rounding errs by up to 2e-3. Errors of about 25 operations in each
/// of 3 blocks add up like a random walk, and the worst of the outputs is compared: 5e-2 of the
/// largest magnitude.
#[test]
fn bf16_is_close_to_f32() {
    check_half(DType::BF16, 5e-2);
}

/// f16 keeps 11 bits, 3 more than bf16, so its errors are an eighth of those: 1e-2 of the largest
/// magnitude, which leaves room for backends that also sum in f16.
#[test]
fn f16_is_close_to_f32() {
    check_half(DType::F16, 1e-2);
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

/// The items of a batch, with texts of different lengths, do not see each other.
#[test]
fn a_batch_equals_its_items_alone() {
    let device = device();
    for (name, config) in variants() {
        let model = Checkpoint::random(&config.init(&device)).load(&config, DType::F32, &device);
        let inputs = Inputs::random(&config, 3, GRID, &device);
        let together = run(&model, &inputs);
        for (index, item) in together.chunks(together.len() / 3).enumerate() {
            let alone = run(&model, &inputs.item(index));
            assert_close(&format!("{name}: item {index}"), item, &alone, tolerance());
        }
    }
}

/// Text tokens whose mask is 0 may hold anything, may be added or left away; a mask of ones is no
/// mask.
#[test]
fn text_padding_changes_nothing() {
    let device = device();
    let (batch, extra) = (3, 4);
    for (name, config) in variants() {
        let model = Checkpoint::random(&config.init(&device)).load(&config, DType::F32, &device);
        let inputs = Inputs::random(&config, batch, GRID, &device);
        let reference = run(&model, &inputs);

        let channels = config.caption_channels;
        let hidden = (inputs.mask.clone() - 1.0).unsqueeze_dim::<3>(2); // [batch, text_tokens, 1]
        let other = tensor([batch, TEXT_TOKENS, channels], 50.0, 77, &device) * hidden;
        let replaced = Inputs {
            caption: inputs.caption.clone() + other,
            ..inputs.clone()
        };
        let what = format!("{name}: other values under the mask");
        assert_close(&what, &run(&model, &replaced), &reference, tolerance());

        let more = tensor([batch, extra, channels], 50.0, 78, &device);
        let longer = |mask_of_more: Tensor<2>| Inputs {
            caption: Tensor::cat(vec![inputs.caption.clone(), more.clone()], 1),
            mask: Tensor::cat(vec![inputs.mask.clone(), mask_of_more], 1),
            ..inputs.clone()
        };
        let padded = longer(Tensor::zeros([batch, extra], (&device, DType::F32)));
        let what = format!("{name}: {extra} tokens more under the mask");
        assert_close(&what, &run(&model, &padded), &reference, tolerance());

        let seen = longer(Tensor::ones([batch, extra], (&device, DType::F32)));
        let change = distance(&run(&model, &seen), &reference) / largest(&reference);
        assert!(
            change > 0.1,
            "{name}: {extra} visible tokens more change the output by {change:e} of its magnitude"
        );

        let unmasked = model.text_context(inputs.caption.clone(), None);
        let unmasked = values(model.forward(inputs.given(&unmasked)).velocity);
        let ones = Inputs {
            mask: Tensor::ones([batch, TEXT_TOKENS], (&device, DType::F32)),
            ..inputs
        };
        let what = format!("{name}: a mask of ones");
        assert_close(&what, &run(&model, &ones), &unmasked, tolerance());
    }
}

/// Gradients of a module's parameters in the order of `parameter_shapes`.
struct GradientReader<'a> {
    gradients: &'a Gradients,
    found: Vec<Option<Vec<f32>>>,
}

impl ModuleVisitor for GradientReader<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.found
            .push(param.val().grad(self.gradients).map(values));
    }
}

/// Whether the output of a model does not depend on a parameter: softmax does not see what is
/// added to all scores of a query, and that is all that the bias of the text keys does, unless a
/// norm follows it.
fn without_effect(name: &str, config: &SanaTransformerConfig) -> bool {
    config.qk_norm.is_none() && name.ends_with("attn2.to_k.bias")
}

/// Training reaches every parameter; that of [`without_effect`] gets a gradient of 0.
#[test]
fn gradients_reach_every_parameter() {
    let device = device().autodiff();
    for (variant, config) in variants() {
        let model = Checkpoint::random(&config.init(&device)).load(&config, DType::F32, &device);
        let output = forward(&model, &Inputs::random(&config, 1, GRID, &device));
        let direction = tensor(output.dims(), 1.0, 3, &device);
        let gradients = (output * direction).sum().backward();
        let mut reader = GradientReader {
            gradients: &gradients,
            found: Vec::new(),
        };
        model.visit(&mut reader);

        let names = parameter_shapes(&model, KeyMap::default())
            .into_iter()
            .map(|(name, _)| name);
        let gradients: Vec<(String, Vec<f32>)> = names
            .zip(reader.found)
            .map(|(name, gradient)| {
                let gradient =
                    gradient.unwrap_or_else(|| panic!("{variant}: {name} got no gradient"));
                let finite = gradient.iter().all(|value| value.is_finite());
                assert!(finite, "{variant}: gradient of {name}: {gradient:?}");
                (name, gradient)
            })
            .collect();
        assert!(!gradients.is_empty(), "{variant} has no parameters");
        let overall = gradients.iter().map(|(_, gradient)| largest(gradient));
        let overall = overall.fold(0f32, f32::max);
        let of_keys = gradients
            .iter()
            .filter(|(name, _)| name.ends_with("attn2.to_k.weight"))
            .map(|(_, gradient)| largest(gradient))
            .fold(0f32, f32::max);
        for (name, gradient) in &gradients {
            let top = largest(gradient);
            if without_effect(name, &config) {
                assert!(
                    f64::from(top) <= tolerance() * f64::from(of_keys),
                    "{variant}: gradient {top:e} of {name}, that of the weights is {of_keys:e}"
                );
            } else {
                assert!(
                    top > 1e-6 * overall,
                    "{variant}: gradient {top:e} of {name}, the largest of all is {overall:e}"
                );
            }
        }
    }
}

/// The comparisons with reference outputs can fail: one element of any tensor of a block, off by
/// 500 tolerances of the tensor's largest magnitude (5 % on the CPU), moves the output by more
/// than the tolerance.
#[test]
fn a_changed_weight_is_seen() {
    let (config, device) = (tiny(), device());
    let checkpoint = Checkpoint::random(&config.init(&device));
    let inputs = Inputs::random(&config, 1, GRID, &device);
    let output =
        |checkpoint: &Checkpoint| run(&checkpoint.load(&config, DType::F32, &device), &inputs);
    let reference = output(&checkpoint);
    let mut changed = 0;
    for tensor in &checkpoint.0 {
        let name = &tensor.name;
        if !name.starts_with("transformer_blocks.1.") {
            continue;
        }
        let step = 500.0 * tolerance() as f32 * largest(&tensor.values);
        let perturbed = checkpoint.with(name, |values| {
            *values.last_mut().expect("no tensor is empty") += step;
        });
        let change = distance(&output(&perturbed), &reference) / largest(&reference);
        assert_eq!(
            f64::from(change) > tolerance(),
            !without_effect(name, &config),
            "{name}, one element off by {step:e}: the output moves by {change:e} of its magnitude, \
             the tolerance is {:e}",
            tolerance()
        );
        changed += 1;
    }
    assert_eq!(changed, 19, "tensors of block 1");
}
