//! The whole transformer against the reference's output, tensor by tensor (`transformer/`
//! fixtures), and the published sizes.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use sana_linear_attn::parity::{
    Fixture, assert_parity, device, fixture_path, values, weights_folder,
};
use sana_linear_attn::transformer::{BlockPart, F16Clamp, Place, TransformerInput};
use sana_linear_attn::{SanaTransformerConfig, Weights};

const CRATE: &str = env!("CARGO_MANIFEST_DIR");

fn check(name: &str) {
    let device = device();
    let folder = fixture_path(CRATE, &format!("transformer/{name}"));
    let io = Fixture::open(CRATE, &format!("transformer/{name}/io.safetensors"));
    let config = SanaTransformerConfig::from_file(&folder.join("config.json")).expect("config");
    let weights = Weights::open_folder(&weights_folder(&folder), "diffusion_pytorch_model", None)
        .expect("weights");
    let model = config
        .load(&weights, None, F16Clamp::Auto, &device)
        .expect("the weights fit");

    let caption: Tensor<3> = io.tensor("caption", &device);
    let projected = model.project_caption(caption.clone());
    assert_parity(
        "after_caption_norm",
        projected,
        io.tensor("after_caption_norm", &device),
    );

    let text = model.text_context(caption, Some(io.tensor("caption_mask", &device)));
    let mut compared = 0;
    let mut compare = |place, tokens: &Tensor<3>| {
        let name = match place {
            Place::PatchEmbedding => "after_patch_embed".to_owned(),
            Place::Block {
                index,
                part: BlockPart::FeedForward,
            } => format!("after_block_{index}"),
            _ => return,
        };
        assert_parity(&name, tokens.clone(), io.tensor(&name, &device));
        compared += 1;
    };
    let latents: Tensor<4> = io.tensor("input", &device);
    let [_, _, height, width] = latents.dims();
    let input = || {
        let timestep: Tensor<1> = io.tensor("timestep", &device);
        let input = TransformerInput::new(latents.clone(), timestep, &text);
        match io.contains("guidance") {
            true => input.with_guidance(io.tensor::<1>("guidance", &device)),
            false => input,
        }
    };
    let output = model.forward(input().with_observer(&mut compare));
    assert_eq!(compared, config.num_layers + 1);
    let output = output.velocity;
    assert_parity("output", output.clone(), io.tensor("output", &device));

    // Positions made once for all steps, as a pipeline does, and nobody looking.
    let positions = model.positions([height, width], &device);
    assert_eq!(positions.is_some(), config.interpolation_scale.is_some());
    let again = model.forward(input().with_positions(positions.as_ref()));
    match device == Device::flex() {
        true => assert_eq!(values(again.velocity), values(output), "positions given"),
        // Other operations are fused where nobody looks at the blocks, and their sums have another order.
        false => assert_parity("output", again.velocity, io.tensor("output", &device)),
    }
}

#[test]
fn sana() {
    check("sana");
}

#[test]
fn sana_head_dim_32() {
    check("sana_head_dim_32");
}

#[test]
fn sana_1_5_qk_norm() {
    check("sana_1_5");
}

#[test]
fn sana_sprint_guidance_embedding() {
    check("sana_sprint");
}

#[test]
fn sana_2k_positions() {
    check("sana_2k");
}

#[test]
fn sana_4k_positions_interpolated_not_square() {
    check("sana_4k_nonsquare");
}

#[test]
fn sana_patch_size_2() {
    check("sana_patch2");
}

/// `sana-family.md` table 2a, the counts of the released checkpoints; nothing is allocated.
#[test]
fn parameter_counts_of_released_variants() {
    let device = Device::flex();
    let counts = [
        (SanaTransformerConfig::sana_600m_512px(), 591_747_872),
        (SanaTransformerConfig::sana_600m_1024px(), 591_747_872),
        (SanaTransformerConfig::sana_1600m_512px(), 1_604_462_752),
        (SanaTransformerConfig::sana_1600m_1024px(), 1_604_462_752),
        (SanaTransformerConfig::sana_1600m_2kpx(), 1_604_462_752),
        (SanaTransformerConfig::sana_1600m_4kpx(), 1_604_462_752),
        (SanaTransformerConfig::sana_1_5_1600m(), 1_604_641_952),
        (SanaTransformerConfig::sana_1_5_4800m(), 4_721_825_952),
        (SanaTransformerConfig::sana_sprint_600m(), 593_501_216),
        (SanaTransformerConfig::sana_sprint_1600m(), 1_610_237_472),
    ];
    for (config, expected) in counts {
        config.validate().expect("a preset is valid");
        assert_eq!(config.init(&device).num_params(), expected, "{config:?}");
    }
    let model = SanaTransformerConfig::sana_1600m_512px().init(&device);
    let shapes = sana_linear_attn::weights::parameter_shapes(&model, Default::default());
    let in_blocks: usize = shapes
        .iter()
        .filter(|(name, _)| name.starts_with("transformer_blocks."))
        .map(|(_, shape)| shape.iter().product::<usize>())
        .sum();
    assert_eq!(in_blocks, 1_558_412_800);
}
