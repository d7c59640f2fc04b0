//! The ControlNet against the reference's residuals and output (`transformer/controlnet`
//! fixtures), and what holds of it without them.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Tensor, TensorData};
use sana_linear_attn::parity::{
    Fixture, assert_close, assert_parity, built_in_fixture_path, device, fixture_path, tolerance,
    values,
};
use sana_linear_attn::transformer::{
    BlockPart, ConfigError, ControlNetError, F16Clamp, Place, QkNorm, TextContext, TransformerInput,
};
use sana_linear_attn::weights::parameter_shapes;
use sana_linear_attn::{
    ControlWiring, SanaControlNet, SanaControlNetConfig, SanaTransformer, SanaTransformerConfig,
    SaveOptions, WeightError, Weights, save_module,
};

const CRATE: &str = env!("CARGO_MANIFEST_DIR");
const STEM: &str = "diffusion_pytorch_model";

/// A transformer, its ControlNet, and what both are given.
struct Pair {
    transformer: SanaTransformer,
    controlnet: SanaControlNet,
    io: Fixture,
}

impl Pair {
    fn open() -> Self {
        Self::at(fixture_path(CRATE, "transformer/controlnet"))
    }

    fn built_in() -> Self {
        Self::at(built_in_fixture_path(CRATE, "transformer/controlnet"))
    }

    fn at(folder: PathBuf) -> Self {
        let device = device();
        let weights = |part: &str| Weights::open_folder(&folder.join(part), STEM, None).unwrap();
        let config = SanaTransformerConfig::from_file(&folder.join("transformer/config.json"));
        let transformer =
            config
                .unwrap()
                .load(&weights("transformer"), None, F16Clamp::Auto, &device);
        let config = SanaControlNetConfig::from_file(&folder.join("controlnet/config.json"));
        let controlnet =
            config
                .unwrap()
                .load(&weights("controlnet"), None, F16Clamp::Auto, &device);
        Self {
            transformer: transformer.expect("the weights fit"),
            controlnet: controlnet.expect("the weights fit"),
            io: Fixture::at(&folder.join("io.safetensors")),
        }
    }

    fn tensor<const D: usize>(&self, name: &str) -> Tensor<D> {
        self.io.tensor(name, &device())
    }

    fn text(&self, context: impl Fn(Tensor<3>, Option<Tensor<2>>) -> TextContext) -> TextContext {
        context(self.tensor("caption"), Some(self.tensor("caption_mask")))
    }

    fn scale(&self) -> f64 {
        self.io.metadata("conditioning_scale").parse().unwrap()
    }

    fn residuals(&self, scale: f64) -> Vec<Tensor<3>> {
        let text = self.text(|caption, mask| self.controlnet.text_context(caption, mask));
        self.controlnet.forward(
            self.tensor("input"),
            self.tensor("timestep"),
            &text,
            self.controlnet.condition(self.tensor("condition")),
            scale,
        )
    }

    fn output(&self, residuals: &[Tensor<3>]) -> Tensor<4> {
        let text = self.text(|caption, mask| self.transformer.text_context(caption, mask));
        let input = self.given(&text).with_residuals(residuals);
        self.transformer.forward(input).velocity
    }

    /// The transformer's input, without control.
    fn given<'a>(&self, text: &'a TextContext) -> TransformerInput<'a> {
        TransformerInput::new(self.tensor("input"), self.tensor("timestep"), text)
    }

    fn assert_equal(&self) {
        let residuals = self.residuals(self.scale());
        let names = self.io.names();
        let expected = names.iter().filter(|name| name.starts_with("residual_"));
        assert_eq!(residuals.len(), expected.count());
        for (index, residual) in residuals.iter().enumerate() {
            let name = format!("residual_{index}");
            assert_parity(&name, residual.clone(), self.tensor(&name));
        }
        assert_parity("output", self.output(&residuals), self.tensor("output"));
    }
}

fn largest_change(a: &Tensor<4>, b: &Tensor<4>) -> f32 {
    (a.clone() - b.clone()).abs().max().into_scalar()
}

#[test]
fn residuals_and_output_equal_the_reference() {
    Pair::open().assert_equal();
}

