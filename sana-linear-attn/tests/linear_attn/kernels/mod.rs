//! Every fast kernel against its plain form, values and gradients, on shapes that cut tiles,
//! lanes and chunks unevenly. Sums are taken in another order than in the plain form: 1e-5 of the
//! largest magnitude, gradients of weights (sums over a whole batch) 1e-4.

mod attention;
mod convolutions;
mod linear;
mod quantized;

use crate::attention_edges;

use burn::tensor::{DType, Device, Tensor, TensorData};
use sana_linear_attn::kernels::*;
use sana_linear_attn::parity::{assert_close, values};
use sana_linear_attn::precision::Bf16Gemm;

/// Values between -1 and 1 from a small congruential generator.
fn pseudo_random<const D: usize>(shape: [usize; D], seed: u64, device: &Device) -> Tensor<D> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect();
    Tensor::from_data(TensorData::new(values, shape), (device, DType::F32))
}

/// Compares two functions of an input and a weight: the values, and the gradients of a weighted
/// sum of them.
fn compare<const X: usize, const W: usize, const Y: usize>(
    name: &str,
    x: [usize; X],
    weight: [usize; W],
    fast: impl Fn(Tensor<X>, Tensor<W>) -> Tensor<Y>,
    plain: impl Fn(Tensor<X>, Tensor<W>) -> Tensor<Y>,
) {
    let run = |f: &dyn Fn(Tensor<X>, Tensor<W>) -> Tensor<Y>| {
        let device = Device::flex();
        let untracked = values(f(
            pseudo_random(x, 1, &device),
            pseudo_random(weight, 2, &device),
        ));
        let device = device.autodiff();
        let x = pseudo_random(x, 1, &device).require_grad();
        let weight = pseudo_random(weight, 2, &device).require_grad();
        let y = f(x.clone(), weight.clone());
        let seed = pseudo_random(y.dims(), 3, &device);
        let tracked = values(y.clone().inner());
        let grads = (y * seed).sum().backward();
        let gradient = |g: Option<Vec<f32>>| g.expect("a gradient reaches every input");
        let of_x = gradient(x.grad(&grads).map(values));
        let of_weight = gradient(weight.grad(&grads).map(values));
        (untracked, tracked, of_x, of_weight)
    };
    let (ours, plain) = (run(&fast), run(&plain));
    assert_close(&format!("{name}: values"), &ours.0, &plain.0, 1e-5);
    assert_close(&format!("{name}: tracked values"), &ours.1, &plain.0, 1e-5);
    assert_close(
        &format!("{name}: gradient of the input"),
        &ours.2,
        &plain.2,
        1e-5,
    );
    assert_close(
        &format!("{name}: gradient of the weight"),
        &ours.3,
        &plain.3,
        1e-4,
    );
}

type Linear = fn(Tensor<2>, Tensor<2>, Option<Tensor<1>>, Epilogue) -> Tensor<2>;

/// [`linear`] as layers call it by default.
fn native_linear(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    epilogue: Epilogue,
) -> Tensor<2> {
    linear(x, weight, bias, epilogue, Bf16Gemm::Native)
}

#[test]
fn rms_norm_equals_plain() {
    for axis in [0, 1, 2, 3] {
        let shape = [3, 37, 2, 13];
        compare(
            &format!("axis {axis}"),
            shape,
            [shape[axis]],
            |x, w| rms_norm_channels(x, w.clone(), Some(w), 1e-5, axis),
            |x, w| plain::rms_norm_channels(x, w.clone(), Some(w), 1e-5, axis),
        );
    }
    // With one channel and a small eps the gradient is the difference of two equal numbers; a
    // large eps leaves something to compare.
    compare(
        "one channel",
        [2, 1, 1],
        [1],
        |x, w| rms_norm_channels(x, w, None, 0.5, 2),
        |x, w| plain::rms_norm_channels(x, w, None, 0.5, 2),
    );
}

#[test]
fn silu_equals_plain() {
    for length in [1, 7, 20_000] {
        compare(
            &format!("silu of {length}"),
            [length],
            [1],
            |x, w| silu(x * 30.0) * w,
            |x, w| burn::tensor::activation::silu(x * 30.0) * w,
        );
    }
    for shape in [[1, 1, 2], [2, 3, 34]] {
        compare(
            &format!("gate of {shape:?}"),
            shape,
            [1],
            |x, w| silu_gate(x * 5.0) * w.unsqueeze(),
            |x, w| plain::silu_gate(x * 5.0) * w.unsqueeze(),
        );
    }
}

#[test]
fn silu_is_finite_at_the_ends_of_the_range() {
    let device = Device::flex();
    let ends = [-f32::MAX, -1e4, -88.0, -0.0, 0.0, 88.0, 1e4, f32::MAX];
    let out = values(silu(Tensor::<1>::from_data(
        TensorData::from(ends),
        &device,
    )));
    assert!(out.iter().all(|value| value.is_finite()), "{out:?}");
    assert_eq!(out[7], f32::MAX);
    assert!(out[1].abs() < 1e-30 && out[2].abs() < 1e-30, "{out:?}");
}

