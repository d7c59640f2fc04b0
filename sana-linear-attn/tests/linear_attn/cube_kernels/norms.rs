//! RMS norm.

use super::*;

#[test]
#[ignore = "compares with the device that SANA_TEST_DEVICE names"]
fn rms_norm_equals_plain() {
    for shape in [
        [1, 1, 1, 1],
        [2, 5, 3, 7],
        [3, 36, 2, 12],
        [1, 70, 9, 33],
        [2, 3, 1, 2000],
    ] {
        for axis in [0, 1, 2, 3] {
            let name = format!("{shape:?} along {axis}");
            let weights = |source: &Source| [2, 3].map(|seed| source.tensor([shape[axis]], seed));
            for biased in [false, true] {
                check(
                    &format!("{name}, biased {biased}"),
                    |source| {
                        let [weight, bias] = weights(source);
                        let bias = biased.then_some(bias);
                        rms_norm_channels(source.tensor(shape, 1), weight, bias, 0.3, axis)
                    },
                    |source| {
                        let [weight, bias] = weights(source);
                        let bias = biased.then_some(bias);
                        plain::rms_norm_channels(source.tensor(shape, 1), weight, bias, 0.3, axis)
                    },
                );
            }
            check(
                &format!("{name}, added"),
                |source| {
                    let [weight, bias] = weights(source);
                    let (x, y) = (source.tensor(shape, 1), source.tensor(shape, 4));
                    rms_norm_residual(x, weight, Some(bias), y, 0.3, axis)
                },
                |source| {
                    let [weight, bias] = weights(source);
                    let (x, y) = (source.tensor(shape, 1), source.tensor(shape, 4));
                    plain::rms_norm_channels(x, weight, Some(bias), 0.3, axis) + y
                },
            );
        }
    }
}

/// Images with channels innermost in memory, as convolutions leave them, normed with a residual of
/// the same layout, of another, and at other ranks.
#[test]
#[ignore = "compares with the device that SANA_TEST_DEVICE names"]
fn rms_norm_takes_strided_input() {
    type Norm = fn(Tensor<4>, Tensor<1>, Option<Tensor<1>>, Tensor<4>, f64, usize) -> Tensor<4>;
    let plain: Norm = |x, weight, bias, residual, eps, axis| {
        plain::rms_norm_channels(x, weight, bias, eps, axis) + residual
    };
    for same_layout in [true, false] {
        let image = |norm: Norm| {
            move |source: &Source| {
                let x = source.tensor([2, 3, 5, 12], 1).permute([0, 3, 1, 2]);
                let residual = match same_layout {
                    true => source.tensor([2, 3, 5, 12], 2).permute([0, 3, 1, 2]),
                    false => source.tensor([2, 12, 3, 5], 2),
                };
                let [weight, bias] = [3, 4].map(|seed| source.tensor([12], seed));
                norm(x, weight, Some(bias), residual, 1e-3, 1)
            }
        };
        check(
            &format!("channels last, residual in the same layout {same_layout}"),
            image(rms_norm_residual),
            image(plain),
        );
    }
    let rows = |norm: fn(Tensor<2>, Tensor<1>, Option<Tensor<1>>, f64, usize) -> Tensor<2>| {
        move |source: &Source| {
            let x = source.tensor([16, 11], 1).transpose();
            norm(x, source.tensor([16], 2), None, 1e-3, 1)
        }
    };
    check(
        "transposed rows",
        rows(rms_norm_channels),
        rows(plain::rms_norm_channels),
    );
    let deep = |norm: fn(Tensor<5>, Tensor<1>, Option<Tensor<1>>, f64, usize) -> Tensor<5>| {
        move |source: &Source| {
            let x = source.tensor([2, 3, 2, 3, 8], 1);
            norm(x, source.tensor([8], 2), None, 1e-3, 4)
        }
    };
    check(
        "five axes",
        deep(rms_norm_channels),
        deep(plain::rms_norm_channels),
    );
}