/// The authors' wiring on the same weights, which is another image by about half.
#[test]
fn the_original_wiring_equals_the_authors_code() {
    let pair = Pair::built_in();
    let folder = built_in_fixture_path(CRATE, "transformer/controlnet");
    let expected = Fixture::at(&folder.join("io_original_wiring.safetensors"));
    let pair = Pair {
        io: expected,
        ..pair
    };
    let text = pair.text(|caption, mask| pair.controlnet.text_context(caption, mask));
    let [_, _, height, width] = pair.tensor::<4>("input").dims();
    let made = RefCell::new(Vec::new());
    let make = |tokens: Tensor<3>| {
        let residuals = pair.controlnet.forward_from_tokens(
            tokens,
            [height, width],
            pair.tensor("timestep"),
            &text,
            pair.controlnet.condition(pair.tensor("condition")),
            pair.scale(),
        );
        *made.borrow_mut() = residuals.clone();
        residuals
    };
    let own_text = pair.text(|caption, mask| pair.transformer.text_context(caption, mask));
    let steered = pair.given(&own_text).with_residuals_from(&make);
    let output = pair.transformer.forward(steered).velocity;
    let names = pair.io.names();
    let expected = names.iter().filter(|name| name.starts_with("residual_"));
    assert_eq!(made.borrow().len(), expected.count());
    for (index, residual) in made.borrow().iter().enumerate() {
        let name = format!("residual_{index}");
        assert_parity(&name, residual.clone(), pair.tensor(&name));
    }
    assert_parity("output", output.clone(), pair.tensor("output"));
    let diffusers = pair.output(&pair.residuals(pair.scale()));
    let change = largest_change(&output, &diffusers);
    let largest: f32 = output.clone().abs().max().into_scalar();
    assert!(change > 0.1 * largest, "{change:e} of {largest:e}");

    // Perturbed attention leaves the other output as it is, wherever it begins.
    for block in 0..3 {
        let blocks = pair.transformer.config().perturbed_blocks([block]).unwrap();
        let all = own_text.items(0..2);
        let steered = pair.given(&own_text).with_residuals_from(&make);
        let steered = steered.with_perturbed(&blocks, &all);
        let both = pair.transformer.forward(steered);
        assert_parity("output", both.velocity, output.clone());
        let last = own_text.items(1..2);
        let steered = pair.given(&own_text).with_residuals_from(&make);
        let steered = steered.with_perturbed(&blocks, &last);
        let one = pair.transformer.forward(steered);
        let expected = both.perturbed.unwrap();
        let change = largest_change(&expected, &output);
        assert!(change > 1e-3, "block {block}: {change:e}");
        // The residuals reach the perturbed path too.
        let plain = pair.given(&own_text).with_perturbed(&blocks, &all);
        let plain = pair.transformer.forward(plain).perturbed.unwrap();
        let change = largest_change(&expected, &plain);
        assert!(change > 0.1 * largest, "block {block}: {change:e}");
        assert_parity(
            "perturbed",
            one.perturbed.unwrap(),
            expected.narrow(0, 1, 1),
        );
    }
}

#[test]
fn the_wiring_is_a_key_of_the_config() {
    let default = SanaControlNetConfig::default();
    assert_eq!(default.wiring, ControlWiring::Diffusers);
    let written = serde_json::to_string(&default).unwrap();
    assert!(!written.contains("control_wiring"), "{written}");
    let original = parse(r#"{"control_wiring": "original"}"#).unwrap();
    assert_eq!(original.wiring, ControlWiring::Original);
    let written = serde_json::to_string(&original).unwrap();
    assert_eq!(parse(&written).unwrap(), original);
    for same in [
        r#"{"control_wiring": "diffusers"}"#,
        r#"{"control_wiring": null}"#,
    ] {
        assert_eq!(parse(same).unwrap(), default);
    }
    let error = parse(r#"{"control_wiring": "hed"}"#)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("diffusers") && error.contains("original"),
        "{error}"
    );
}

/// Every parameter is multiplied by this.
struct Scaled(f64);

impl ModuleMapper for Scaled {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let factor = self.0;
        param.map(|tensor| tensor * factor)
    }
}

/// A change of the weights is seen, by one in a hundred on the CPU, by as much more elsewhere as
/// the bound is wider.
#[test]
#[should_panic(expected = "differs by")]
fn a_perturbed_weight_is_seen() {
    let mut pair = Pair::built_in();
    let factor = 1.0 + 100.0 * tolerance();
    pair.controlnet = pair.controlnet.map(&mut Scaled(factor));
    pair.assert_equal();
}