#[test]
fn modulation_equals_plain() {
    for [batch, tokens, channels] in [[1, 1, 1], [2, 5, 7], [3, 70, 33], [2, 19, 1152]] {
        let shape = format!("{batch}x{tokens}x{channels}");
        let parts = |w: &Tensor<3>| [0, 1].map(|part| w.clone().narrow(1, part, 1));
        let norm = |f: fn(Tensor<3>, Tensor<3>, Tensor<3>, f64) -> Tensor<3>| {
            move |x: Tensor<3>, w: Tensor<3>| {
                let [scale, shift] = parts(&w);
                // A large eps: of a single channel the variance is 0, and the rest is rounding.
                f(x * 3.0 + 5.0, scale, shift, 0.1)
            }
        };
        let (x, w) = ([batch, tokens, channels], [batch, 2, channels]);
        compare(
            &format!("norm of {shape}"),
            x,
            w,
            norm(norm_modulate),
            norm(plain::norm_modulate),
        );
        let residual = |f: fn(Tensor<3>, Tensor<3>, Tensor<3>) -> Tensor<3>| {
            move |x: Tensor<3>, w: Tensor<3>| f(x.clone(), parts(&w)[1].clone(), x * 2.0)
        };
        compare(
            &format!("residual of {shape}"),
            x,
            w,
            residual(gated_residual),
            residual(plain::gated_residual),
        );
    }
}

/// Sums in place leave tensors alone that something else still needs.
#[test]
fn shared_tensors_are_not_written() {
    let device = Device::flex();
    let random = |seed| pseudo_random([2, 5, 7], seed, &device);
    let (x, y) = (random(1), random(2));
    let gate = random(3).narrow(1, 0, 1);
    let sum = values(x.clone() + y.clone());
    let gated = values(plain::gated_residual(x.clone(), gate.clone(), y.clone()));
    assert!(values(add(x.clone(), y.clone())) == sum, "both shared");
    assert!(values(add(x.clone(), random(2))) == sum, "right one alone");
    assert!(values(add(random(1), y.clone())) == sum, "left one alone");
    let ours = gated_residual(x.clone(), gate.clone(), y.clone());
    assert_close("shared", &values(ours), &gated, 1e-6);
    let ours = gated_residual(x.clone(), gate, random(2));
    assert_close("alone", &values(ours), &gated, 1e-6);
    let doubled = values(x.clone() * 2.0);
    assert!(values(add(x.clone(), x.clone())) == doubled, "with itself");
    assert!(values(x) == values(random(1)) && values(y) == values(random(2)));
}

/// What the kernels do not compute is broadcast by the plain forms.
#[test]
fn other_shapes_are_broadcast() {
    let device = Device::flex();
    let random = |shape, seed| pseudo_random::<3>(shape, seed, &device);
    let (x, y) = (random([2, 5, 6], 1), random([2, 5, 6], 2));
    for shape in [[2, 5, 6], [1, 1, 6], [1, 5, 6], [2, 1, 1]] {
        let (scale, shift) = (random(shape, 3), random(shape, 4));
        let modulated = norm_modulate(x.clone(), scale.clone(), shift.clone(), 1e-6);
        let plain = plain::norm_modulate(x.clone(), scale.clone(), shift, 1e-6);
        assert_eq!(values(modulated), values(plain), "modulation of {shape:?}");
        let gated = gated_residual(x.clone(), scale.clone(), y.clone());
        let plain = plain::gated_residual(x.clone(), scale, y.clone());
        assert_eq!(values(gated), values(plain), "gate of {shape:?}");
    }
    let random = |shape, seed| pseudo_random::<2>(shape, seed, &device);
    let (x, weight) = (random([5, 6], 1), random([4, 6], 2));
    let bias = Some(Tensor::<1>::ones([1], &device));
    for stored in [DType::F32, DType::BF16] {
        let weight = weight.clone().cast(stored);
        let y = native_linear(x.clone(), weight.clone(), bias.clone(), Epilogue::None);
        let weight = weight.cast(DType::F32);
        let plain = plain::linear(x.clone(), weight, bias.clone(), Epilogue::None);
        assert_eq!(values(y), values(plain), "bias of all, {stored:?}");
    }
    let random = |shape, seed| pseudo_random::<4>(shape, seed, &device);
    let (q, kv) = (random([2, 3, 4, 2], 1), random([2, 3, 5, 2], 2));
    for shape in [[2, 3, 4, 5], [1, 1, 4, 5], [1, 1, 1, 5], [2, 3, 1, 1]] {
        let attend = |attention: fn(_, _, _, _, _, _) -> Tensor<3>| {
            let mask = Some(random(shape, 3));
            values(attention(
                q.clone(),
                kv.clone(),
                kv.clone(),
                mask,
                0.5,
                None,
            ))
        };
        let (out, plain) = (attend(softmax_attention), attend(plain::softmax_attention));
        assert_eq!(out, plain, "mask of {shape:?}");
    }
}

