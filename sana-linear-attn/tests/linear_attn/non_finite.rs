//! A weight that is not finite is found in the part of the network that it belongs to.

use burn::tensor::{Device, Tensor};
use sana_linear_attn::parity::{Fixture, device, edit_tensor, fixture_path, values};
use sana_linear_attn::precision::is_finite;
use sana_linear_attn::transformer::{BlockPart, F16Clamp, Place, TransformerInput};
use sana_linear_attn::{SanaTransformer, SanaTransformerConfig, Weights};

const CRATE: &str = env!("CARGO_MANIFEST_DIR");

/// The reference's tiny network with one element of a tensor replaced.
fn poisoned(tensor: &str, value: f32, device: &Device) -> SanaTransformer {
    let folder = fixture_path(CRATE, "transformer/sana");
    let path = folder.join("diffusion_pytorch_model.safetensors");
    let mut bytes = std::fs::read(path).expect("weights");
    if !tensor.is_empty() {
        edit_tensor(
            &mut bytes,
            tensor,
            |index, old| if index == 0 { value } else { old },
        );
    }
    let config = SanaTransformerConfig::from_file(&folder.join("config.json")).expect("config");
    let weights = Weights::from_bytes("poisoned", bytes).expect("valid");
    config
        .load(&weights, None, F16Clamp::Auto, device)
        .expect("fits")
}

/// The inputs of the reference.
struct Inputs {
    latents: Tensor<4>,
    timestep: Tensor<1>,
    caption: Tensor<3>,
    mask: Tensor<2>,
}

impl Inputs {
    fn new(device: &Device) -> Self {
        let io = Fixture::open(CRATE, "transformer/sana/io.safetensors");
        Self {
            latents: io.tensor("input", device),
            timestep: io.tensor("timestep", device),
            caption: io.tensor("caption", device),
            mask: io.tensor("caption_mask", device),
        }
    }

    /// Where a network fails, which it has to when its output is not finite.
    fn locate(&self, model: &SanaTransformer) -> Option<Place> {
        let text = model.text_context(self.caption.clone(), Some(self.mask.clone()));
        let (latents, timestep) = (self.latents.clone(), self.timestep.clone());
        let input = || TransformerInput::new(latents.clone(), timestep.clone(), &text);
        let output = model.forward(input()).velocity;
        let finite = values(output).iter().all(|value| value.is_finite());
        let place = model.locate_non_finite(input(), std::slice::from_ref(&self.caption));
        assert!(finite || place.is_some());
        place
    }
}

#[test]
fn every_part_is_named() {
    let device = device();
    let inputs = Inputs::new(&device);
    assert_eq!(inputs.locate(&poisoned("", 0.0, &device)), None);
    let block = |part| Place::Block { index: 1, part };
    for (tensor, place) in [
        ("patch_embed.proj.bias", Place::PatchEmbedding),
        (
            "time_embed.emb.timestep_embedder.linear_1.weight",
            Place::TimeEmbedding,
        ),
        ("time_embed.linear.bias", Place::TimeEmbedding),
        (
            "caption_projection.linear_1.weight",
            Place::CaptionProjection,
        ),
        ("caption_norm.weight", Place::CaptionProjection),
        (
            "transformer_blocks.1.scale_shift_table",
            block(BlockPart::Modulation),
        ),
        (
            "transformer_blocks.1.attn1.to_v.weight",
            block(BlockPart::SelfAttention),
        ),
        (
            "transformer_blocks.1.attn1.to_out.0.bias",
            block(BlockPart::SelfAttention),
        ),
        (
            "transformer_blocks.1.attn2.to_k.weight",
            block(BlockPart::TextKeysValues),
        ),
        (
            "transformer_blocks.1.attn2.to_v.bias",
            block(BlockPart::TextKeysValues),
        ),
        (
            "transformer_blocks.1.attn2.to_q.weight",
            block(BlockPart::CrossAttention),
        ),
        (
            "transformer_blocks.1.attn2.to_out.0.weight",
            block(BlockPart::CrossAttention),
        ),
        (
            "transformer_blocks.1.ff.conv_inverted.bias",
            block(BlockPart::FeedForward),
        ),
        (
            "transformer_blocks.1.ff.conv_depth.weight",
            block(BlockPart::FeedForward),
        ),
        (
            "transformer_blocks.1.ff.conv_point.weight",
            block(BlockPart::FeedForward),
        ),
        ("scale_shift_table", Place::Output),
        ("proj_out.weight", Place::Output),
    ] {
        for value in [f32::NAN, f32::INFINITY] {
            let found = inputs.locate(&poisoned(tensor, value, &device));
            assert_eq!(found, Some(place), "{value} in {tensor}");
        }
    }
}

#[test]
fn inputs_are_named_too() {
    let device = device();
    let model = poisoned("", 0.0, &device);
    let mut inputs = Inputs::new(&device);
    inputs.caption = inputs.caption.clone() / 0.0;
    assert_eq!(inputs.locate(&model), Some(Place::TextEmbeddings));
    inputs.latents = inputs.latents.full_like(f32::NAN);
    assert_eq!(inputs.locate(&model), Some(Place::Latents));
}

/// The identity in place of the attention has no use for keys.
#[test]
fn the_perturbed_path_is_another_one() {
    let device = device();
    let model = poisoned(
        "transformer_blocks.1.attn1.to_k.weight",
        f32::INFINITY,
        &device,
    );
    let inputs = Inputs::new(&device);
    let part = BlockPart::SelfAttention;
    assert_eq!(inputs.locate(&model), Some(Place::Block { index: 1, part }));
    let text = model.text_context(inputs.caption.clone(), Some(inputs.mask.clone()));
    let blocks = model.config().perturbed_blocks([1]).expect("a block");
    let input = TransformerInput::new(inputs.latents, inputs.timestep, &text);
    let output = model.forward(input.with_perturbed(&blocks, &text));
    assert!(!is_finite(&output.velocity));
    assert!(is_finite(&output.perturbed.expect("it was asked for")));
}

#[test]
fn places_are_called_as_in_checkpoints() {
    let part = BlockPart::FeedForward;
    let place = Place::Block { index: 3, part };
    assert_eq!(
        place.to_string(),
        "transformer_blocks.3, the feed-forward (ff)"
    );
    assert_eq!(Place::Output.to_string(), "the output projection");
}