/// Each residual goes behind its own block: no other place gives the reference's output.
#[test]
fn residuals_have_their_places() {
    let pair = Pair::built_in();
    let residuals = pair.residuals(pair.scale());
    let expected: Tensor<4> = pair.tensor("output");
    let [first, second] = residuals.as_slice() else {
        panic!("{} residuals", residuals.len())
    };
    let nothing = Tensor::zeros_like(first);
    for wrong in [
        vec![],
        vec![first.clone()],
        vec![nothing.clone(), second.clone()],
        vec![second.clone(), first.clone()],
    ] {
        let change = largest_change(&pair.output(&wrong), &expected);
        let largest: f32 = expected.clone().abs().max().into_scalar();
        assert!(change > 10.0 * tolerance() as f32 * largest, "{change:e}");
    }
    // What is observed after a block has its residual.
    let text = pair.text(|caption, mask| pair.transformer.text_context(caption, mask));
    let observed = |residuals: &[Tensor<3>]| {
        let mut tokens = Vec::new();
        let mut observe = |place, x: &Tensor<3>| match place {
            Place::PatchEmbedding => tokens.push(x.clone()),
            Place::Block { part, .. } => match part {
                BlockPart::FeedForward => tokens.push(x.clone()),
                BlockPart::ControlResidual => *tokens.last_mut().unwrap() = x.clone(),
                _ => {}
            },
            _ => {}
        };
        let input = pair.given(&text).with_residuals(residuals);
        pair.transformer.forward(input.with_observer(&mut observe));
        tokens
    };
    let (plain, controlled) = (observed(&[]), observed(&residuals));
    assert_eq!(plain.len(), 4);
    assert_eq!(values(plain[1].clone()), values(controlled[1].clone()));
    let added = controlled[2].clone() - plain[2].clone();
    assert_parity("after block 1", added, first.clone());
}

#[test]
fn the_scale_multiplies_and_0_is_no_control() {
    let pair = Pair::built_in();
    for (half, whole) in pair.residuals(0.5).into_iter().zip(pair.residuals(1.0)) {
        assert_parity("half", half * 2.0, whole);
    }
    let plain = values(pair.output(&[]));
    assert_eq!(values(pair.output(&pair.residuals(0.0))), plain);
}

/// What training starts from changes nothing, exactly, in any dtype of the weights.
#[test]
fn a_new_controlnet_changes_nothing() {
    for dtype in [DType::F32, DType::BF16] {
        let mut pair = Pair::built_in();
        let folder = built_in_fixture_path(CRATE, "transformer/controlnet/transformer");
        let weights = Weights::open_folder(&folder, STEM, None).unwrap();
        let config = pair.transformer.config().clone();
        let loaded = config.load(&weights, Some(dtype), F16Clamp::Auto, &device());
        pair.transformer = loaded.unwrap();
        for layers in [1, 2] {
            pair.controlnet = SanaControlNet::from_transformer(&pair.transformer, layers).unwrap();
            assert_eq!(pair.controlnet.dtype(), dtype);
            let residuals = pair.residuals(1.0);
            assert_eq!(residuals.len(), layers);
            for residual in &residuals {
                assert!(values(residual.clone()).iter().all(|value| *value == 0.0));
            }
            assert_eq!(
                values(pair.output(&residuals)),
                values(pair.output(&[])),
                "{dtype:?}"
            );
        }
    }
}

/// It has the transformer's weights, so its blocks do what the transformer's do.
#[test]
fn a_new_controlnet_has_the_transformer_s_blocks() {
    let pair = Pair::built_in();
    let controlnet = SanaControlNet::from_transformer(&pair.transformer, 2).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(format!("{STEM}.safetensors"));
    save_module(&controlnet, &path, &SaveOptions::default()).unwrap();
    let saved = Weights::open_file(&path).unwrap();
    let source = built_in_fixture_path(CRATE, "transformer/controlnet/transformer");
    let source = Weights::open_folder(&source, STEM, None).unwrap();
    let shapes = parameter_shapes(&controlnet, Default::default());
    assert_eq!(shapes.len(), saved.names().count());
    for name in saved.names() {
        let bytes = saved.bytes(name).unwrap();
        if name.starts_with("input_block") || name.starts_with("controlnet_blocks") {
            assert!(bytes.iter().all(|byte| *byte == 0), "{name}");
        } else {
            assert_eq!(Some(bytes), source.bytes(name), "{name}");
        }
    }
    // Read again as a checkpoint's.
    let config = controlnet.config().clone();
    config
        .load(&saved, None, F16Clamp::Auto, &device())
        .unwrap();
}