#[test]
fn gelu_gate_equals_plain() {
    for shape in [[1, 1, 5], [2, 3, 17], [1, 9, 4096]] {
        compare(
            &format!("{shape:?}"),
            shape,
            shape,
            |x, w| gelu_gate(x * 6.0, w),
            |x, w| plain::gelu_gate(x * 6.0, w),
        );
    }
}

#[test]
fn rms_norm_with_residual_equals_plain() {
    for axis in [1, 3] {
        for shape in [[1, 1, 1, 1], [2, 5, 3, 7], [1, 70, 40, 33], [2, 3, 1, 2000]] {
            compare(
                &format!("{shape:?} along {axis}"),
                shape,
                [shape[axis]],
                |x, w| rms_norm_residual(x.clone(), w.clone(), Some(w), x * 2.0, 0.3, axis),
                |x, w| plain::rms_norm_channels(x.clone(), w.clone(), Some(w), 0.3, axis) + x * 2.0,
            );
        }
    }
}

#[test]
fn layouts_equal_plain() {
    for shape in [[1, 1, 1, 1], [2, 3, 4, 5], [1, 33, 7, 10], [2, 70, 9, 9]] {
        let [batch, channels, height, width] = shape;
        compare(
            &format!("tokens of {shape:?}"),
            shape,
            [1],
            |x, w| image_to_tokens(x) * w.unsqueeze(),
            |x, w| {
                x.permute([0, 2, 3, 1])
                    .reshape([batch, height * width, channels])
                    * w.unsqueeze()
            },
        );
        compare(
            &format!("image of the tokens of {shape:?}"),
            shape,
            [1],
            |x, w| tokens_to_image(image_to_tokens(x), [height, width]) * w.unsqueeze(),
            |x, w| x * w.unsqueeze(),
        );
        compare(
            &format!("{shape:?} doubled"),
            shape,
            [1],
            |x, w| nearest_upsample(x) * w.unsqueeze(),
            |x, w| plain::nearest_upsample(x) * w.unsqueeze(),
        );
        compare(&format!("sum of {shape:?}"), shape, shape, add, |x, y| {
            x + y
        });
    }
}

/// An image is the same alone and in a batch, bit for bit: no kernel lets the batch decide how a
/// sum is cut.
#[test]
fn items_of_a_batch_are_those_made_alone() {
    fn check<const X: usize, const Y: usize>(
        name: &str,
        x: [usize; X],
        f: impl Fn(Tensor<X>) -> Tensor<Y>,
    ) {
        let x = pseudo_random(x, 7, &Device::flex());
        let together = f(x.clone());
        for item in 0..x.dims()[0] {
            let alone = values(f(x.clone().narrow(0, item, 1)));
            let of_batch = values(together.clone().narrow(0, item, 1));
            assert!(alone == of_batch, "{name}: item {item} differs");
        }
    }
    let device = Device::flex();
    let random = |shape, seed| pseudo_random::<4>(shape, seed, &device);
    for [batch, height, width] in [[3, 2, 3], [3, 8, 12], [5, 33, 7]] {
        let tokens = height * width;
        let name = |kernel: &str| format!("{kernel}, {batch}x{height}x{width}");
        for channels in [16, 48] {
            let weight = random([24, channels, 3, 3], 1);
            check(
                &name("convolution"),
                [batch, channels, height, width],
                |x| conv3x3_fused(x, weight.clone(), None, 1, Epilogue::Silu),
            );
        }
        check(&name("linear attention"), [batch, tokens, 40], |x| {
            relu_linear_attention(x.clone(), x.clone() * -1.0, x, 8)
        });
        check(&name("packed attention"), [batch, tokens, 48], |x| {
            relu_linear_attention_packed(x, 8)
        });
        let weight = random([48, 4, 1, 1], 5).reshape([48, 4]);
        check(&name("grouped"), [batch, tokens, 48], |x| {
            grouped_linear(x, weight.clone())
        });
        check(&name("softmax attention"), [batch, 4, tokens, 8], |x| {
            softmax_attention(x.clone(), x.clone(), x, None, 0.3, None)
        });
        let [taps, bias] = [[40, 1, 3, 3], [40, 1, 1, 1]].map(|shape| random(shape, 2));
        check(&name("gate"), [batch, tokens, 40], |x| {
            depthwise_gate(x, taps.clone(), bias.clone().reshape([40]), [height, width])
        });
        for (depth, columns) in [(48, 40), (40, 120), (24, 48)] {
            let weight = random([columns, depth, 1, 1], 3).reshape([columns, depth]);
            let bias = random([columns, 1, 1, 1], 4).reshape([columns]);
            for bias in [None, Some(bias)] {
                check(&name("linear"), [batch, tokens, depth], |x| {
                    let rows = x.dims()[0] * tokens;
                    let x = x.reshape([rows, depth]);
                    let y = native_linear(x, weight.clone(), bias.clone(), Epilogue::Silu);
                    y.reshape([rows / tokens, tokens, columns])
                });
            }
        }
    }
}
