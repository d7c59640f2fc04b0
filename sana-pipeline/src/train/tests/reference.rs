//! Loss, gradients and optimizer steps against the reference (`training/` fixture).

use burn::tensor::{Device, Tensor};
use sana_linear_attn::parity::{Fixture, assert_close, device, fixture_path, tolerance, values};
use sana_linear_attn::transformer::F16Clamp;
use sana_linear_attn::{SanaTransformer, SanaTransformerConfig, Weights};

use super::workers;
use crate::train::optimizer::{Optimizer, Parameters};
use crate::train::{OptimizerOptions, flow_loss};

const CRATE: &str = env!("CARGO_MANIFEST_DIR");

fn fixture() -> Fixture {
    Fixture::open(CRATE, "training/io.safetensors")
}

fn model(device: &Device) -> SanaTransformer {
    let folder = fixture_path(CRATE, "training/transformer");
    let config = SanaTransformerConfig::from_file(&folder.join("config.json")).expect("config");
    let weights = Weights::open_folder(&folder, "diffusion_pytorch_model", None).expect("weights");
    config
        .load(&weights, None, F16Clamp::Auto, device)
        .expect("the weights fit")
}

fn flat(values: Vec<f64>) -> Vec<f32> {
    values.into_iter().map(|value| value as f32).collect()
}

#[test]
fn times_are_shifted_as_in_the_reference() {
    let f = fixture();
    let shift: f64 = f.metadata("flow_shift").parse().expect("a number");
    for (u, sigma) in f.values("u").into_iter().zip(f.values("sigma")) {
        let ours = sana_sampler::shift_sigma(u, shift);
        assert!(
            (ours - sigma).abs() < 1e-6,
            "shift({u}) = {ours}, reference {sigma}"
        );
    }
}

#[test]
fn loss_and_gradients_equal_the_reference() {
    let (f, device) = (fixture(), device());
    let plain = model(&device);
    let parameters = Parameters::of(&plain);
    let tracked = parameters.write_into(plain, true);
    let loss = flow_loss(
        &tracked,
        f.tensor("x0", &device),
        f.tensor("noise", &device),
        &f.values("sigma"),
        f.tensor::<3>("caption", &device).autodiff(),
        f.tensor::<2>("caption_mask", &device).autodiff(),
    )
    .expect("the fixture's shapes agree");
    assert_close(
        "loss",
        &values(loss.clone().inner()),
        &flat(f.values("loss")),
        tolerance(),
    );

    let gradients = loss.backward();
    let ours = parameters.gradients(&tracked, &gradients);
    let reference: Vec<(String, Vec<f32>)> = parameters
        .names
        .iter()
        .map(|name| (name.clone(), flat(f.values(&format!("gradient.{name}")))))
        .collect();
    let largest = |values: &[f32]| values.iter().fold(0f32, |max, value| max.max(value.abs()));
    let largest_of_all = reference
        .iter()
        .map(|(_, g)| largest(g))
        .fold(0f32, f32::max);
    for ((name, reference), ours) in reference.iter().zip(ours) {
        let ours = values(ours.unwrap_or_else(|| panic!("no gradient reaches {name}")));
        // The bound is 1e-4 of the tensor's own largest gradient, or of a thousandth of the
        // file's largest where that is more: rounding of large gradients reaches small ones.
        let own = largest(reference);
        let scale = own.max(1e-3 * largest_of_all) / own.max(f32::MIN_POSITIVE);
        assert_close(name, &ours, reference, tolerance() * f64::from(scale));
    }
}

#[test]
fn adamw_step_equals_the_reference() {
    let (f, device) = (fixture(), device());
    let mut parameters = Parameters::of(&model(&device));
    let gradients = parameters
        .names
        .iter()
        .map(|name| {
            let values = flat(f.values(&format!("gradient.{name}")));
            Some(Tensor::<1>::from_floats(values.as_slice(), &device))
        })
        .collect();
    let options = OptimizerOptions {
        weight_decay: 0.01,
        clip_norm: f64::INFINITY,
        ..OptimizerOptions::default()
    };
    let mut optimizer = Optimizer::new(options, &parameters);
    optimizer
        .step(&mut parameters.values, gradients, 1e-3, &workers(1))
        .expect("finite gradients");
    for (name, ours) in parameters.names.iter().zip(parameters.values) {
        let reference = flat(f.values(&format!("updated.{name}")));
        assert_close(name, &values(ours), &reference, tolerance());
    }
}
