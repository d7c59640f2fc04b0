//! The noise never changes silently, and does not depend on the batch.

use burn::tensor::{Device, Tensor};
use sana_sampler::noise::{
    Stream, batch, latents, standard_normal, standard_normal_of, step_noise,
};

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

#[test]
fn image_i_of_a_batch_equals_the_image_made_alone() {
    let device = Device::flex();
    let (seed, shape) = (42, [3, 4, 5]);
    let together = latents(seed, 0, [6, 3, 4, 5], &device);
    for image in 0..6 {
        let alone = latents(seed, image as u64, [1, 3, 4, 5], &device);
        let in_batch = together.clone().narrow(0, image, 1);
        assert_eq!(numbers(alone.clone()), numbers(in_batch));
        assert_eq!(numbers(alone), standard_normal(seed, image as u64, &shape));
    }
    let second_half = latents(seed, 3, [3, 3, 4, 5], &device);
    assert_eq!(numbers(second_half), numbers(together.narrow(0, 3, 3)));
}

#[test]
fn step_noise_is_the_images_own() {
    let device = Device::flex();
    let together = step_noise(9, 0, 2, [3, 2, 7], &device);
    let alone = step_noise(9, 2, 2, [1, 2, 7], &device);
    assert_eq!(numbers(alone), numbers(together.clone().narrow(0, 2, 1)));
    assert_eq!(
        numbers(together),
        numbers(batch(9, 0, Stream::Step(2), [3, 2, 7], &device))
    );
}

#[test]
fn seeds_images_and_streams_differ() {
    let draws = [
        standard_normal(0, 0, &[8]),
        standard_normal(1, 0, &[8]),
        standard_normal(0, 1, &[8]),
        standard_normal_of(0, 0, Stream::Step(0), &[8]),
        standard_normal_of(0, 0, Stream::Step(1), &[8]),
        standard_normal_of(0, 0, Stream::Other(0), &[8]),
    ];
    for (i, a) in draws.iter().enumerate() {
        for b in &draws[i + 1..] {
            assert_ne!(a, b);
        }
    }
}

#[test]
fn a_shorter_draw_is_the_beginning_of_a_longer_one() {
    let long = standard_normal(5, 3, &[4, 25]);
    assert_eq!(standard_normal(5, 3, &[7]), long[..7]);
    assert_eq!(standard_normal(5, 3, &[]), long[..1]);
    assert!(standard_normal(5, 3, &[0, 4]).is_empty());
}

/// Moments of 100,000 numbers within five standard errors, and no correlation between neighbours.
#[test]
fn the_numbers_are_unit_normal() {
    let values: Vec<f64> = standard_normal(11, 0, &[100_000])
        .into_iter()
        .map(f64::from)
        .collect();
    let n = values.len() as f64;
    let moment = |power: i32| values.iter().map(|v| v.powi(power)).sum::<f64>() / n;
    let bound = |variance: f64| 5.0 * (variance / n).sqrt();
    assert!(moment(1).abs() < bound(1.0));
    assert!((moment(2) - 1.0).abs() < bound(2.0));
    assert!(moment(3).abs() < bound(15.0));
    assert!((moment(4) - 3.0).abs() < bound(96.0));
    let neighbours = values.windows(2).map(|v| v[0] * v[1]).sum::<f64>() / n;
    assert!(neighbours.abs() < bound(1.0));
}

/// The numbers of an implementation of the module's description that shares no code with it: a
/// change here changes every image ever made with a seed. The bound leaves the last bit to the
/// platform's logarithm and sine.
#[test]
fn the_stream_is_pinned() {
    let cases: [(u64, u64, Stream, [f64; 6], f64); 3] = [
        (
            0,
            0,
            Stream::Initial,
            [
                -0.404561609,
                -0.438616067,
                1.26288986,
                1.15046227,
                1.34251606,
                0.962246418,
            ],
            -1.11059201,
        ),
        (
            42,
            3,
            Stream::Initial,
            [
                -0.909082532,
                0.634813011,
                0.0210797153,
                -0.542270839,
                1.40513504,
                -0.381035149,
            ],
            1.08786404,
        ),
        (
            u64::MAX,
            u64::MAX,
            Stream::Step(1),
            [
                -1.23511195,
                -0.0697502494,
                -0.921135366,
                -1.08880043,
                1.00899315,
                -1.35940504,
            ],
            -0.189735845,
        ),
    ];
    for (seed, image, stream, first, eightieth) in cases {
        let ours = standard_normal_of(seed, image, stream, &[80]);
        for (&ours, pinned) in ours.iter().zip(first).chain([(&ours[79], eightieth)]) {
            let difference = (f64::from(ours) - pinned).abs();
            assert!(difference <= 2e-7 * pinned.abs(), "{ours} {pinned}");
        }
    }
}
