//! Seeded weights and gradients.

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use sana_linear_attn::parity::{assert_close, device, tolerance};
use sana_text::{Gemma2Config, Gemma2Model, TextError};

use super::{kept, values};

fn tiny() -> Gemma2Config {
    Gemma2Config {
        vocab_size: 11,
        hidden_size: 6,
        intermediate_size: 10,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 4,
        query_pre_attn_scalar: 4,
        sliding_window: Some(2),
        initializer_range: 0.4,
        attn_logit_softcapping: Some(2.0),
        ..Gemma2Config::gemma_2_2b()
    }
}

#[test]
fn seeded_models_are_equal() {
    let states = |seed| {
        let model = tiny().init_seeded(seed, &device()).unwrap();
        values(
            model
                .forward_ids(&[[2u32, 5, 7]], Tensor::ones([1, 3], &device()))
                .unwrap(),
        )
    };
    assert_eq!(states(1), states(1));
    assert_ne!(states(1), states(2));
    let refused = Gemma2Config {
        head_dim: 3,
        ..tiny()
    }
    .init_seeded(0, &device());
    assert!(matches!(refused.unwrap_err(), TextError::Config { .. }));
}

/// Sum of the last state's elements times fixed numbers, so that all of them count differently.
fn loss(model: &Gemma2Model, device: &Device) -> Tensor<1> {
    let ids = [[2u32, 5, 7, 5], [2, 9, 0, 0]];
    let mask = Tensor::<2>::from_data([[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 0.0, 0.0]], device);
    let last = kept(model.forward_ids(&ids, mask.clone()).unwrap(), &mask);
    let shape = last.dims();
    let weights: Vec<f32> = (0..shape.iter().product())
        .map(|i| (i as f32 * 0.9).sin())
        .collect();
    (last * Tensor::from_data(TensorData::new(weights, shape), device)).sum()
}

/// Gradients against central differences: for a step of 5e-3 in f32 both the rounding and the
/// third-order term stay below 1 % of the largest gradient.
#[test]
fn gradients_equal_differences() {
    let plain = device();
    let device = device().autodiff();
    let model = tiny().init_seeded(4, &device).unwrap();
    let gradients = loss(&model, &device).backward();

    type Pick = fn(&mut Gemma2Model) -> &mut Param<Tensor<2>>;
    let picks: [(&str, Pick); 6] = [
        ("embed_tokens", |m| {
            &mut m.embed_tokens.as_mut().unwrap().weight
        }),
        ("q_proj", |m| &mut m.layers[0].self_attn.q_proj.weight),
        ("k_proj", |m| &mut m.layers[1].self_attn.k_proj.weight),
        ("v_proj", |m| &mut m.layers[0].self_attn.v_proj.weight),
        ("gate_proj", |m| &mut m.layers[1].mlp.gate_proj.weight),
        ("down_proj", |m| &mut m.layers[0].mlp.down_proj.weight),
    ];
    for (name, pick) in picks {
        let weight = pick(&mut model.clone()).val();
        let gradient = weight
            .grad(&gradients)
            .unwrap_or_else(|| panic!("no gradient of {name}"));
        let gradient: Vec<f32> = gradient.into_data().try_into_vec().unwrap();
        let base = weight.into_data();
        let difference: Vec<f32> = (0..gradient.len())
            .map(|index| {
                let at = |step: f32| {
                    let mut moved = tiny().init_seeded(4, &plain).unwrap();
                    let mut values = base.clone().try_into_vec::<f32>().unwrap();
                    values[index] += step;
                    let data = TensorData::new(values, base.shape().clone());
                    *pick(&mut moved) = Param::from_tensor(Tensor::from_data(data, &plain));
                    f64::from(loss(&moved, &plain).into_scalar::<f32>())
                };
                ((at(5e-3) - at(-5e-3)) / 1e-2) as f32
            })
            .collect();
        assert!(
            gradient.iter().any(|value| value.abs() > 1e-3),
            "{name} has no gradient"
        );
        assert_close(name, &gradient, &difference, 100.0 * tolerance());
    }
    let norm = model.norm.weight.val().grad(&gradients);
    assert!(norm.is_some(), "no gradient of the norm");
}
