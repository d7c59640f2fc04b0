//! Dtypes, saving and training of layers with low-rank terms.

use super::*;

fn saved(model: &SanaTransformer) -> Weights {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("saved.safetensors");
    save_module(model, &path, &SaveOptions::default()).unwrap();
    Weights::from_bytes("saved", std::fs::read(&path).unwrap()).unwrap()
}

/// Merged weights are the sum in f32, rounded once, also of two LoRAs.
#[test]
fn bf16_weights_stay_bf16() {
    let (one, two) = (factors(1.0), factors(2.0));
    let base = load(&weights(), Some(DType::BF16));
    let before = tensors_of(&saved(&base));
    let ours = base.with_loras(&[
        scaled(lora(&one), 0.7, LoraMode::Merged),
        scaled(lora(&two), -0.4, LoraMode::Merged),
    ]);
    let ours = ours.unwrap();
    let saved = saved(&ours);
    assert_eq!(saved.dtypes().keys().collect::<Vec<_>>(), ["bf16"]);
    let after = tensors_of(&saved);
    let (one, two) = (deltas(&one, 0.7), deltas(&two, -0.4));
    for (name, (_, after)) in &after {
        let (_, before) = &before[name];
        let Some(delta) = one.get(name) else {
            assert_eq!(after, before, "{name}");
            continue;
        };
        let deltas = delta.iter().zip(&two[name]).map(|(one, two)| one + two);
        for ((after, before), delta) in after.iter().zip(before).zip(deltas) {
            let exact = f64::from(*before) + delta;
            // Half a unit in the last of bf16's 8 places, and f32's rounding.
            let allowed = exact.abs() / 256.0 + 1e-6;
            let difference = (f64::from(*after) - exact).abs();
            assert!(difference <= allowed, "{name}: {after}, exact {exact}");
        }
    }
}

#[test]
fn bf16_apart_runs_in_bf16() {
    let base = load(&weights(), Some(DType::BF16)).with_compute_dtype(DType::BF16);
    let plain = output(&base);
    let ours = base.with_loras(&[scaled(lora(&factors(1.0)), 1.0, LoraMode::Unmerged)]);
    let ours = output(&ours.unwrap());
    assert!(ours.iter().all(|value| value.is_finite()));
    assert_ne!(ours, plain);
}

/// Unmerged terms are not parameters: saving writes the base, and nothing else is expected.
#[test]
fn apart_terms_are_not_saved() {
    let plain = model();
    let ours = with(&[scaled(lora(&factors(1.0)), 1.0, LoraMode::Unmerged)]);
    let shapes = |model: &SanaTransformer| parameter_shapes(model, KeyMap::default());
    assert_eq!(shapes(&ours), shapes(&plain));
    assert_eq!(ours.num_params(), plain.num_params());
    assert_eq!(tensors_of(&saved(&ours)), tensors_of(&saved(&plain)));
}

/// The weight trains next to a term, whose part of the input's gradient is there.
#[test]
fn layers_train_next_to_their_terms() {
    let device = Device::flex().autodiff();
    let matrix = |rows, columns, seed| {
        Tensor::<2>::from_data(tensor(&[rows, columns], seed), (&device, DType::F32))
    };
    let mut layer = TorchLinear::new(4, 2, true, &device);
    let _ = layer.forward(matrix(1, 4, 0.0)); // draws the weights, so that both layers have the same
    let plain = layer.clone();
    let term = LowRank {
        down: matrix(3, 4, 1.0),
        up: matrix(2, 3, 2.0),
    };
    layer.low_rank.push(term.clone());
    let gradients = |layer: &TorchLinear| {
        let x = matrix(5, 4, 3.0).require_grad();
        let gradients = layer.forward(x.clone()).sum().backward();
        let weight = layer.weight.val().grad(&gradients).unwrap();
        (values(weight), values(x.grad(&gradients).unwrap()))
    };
    let (weight, input) = gradients(&layer);
    let (plain_weight, plain_input) = gradients(&plain);
    assert_eq!(weight, plain_weight);
    let change = values(term.up.matmul(term.down).sum_dim(0)); // [1, in]
    for (index, (ours, plain)) in input.iter().zip(&plain_input).enumerate() {
        let difference = (ours - plain - change[index % 4]).abs();
        assert!(difference < 1e-5, "{index}: {difference}");
    }

    let inference = layer.valid();
    let x = matrix(5, 4, 3.0).without_autodiff();
    let ours = values(inference.forward(x.clone()));
    assert_ne!(ours, values(plain.valid().forward(x)));
}

#[test]
fn a_pointwise_convolution_on_images_has_its_terms_too() {
    let device = device();
    let mut layer = PointwiseConv::new(4, 2, true, &device);
    let matrix = |rows, columns, seed| {
        Tensor::<2>::from_data(tensor(&[rows, columns], seed), (&device, DType::F32))
    };
    let (down, up) = (matrix(3, 4, 1.0), matrix(2, 3, 2.0));
    let data = tensor(&[2, 4, 3, 5], 4.0);
    let image = Tensor::<4>::from_data(data, (&device, DType::F32));
    let plain = layer.forward_image(image.clone());
    let product = up.clone().matmul(down.clone()); // [out, in]
    let tokens = image.clone().reshape([2, 4, 15]);
    let change = product.unsqueeze::<3>().repeat_dim(0, 2).matmul(tokens);
    let expected = plain + change.reshape([2, 2, 3, 5]);
    layer.low_rank.push(LowRank { down, up });
    let ours = values(layer.forward_image(image));
    assert_close("image", &ours, &values(expected), tolerance());
}