/// The condition of one image serves the whole batch, and items do not see each other.
#[test]
fn a_batch_is_its_items() {
    let pair = Pair::built_in();
    let text = pair.text(|caption, mask| pair.controlnet.text_context(caption, mask));
    let item = |index: usize| pair.tensor::<4>("condition").narrow(0, index, 1);
    let run = |condition: Tensor<3>, items: std::ops::Range<usize>| {
        let (start, count) = (items.start, items.len());
        let latents: Tensor<4> = pair.tensor("input");
        let timestep: Tensor<1> = pair.tensor("timestep");
        pair.controlnet.forward(
            latents.narrow(0, start, count),
            timestep.narrow(0, start, count),
            &text.items(items),
            condition,
            1.0,
        )
    };
    let shared = run(pair.controlnet.condition(item(0)), 0..2);
    let each = Tensor::cat(vec![item(0), item(0)], 0);
    let each = run(pair.controlnet.condition(each), 0..2);
    for (shared, each) in shared.iter().zip(&each) {
        assert_parity("one condition for all", shared.clone(), each.clone());
    }
    let both = pair.residuals(1.0);
    for index in 0..2 {
        let alone = run(pair.controlnet.condition(item(index)), index..index + 1);
        for (both, alone) in both.iter().zip(alone) {
            assert_parity("alone", both.clone().narrow(0, index, 1), alone);
        }
    }
}

/// The perturbed items have the residuals of the items they are copies of.
#[test]
fn perturbed_attention_is_controlled_too() {
    let pair = Pair::built_in();
    let residuals = pair.residuals(1.0);
    let text = pair.text(|caption, mask| pair.transformer.text_context(caption, mask));
    let perturbed = |block: usize, residuals: &[Tensor<3>], first: usize| {
        let blocks = pair.transformer.config().perturbed_blocks([block]).unwrap();
        let last = text.items(first..2);
        let input = pair.given(&text).with_residuals(residuals);
        let output = pair
            .transformer
            .forward(input.with_perturbed(&blocks, &last));
        (output.velocity, output.perturbed.unwrap())
    };
    // Before, at and after the block with the first residual.
    for block in 0..3 {
        let (velocity, all) = perturbed(block, &residuals, 0);
        assert_parity("output", velocity, pair.output(&residuals));
        let (velocity, last) = perturbed(block, &residuals, 1);
        assert_parity("output", velocity, pair.output(&residuals));
        let expected = all.clone().narrow(0, 1, 1);
        assert_parity("perturbed", last, expected);
        let (_, free) = perturbed(block, &[], 0);
        let change = largest_change(&all, &free);
        assert!(change > 1e-3, "block {block}: {change:e}");
        let change = largest_change(&all, &pair.output(&residuals));
        assert!(change > 1e-3, "block {block}: {change:e}");
    }
}

#[test]
#[should_panic(expected = "3 residuals for a transformer of 3 blocks")]
fn residuals_need_a_block_to_go_behind() {
    let pair = Pair::built_in();
    let mut residuals = pair.residuals(1.0);
    residuals.push(residuals[0].clone());
    pair.output(&residuals);
}

fn parse(text: &str) -> Result<SanaControlNetConfig, ConfigError> {
    SanaControlNetConfig::from_json(text, Path::new("controlnet/config.json"))
}

