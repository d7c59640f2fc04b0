//! Values that are not finite: the error says where they began.

use burn::tensor::Tensor;
use sana_linear_attn::transformer::{BlockPart, Place};
use sana_pipeline::{PipelineError, StepAction};

use super::*;

const AUTOENCODER: &str = "vae/diffusion_pytorch_model.safetensors";

fn failure(folder: &TempDir, request: &Request) -> PipelineError {
    let mut pipeline = SanaPipeline::load(folder.path(), &device()).unwrap();
    let error = pipeline.generate(request, &mut |_| StepAction::Continue);
    error.unwrap_err()
}

#[test]
fn the_block_of_a_step_is_named() {
    let folder = copy_of(&sana_folder());
    let weight = "transformer_blocks.1.ff.conv_depth.weight";
    poison(&folder.path().join(TRANSFORMER), weight);
    let request = small().steps(3);
    // With classifier-free guidance, without it, and with a perturbed path next to it.
    for request in [
        request.clone(),
        request.clone().guidance(1.0),
        request.perturbed_attention(2.0),
    ] {
        let error = failure(&folder, &request);
        let PipelineError::StepNotFinite { step, place, .. } = error else {
            panic!("{error}")
        };
        let part = BlockPart::FeedForward;
        assert_eq!((step, place), (1, Some(Place::Block { index: 1, part })));
        let message = error.to_string();
        for part in [
            "step 1 of 3",
            "first in transformer_blocks.1, the feed-forward (ff)",
            "check the weights",
        ] {
            assert!(message.contains(part), "{part:?} in {message}");
        }
    }
}

#[test]
fn latents_and_embeddings_that_were_not_finite_already() {
    let mut pipeline = sana();
    let request = small().steps(3);
    let conditioning = pipeline.encode_prompt(&request).unwrap();
    let error = pipeline
        .sample(&request, &conditioning, &mut |step| {
            StepAction::ContinueFrom(step.latents.full_like(f32::NAN))
        })
        .unwrap_err();
    assert!(
        error.to_string().contains("first in the latents that"),
        "{error}"
    );

    for negative in [false, true] {
        let mut spoilt = conditioning.clone();
        let embeds = match negative {
            true => spoilt.negative.as_mut().unwrap(),
            false => &mut spoilt.prompt,
        };
        embeds.embeds = embeds.embeds.full_like(f32::NAN);
        let error = pipeline.sample(&request, &spoilt, &mut |_| StepAction::Continue);
        let error = error.unwrap_err();
        assert!(
            error.to_string().contains("first in the text embeddings"),
            "{error}"
        );
    }
}

#[test]
fn the_layer_of_the_decoder_is_named() {
    let folder = copy_of(&sana_folder());
    let weight = "decoder.up_blocks.2.1.conv1.bias";
    poison(&folder.path().join(AUTOENCODER), weight);
    let error = failure(&folder, &small());
    let message = error.to_string();
    for part in [
        "decode stage",
        "first in decoder.up_blocks.2.1",
        "f32 was used",
    ] {
        assert!(message.contains(part), "{part:?} in {message}");
    }

    let latents = Tensor::<4>::full([1, 32, 1, 1], f32::NAN, &device());
    let error = sana().decode(latents).unwrap_err();
    let expected = "first in the latents that the decoder was given";
    assert!(error.to_string().contains(expected), "{error}");
}
