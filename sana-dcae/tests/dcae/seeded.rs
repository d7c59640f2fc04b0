//! Weights that are drawn from a seed.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use sana_dcae::{DcAe, DcAeConfig, NormType, PerStage};
use sana_linear_attn::parity::{device, values};

use crate::{tiny_config, waves};

#[derive(Default)]
struct Weights {
    path: Vec<String>,
    all: Vec<(String, Vec<usize>, Vec<f32>)>,
}

impl ModuleVisitor for Weights {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        self.all
            .push((self.path.join("."), value.dims().to_vec(), values(value)));
    }
}

fn weights(model: &DcAe) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let mut weights = Weights::default();
    model.visit(&mut weights);
    weights.all
}

/// The tiny config with a stage of batch norms, so that every kind of norm is there.
fn config() -> DcAeConfig {
    use NormType::{BatchNorm, RmsNorm};
    DcAeConfig {
        decoder_norm_types: PerStage::Each(vec![BatchNorm, RmsNorm, RmsNorm]),
        ..tiny_config()
    }
}

#[test]
fn equal_seeds_give_equal_models() {
    let device = device();
    let model = config().init_seeded(5, &device);
    let again = config().init_seeded(5, &device);
    // The parameters of the second are drawn in another order.
    again
        .decode(waves([1, 4, 2, 2], &device))
        .expect("valid latents");
    assert_eq!(weights(&model), weights(&again));
    assert_ne!(weights(&model), weights(&config().init_seeded(6, &device)));
}

#[test]
fn weights_are_distributed_as_those_of_init() {
    let device = device();
    let [seeded, plain] =
        [config().init_seeded(1, &device), config().init(&device)].map(|model| weights(&model));
    assert_eq!(seeded.len(), plain.len());
    let mut fan_in = 0;
    let mut distinct = Vec::new();
    for ((name, shape, ours), (plain_name, plain_shape, theirs)) in seeded.iter().zip(&plain) {
        assert_eq!((name, shape), (plain_name, plain_shape));
        if shape.len() > 1 {
            fan_in = shape[1..].iter().product();
        }
        if theirs.iter().all(|value| value == &theirs[0]) {
            assert_eq!(ours, theirs, "{name} is a constant");
            continue;
        }
        assert_ne!(ours, theirs, "{name}");
        distinct.push(ours[0]);
        let bound = 1.0 / (fan_in as f32).sqrt();
        let largest = ours.iter().fold(0f32, |most, value| most.max(value.abs()));
        assert!(largest <= bound, "{name}: {largest} > {bound}");
        if ours.len() > 500 {
            let square = ours.iter().map(|v| v * v).sum::<f32>() / ours.len() as f32;
            let deviation = square.sqrt() / (bound / 3f32.sqrt());
            assert!((deviation - 1.0).abs() < 0.1, "{name}: {deviation}");
        }
    }
    distinct.sort_by(f32::total_cmp);
    distinct.dedup();
    assert!(
        distinct.len() > 50,
        "each parameter has a stream of its own"
    );
}

#[test]
fn seeded_models_train() {
    let device = device().autodiff();
    let model = config().init_seeded(2, &device);
    let image = model
        .decode(waves([1, 4, 2, 2], &device))
        .expect("valid latents");
    let gradients = image.powi_scalar(2).mean().backward();
    let gradient = model.decoder.conv_in.weight.val().grad(&gradients);
    assert!(gradient.is_some());
}
