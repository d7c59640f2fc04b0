//! Block importance, against hidden states that are kept and compared.

use burn::tensor::{Device, Tensor};
use sana_linear_attn::parity::{Fixture, device, fixture_path, values};
use sana_linear_attn::transformer::depth::BlockImportance;
use sana_linear_attn::transformer::depth::GrowthError;
use sana_linear_attn::transformer::{BlockPart, F16Clamp, Place, TransformerInput};
use sana_linear_attn::{SanaTransformer, SanaTransformerConfig, Weights};

const CRATE: &str = env!("CARGO_MANIFEST_DIR");

fn model(device: &Device) -> SanaTransformer {
    let folder = fixture_path(CRATE, "transformer/sana");
    let config = SanaTransformerConfig::from_file(&folder.join("config.json")).unwrap();
    let weights = Weights::open_folder(&folder, "diffusion_pytorch_model", None).unwrap();
    let load = config.load(&weights, None, F16Clamp::Auto, device);
    load.unwrap()
}

fn run(model: &SanaTransformer, scale: f64, mut look: impl FnMut(Place, &Tensor<3>)) {
    let device = device();
    let io = Fixture::open(CRATE, "transformer/sana/io.safetensors");
    let mask = io.tensor("caption_mask", &device);
    let context = model.text_context(io.tensor("caption", &device), Some(mask));
    let latents = io.tensor::<4>("input", &device) * scale;
    let timestep = io.tensor("timestep", &device);
    let mut look = |place: Place, values: &Tensor<3>| look(place, values);
    model.forward(TransformerInput::new(latents, timestep, &context).with_observer(&mut look));
}

/// The tokens before the first block and after each one.
fn states(model: &SanaTransformer, scale: f64) -> Vec<Vec<Vec<f64>>> {
    let mut states = Vec::new();
    run(model, scale, |place, tokens| {
        let after = matches!(
            place,
            Place::Block {
                part: BlockPart::FeedForward,
                ..
            }
        );
        if after || place == Place::PatchEmbedding {
            let [_, _, channels] = tokens.dims();
            let flat = values(tokens.clone());
            let token = |token: &[f32]| token.iter().copied().map(f64::from).collect();
            states.push(flat.chunks(channels).map(token).collect());
        }
    });
    states
}

fn cosine(left: &[f64], right: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(left, right) / (dot(left, left) * dot(right, right)).sqrt()
}

#[test]
fn importance_is_that_of_stored_states() {
    let model = model(&device());
    let blocks = model.config().num_layers;
    let mut importance = BlockImportance::new(blocks);
    assert_eq!(importance.values(), vec![None; blocks]);
    let mut stored = vec![(0.0, 0.0); blocks];
    for scale in [1.0, 0.3] {
        run(&model, scale, |place, tokens| {
            importance.observe(place, tokens)
        });
        let states = states(&model, scale);
        assert_eq!(states.len(), blocks + 1);
        for (pair, (sum, count)) in states.windows(2).zip(&mut stored) {
            for (before, after) in pair[0].iter().zip(&pair[1]) {
                *sum += cosine(before, after);
                *count += 1.0;
            }
        }
    }
    let found = importance.values();
    for (block, (found, (sum, count))) in found.iter().zip(&stored).enumerate() {
        let expected = 1.0 - sum / count;
        let found = found.unwrap();
        assert!(
            (found - expected).abs() < 1e-5,
            "block {block}: {found}, {expected}"
        );
        assert!(found > 1e-3, "block {block} does nothing: {found}");
    }
}

/// Values of two tokens at a place.
fn tokens(rows: [[f32; 2]; 2]) -> Tensor<3> {
    Tensor::<2>::from_floats(rows, &device()).unsqueeze()
}

fn after(index: usize, part: BlockPart) -> Place {
    Place::Block { index, part }
}

#[test]
fn the_least_important_are_left_out() {
    use BlockPart::{ControlResidual, FeedForward, Modulation, SelfAttention};

    let mut importance = BlockImportance::new(4);
    let east = tokens([[1.0, 0.0], [2.0, 0.0]]);
    let north = tokens([[0.0, 3.0], [0.0, 1.0]]);
    let half = tokens([[1.0, 0.0], [0.0, 5.0]]);
    importance.observe(Place::PatchEmbedding, &east);
    importance.observe(after(0, Modulation), &north);
    importance.observe(after(0, SelfAttention), &north);
    importance.observe(after(0, FeedForward), &(east.clone() * 7.0));
    importance.observe(after(1, FeedForward), &half);
    // What a ControlNet adds is not the block's, but goes into the next one.
    importance.observe(after(1, ControlResidual), &north);
    importance.observe(after(2, FeedForward), &north.clone().neg());
    let error = importance.most_important(2).unwrap_err();
    assert!(
        matches!(error, GrowthError::Importance { block: 3 }),
        "{error}"
    );
    importance.observe(after(3, FeedForward), &north.neg());

    let values: Vec<f64> = importance.values().into_iter().flatten().collect();
    for (found, expected) in values.iter().zip([0.0, 0.5, 2.0, 0.0]) {
        assert!((found - expected).abs() < 1e-6, "{values:?}");
    }
    assert_eq!(importance.most_important(1).unwrap(), [2]);
    assert_eq!(importance.most_important(2).unwrap(), [1, 2]);
    assert_eq!(importance.most_important(4).unwrap(), [0, 1, 2, 3]);
    for keep in [0, 5] {
        let error = importance.most_important(keep).unwrap_err();
        assert!(
            matches!(error, GrowthError::Keep { blocks: 4, .. }),
            "{error}"
        );
    }
    importance.observe(Place::PatchEmbedding, &(east.clone() * f32::NAN));
    importance.observe(after(0, FeedForward), &east);
    let error = importance.most_important(2).unwrap_err();
    assert!(error.to_string().contains("block 0"), "{error}");
}

/// A path that begins behind the first block has no input of that block.
#[test]
fn a_path_that_begins_later_is_passed_over() {
    let mut importance = BlockImportance::new(3);
    let east = tokens([[1.0, 0.0], [2.0, 0.0]]);
    importance.observe(Place::PatchEmbedding, &east);
    for index in [0, 1, 2, 1, 2] {
        importance.observe(after(index, BlockPart::FeedForward), &east);
    }
    assert!(
        importance
            .values()
            .iter()
            .all(|value| value.unwrap().abs() < 1e-6)
    );
}

/// With the authors' wiring a residual comes before the block that it goes into.
#[test]
fn residuals_before_a_block_are_its_input() {
    use BlockPart::{ControlResidual, FeedForward};

    let mut importance = BlockImportance::new(2);
    let east = tokens([[1.0, 0.0], [2.0, 0.0]]);
    let north = tokens([[0.0, 3.0], [0.0, 1.0]]);
    importance.observe(Place::PatchEmbedding, &east);
    importance.observe(after(0, FeedForward), &east);
    importance.observe(after(1, ControlResidual), &north);
    importance.observe(after(1, FeedForward), &north.neg());
    let values: Vec<f64> = importance.values().into_iter().flatten().collect();
    assert_eq!(values.len(), 2);
    for (found, expected) in values.iter().zip([0.0, 2.0]) {
        assert!((found - expected).abs() < 1e-6, "{values:?}");
    }
}