#[test]
fn published_keys_are_read() {
    let config = parse(
        r#"{"_class_name": "SanaControlNetModel", "_diffusers_version": "0.33", "sample_size": 16,
            "interpolation_scale": null, "some_new_key": [1]}"#,
    )
    .unwrap();
    let read = &config.transformer;
    assert_eq!((read.sample_size, read.num_layers), (16, 7));
    assert_eq!(read.width(), 2240);
    assert_eq!(parse("{}").unwrap(), SanaControlNetConfig::default());
    let json = serde_json::to_string(&config).unwrap();
    assert!(!json.contains("qk_norm"), "{json}");
    assert_eq!(parse(&json).unwrap(), config);
    let mut normed = config;
    normed.transformer.qk_norm = Some(QkNorm::RmsNormAcrossHeads);
    let json = serde_json::to_string(&normed).unwrap();
    assert_eq!(parse(&json).unwrap(), normed);

    // The released ones are copies of the first 7 blocks.
    for transformer in [
        SanaTransformerConfig::sana_600m_1024px(),
        SanaTransformerConfig::sana_1600m_1024px(),
        SanaTransformerConfig::sana_1_5_1600m(),
    ] {
        let config = SanaControlNetConfig::of_transformer(&transformer, 7).unwrap();
        config.validate().unwrap();
        assert_eq!(
            config.init(&device()).num_params(),
            parameters(&transformer, 7)
        );
    }
}

/// Embeddings and blocks of the transformer, and one projection more than there are blocks.
fn parameters(transformer: &SanaTransformerConfig, layers: usize) -> usize {
    let width = transformer.width();
    let first = |name: &str| match name.strip_prefix("transformer_blocks.") {
        Some(rest) => rest.split('.').next().unwrap().parse::<usize>().unwrap() < layers,
        None => !name.starts_with("proj_out") && name != "scale_shift_table",
    };
    let shapes = parameter_shapes(&transformer.init(&device()), Default::default());
    let copied = shapes.iter().filter(|(name, _)| first(name));
    let copied: usize = copied
        .map(|(_, shape)| shape.iter().product::<usize>())
        .sum();
    copied + (layers + 1) * (width * width + width)
}

