//! What an optimizer step changes, and what it does not.

use burn::tensor::{Distribution, Tensor};
use sana_linear_attn::parity::{device, values};

use super::workers;
use crate::train::optimizer::{Optimizer, Parameters};
use crate::train::{OptimizerKind, OptimizerOptions};

#[test]
fn workers_share_all_items() {
    let workers = workers(3);
    assert_eq!(workers.share((0..3).collect(), |pool| pool), [0, 1, 2]);
    let doubled = workers.share((0..7).collect(), |item| 2 * item);
    assert_eq!(doubled, [0, 6, 12, 2, 8, 4, 10]);
}

#[test]
fn gradients_are_clipped_together() {
    let device = device();
    let tensor = |values: &[f32]| Tensor::<1>::from_floats(values, &device);
    let mut parameters =
        Parameters::new([("a", &[1], tensor(&[0.0])), ("b", &[1], tensor(&[0.0]))]);
    let options = OptimizerOptions {
        clip_norm: 1.0,
        ..OptimizerOptions::default()
    };
    let mut optimizer = Optimizer::new(options, &parameters);
    let norm = optimizer.step(
        &mut parameters.values,
        vec![Some(tensor(&[3.0])), Some(tensor(&[4.0]))],
        0.1,
        &workers(2),
    );
    let norm = norm.expect("finite gradients");
    assert_eq!(norm, 5.0);
    let (_, moment) = &optimizer.states[1].moments.tensors()[0];
    let moment = moment.iter::<f32>().next().expect("one value");
    assert!((moment - 0.1 * 0.8).abs() < 1e-6, "first moment {moment}");
}

/// The update of a hidden matrix is orthogonal and as large as the learning rate says, whatever
/// the gradient's size; the rest follows AdamW.
#[test]
fn muon_updates_matrices_alone() {
    let device = device();
    device.seed(5);
    let matrix = Tensor::<1>::random([32 * 48], Distribution::Normal(0.0, 1.0), &device);
    let zeros = |length: usize| Tensor::<1>::zeros([length], &device);
    let mut parameters = Parameters::new([
        ("layer.weight", &[32, 48], zeros(32 * 48)),
        ("layer.bias", &[32], zeros(32)),
    ]);
    let options = OptimizerOptions {
        kind: OptimizerKind::Muon,
        ..OptimizerOptions::default()
    };
    let mut optimizer = Optimizer::new(options, &parameters);
    let gradients = vec![Some(matrix), Some(zeros(32) + 7.0)];
    optimizer
        .step(&mut parameters.values, gradients, 0.01, &workers(3))
        .expect("finite gradients");
    let [matrix, bias] = parameters.values.try_into().expect("two");
    // AdamW's first step is the learning rate against the sign.
    for value in values(bias) {
        assert!((value + 0.01).abs() < 1e-6, "bias {value}");
    }
    // 32 singular values of about one over 32 x 48 entries, times 0.2 sqrt(48).
    let rms = matrix.square().mean().sqrt().into_scalar::<f32>();
    let expected = 0.01 * 0.2;
    assert!((0.8..1.15).contains(&(rms / expected)), "rms {rms}");
}
