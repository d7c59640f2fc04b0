//! Blocks against reference outputs.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use sana_dcae::{
    Activation, DownBlock, DownsampleBlockType, EfficientVitBlock, NormType, ResBlock, UpBlock,
    UpsampleBlockType,
};
use sana_linear_attn::parity::{Fixture, assert_parity, device};
use sana_linear_attn::{LoadOptions, Weights, load_module};

use crate::CRATE;

/// Loads a block's weights, runs it on the fixture's input and compares the output.
fn check<M: Module>(
    name: &str,
    build: impl Fn(&Fixture, &Device) -> M,
    forward: impl Fn(&M, Tensor<4>) -> Tensor<4>,
) {
    let device = device();
    let fixture = Fixture::open(CRATE, &format!("blocks/{name}.safetensors"));
    let weights = Weights::open_file(fixture.path()).expect("a fixture");
    let options = LoadOptions {
        strip_prefix: "weights.",
        ignore: &["input", "output"],
        ..LoadOptions::default()
    };
    let block = load_module(build(&fixture, &device), &weights, &options, &device)
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let output = forward(&block, fixture.tensor("input", &device));
    assert_parity(name, output, fixture.tensor("output", &device));
}

fn channels(fixture: &Fixture, name: &str) -> usize {
    fixture.shape(name)[1]
}

#[test]
fn res_block() {
    check(
        "res_block",
        |fixture, device| {
            let activation = match fixture.metadata("activation").as_str() {
                "SiLU" => Activation::Silu,
                "ReLU" => Activation::Relu,
                other => panic!("activation {other}"),
            };
            // The metadata's `norm` is a sentence; weights of another norm would not fit.
            let norm = NormType::RmsNorm;
            ResBlock::new(channels(fixture, "input"), norm, activation, device)
        },
        |block, x| block.forward(x),
    );
}

#[test]
fn efficientvit_block() {
    check(
        "efficientvit_block",
        |fixture, device| {
            let head_dim = fixture.metadata("head_dim").parse().expect("a number");
            let kernels: Vec<usize> = fixture
                .metadata("kernel_sizes")
                .split(|c: char| !c.is_ascii_digit())
                .filter_map(|size| size.parse().ok())
                .collect();
            EfficientVitBlock::new(channels(fixture, "input"), head_dim, &kernels, device)
        },
        |block, x| block.forward(x),
    );
}

#[test]
fn down_blocks() {
    for (name, kind, shortcut) in [
        ("down_conv", DownsampleBlockType::Conv, true),
        ("down_conv_no_shortcut", DownsampleBlockType::Conv, false),
        (
            "down_pixel_unshuffle",
            DownsampleBlockType::PixelUnshuffle,
            true,
        ),
        (
            "down_pixel_unshuffle_no_shortcut",
            DownsampleBlockType::PixelUnshuffle,
            false,
        ),
    ] {
        check(
            name,
            |fixture, device| {
                let (input, output) = (channels(fixture, "input"), channels(fixture, "output"));
                DownBlock::new(input, output, kind, shortcut, device)
            },
            |block, x| block.forward(x),
        );
    }
}

#[test]
fn up_blocks() {
    for (name, kind, shortcut) in [
        ("up_interpolate", UpsampleBlockType::Interpolate, true),
        (
            "up_interpolate_no_shortcut",
            UpsampleBlockType::Interpolate,
            false,
        ),
        ("up_pixel_shuffle", UpsampleBlockType::PixelShuffle, true),
        (
            "up_pixel_shuffle_no_shortcut",
            UpsampleBlockType::PixelShuffle,
            false,
        ),
    ] {
        check(
            name,
            |fixture, device| {
                let (input, output) = (channels(fixture, "input"), channels(fixture, "output"));
                UpBlock::new(input, output, kind, shortcut, device)
            },
            |block, x| block.forward(x),
        );
    }
}