#[test]
fn configs_that_are_not_usable() {
    for (text, part) in [
        (r#"{"num_layers": 0}"#, "num_layers must lie in"),
        (r#"{"cross_attention_dim": 7}"#, "cross_attention_dim 7"),
        (r#"{"dropout": 0.1}"#, "dropout 0.1 is not implemented"),
    ] {
        let error = parse(text).unwrap_err();
        assert!(
            matches!(error, ConfigError::InvalidControlNet(_)),
            "{error}"
        );
        let text = error.to_string();
        assert!(text.contains("ControlNet") && text.contains(part), "{text}");
    }
    for text in ["", "[]", r#"{"num_layers": "many"}"#] {
        let error = parse(text).unwrap_err();
        assert!(matches!(error, ConfigError::Json { .. }), "{error}");
        assert!(error.to_string().contains("controlnet/config.json"));
    }
    let error = SanaControlNetConfig::from_file(Path::new("nowhere/config.json"));
    assert!(matches!(error, Err(ConfigError::Io { .. })));
}

#[test]
fn transformers_that_it_does_not_fit() {
    let pair = Pair::built_in();
    let own = pair.transformer.config().clone();
    let config = pair.controlnet.config();
    config.check_transformer(&own).unwrap();
    let differs = |what, found, expected| ControlNetError::Differs {
        what,
        found,
        expected,
    };
    let cases = [
        (
            SanaTransformerConfig {
                num_attention_heads: 6,
                ..own.clone()
            },
            differs("channels of a token", 40, 48),
        ),
        (
            SanaTransformerConfig {
                in_channels: 16,
                ..own.clone()
            },
            differs("latent channels", 12, 16),
        ),
        (
            SanaTransformerConfig {
                caption_channels: 25,
                ..own.clone()
            },
            differs("caption channels", 24, 25),
        ),
        (
            SanaTransformerConfig {
                patch_size: 2,
                ..own.clone()
            },
            differs("latent pixels along a token", 1, 2),
        ),
        (
            SanaTransformerConfig {
                num_layers: 2,
                ..own.clone()
            },
            ControlNetError::Blocks {
                found: 2,
                blocks: 2,
            },
        ),
        (
            SanaTransformerConfig {
                guidance_embeds: true,
                ..own.clone()
            },
            ControlNetError::EmbeddedGuidance,
        ),
    ];
    for (transformer, expected) in cases {
        let error = config.check_transformer(&transformer).unwrap_err();
        assert_eq!(error, expected);
    }
    let text = differs("latent channels", 12, 16).to_string();
    assert!(text.contains("12 latent channels"), "{text}");
    assert!(text.contains("made for another"), "{text}");
    for layers in [0, 3, 4] {
        let error = SanaControlNet::from_transformer(&pair.transformer, layers).unwrap_err();
        let expected = ControlNetError::Blocks {
            found: layers,
            blocks: 3,
        };
        assert_eq!(error, expected);
    }
    let sprint = SanaTransformerConfig::sana_sprint_600m();
    let error = SanaControlNetConfig::of_transformer(&sprint, 7).unwrap_err();
    assert!(error.to_string().contains("Sana-Sprint"), "{error}");
}

/// A transformer's weights are no ControlNet's.
#[test]
fn loading_is_strict() {
    let folder = built_in_fixture_path(CRATE, "transformer/controlnet");
    let config = SanaControlNetConfig::from_file(&folder.join("controlnet/config.json")).unwrap();
    let weights = Weights::open_folder(&folder.join("transformer"), STEM, None).unwrap();
    let error = config
        .load(&weights, None, F16Clamp::Auto, &device())
        .unwrap_err();
    assert!(matches!(error, WeightError::Mismatch { .. }));
    let text = error.all_names().unwrap();
    for name in [
        "controlnet_blocks.1.bias",
        "input_block.weight",
        "transformer_blocks.2.attn1.to_q.weight",
        "proj_out.weight",
    ] {
        assert!(text.contains(name), "{name} in {text}");
    }
}

/// Weights in 16 bits are computed with in 16 bits, or widened.
#[test]
fn dtypes() {
    let pair = Pair::built_in();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(format!("{STEM}.bf16.safetensors"));
    let options = SaveOptions {
        dtype: Some(DType::BF16),
        ..SaveOptions::default()
    };
    save_module(&pair.controlnet, &path, &options).unwrap();
    let weights = Weights::open_folder(folder.path(), STEM, Some("bf16")).unwrap();
    let config = pair.controlnet.config();
    let load = |dtype| {
        config
            .load(&weights, dtype, F16Clamp::Auto, &device())
            .unwrap()
    };
    assert_eq!(load(None).dtype(), DType::BF16);
    let widened = load(Some(DType::F32));
    assert_eq!(widened.dtype(), DType::F32);
    let pair = Pair {
        controlnet: widened,
        ..pair
    };
    for (index, residual) in pair.residuals(pair.scale()).into_iter().enumerate() {
        let expected: Tensor<3> = pair.tensor(&format!("residual_{index}"));
        // bf16 keeps 8 bits of each weight.
        assert_close("bf16", &values(residual), &values(expected), 3e-2);
    }
    // Residuals in f32 go into a transformer that computes in bf16.
    let bf16 = SanaTransformerConfig::from_file(
        &built_in_fixture_path(CRATE, "transformer/controlnet/transformer").join("config.json"),
    )
    .unwrap();
    let source = built_in_fixture_path(CRATE, "transformer/controlnet/transformer");
    let source = Weights::open_folder(&source, STEM, None).unwrap();
    let transformer = bf16.load(&source, Some(DType::BF16), F16Clamp::Auto, &device());
    let residuals = pair.residuals(1.0);
    let pair = Pair {
        transformer: transformer.unwrap(),
        ..pair
    };
    let output = values(pair.output(&residuals));
    assert!(output.iter().all(|value| value.is_finite()));
}

/// With a position table both embeddings have it, so a condition is not the same at every place.
#[test]
fn positions_are_added_to_the_condition() {
    let mut config = Pair::built_in().controlnet.config().clone();
    config.transformer.interpolation_scale = Some(1.0);
    let device = device();
    let mut controlnet = config.init(&device);
    struct Ones;
    impl ModuleMapper for Ones {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|tensor| tensor.ones_like() * 0.1)
        }
    }
    controlnet = controlnet.map(&mut Ones);
    let flat = Tensor::from_data(
        TensorData::new(vec![1f32; 12 * 4], [1, 12, 2, 2]),
        (&device, DType::F32),
    );
    let condition = controlnet.condition(flat);
    let first = condition.clone().narrow(1, 0, 1);
    let last = condition.narrow(1, 3, 1);
    let change: f32 = (first - last).abs().max().into_scalar();
    assert!(change > 1e-2, "{change}");
}
