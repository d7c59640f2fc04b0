//! The ControlNet against the reference's residuals and output (`transformer/controlnet`
//! fixtures), and what holds of it without them.

mod config;
mod weights;

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Tensor, TensorData};
use sana_linear_attn::parity::{
    Fixture, assert_close, assert_parity, built_in_fixture_path, device, fixture_path, tolerance,
    values,
};
use sana_linear_attn::transformer::{
    BlockPart, ConfigError, ControlInput, ControlNetError, F16Clamp, Place, QkNorm, TextContext,
    TransformerInput,
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
            ControlInput {
                timestep: self.tensor::<1>("timestep").into(),
                context: &text,
                condition: self.controlnet.condition(self.tensor("condition")),
                positions: None,
                scale,
            },
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
            ControlInput {
                timestep: pair.tensor::<1>("timestep").into(),
                context: &text,
                condition: pair.controlnet.condition(pair.tensor("condition")),
                positions: None,
                scale: pair.scale(),
            },
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
            ControlInput {
                timestep: timestep.narrow(0, start, count).into(),
                context: &text.items(items),
                condition,
                positions: None,
                scale: 1.0,
            },
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
