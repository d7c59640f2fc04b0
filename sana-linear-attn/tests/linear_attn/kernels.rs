//! Every fast kernel against its plain form, values and gradients, on shapes that cut tiles,
//! lanes and chunks unevenly. Sums are taken in another order than in the plain form: 1e-5 of the
//! largest magnitude, gradients of weights (sums over a whole batch) 1e-4.

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

#[test]
fn conv3x3_equals_plain() {
    for stride in [1, 2] {
        for [batch, input, output, height, width] in [
            [1, 1, 1, 1, 1],
            [2, 3, 5, 1, 4],
            [3, 4, 7, 5, 1],
            [2, 6, 3, 9, 11],
            [1, 40, 17, 30, 23],
            [2, 160, 33, 24, 20],
        ] {
            compare(
                &format!("stride {stride}, {batch}x{input}->{output} {height}x{width}"),
                [batch, input, height, width],
                [output, input, 3, 3],
                |x, w| conv3x3(x, w, stride),
                |x, w| plain::conv3x3(x, w, stride),
            );
        }
    }
}

#[test]
fn conv3x3_takes_strided_input() {
    let fast = |x: Tensor<4>, w: Tensor<4>| conv3x3(x.permute([0, 3, 1, 2]), w, 1);
    let plain = |x: Tensor<4>, w: Tensor<4>| plain::conv3x3(x.permute([0, 3, 1, 2]), w, 1);
    compare("channels last", [2, 6, 5, 4], [3, 4, 3, 3], fast, plain);
    let fast = |x: Tensor<4>, w: Tensor<4>| conv3x3(x.narrow(1, 2, 3), w, 1);
    let plain = |x: Tensor<4>, w: Tensor<4>| plain::conv3x3(x.narrow(1, 2, 3), w, 1);
    compare("narrowed", [2, 6, 5, 4], [3, 3, 3, 3], fast, plain);
}

#[test]
fn depthwise_equals_plain() {
    for kernel in [1, 3, 5] {
        for [batch, height, width, channels] in
            [[1, 1, 1, 1], [2, 3, 4, 5], [3, 4, 4, 300], [1, 7, 2, 33]]
        {
            compare(
                &format!("kernel {kernel}, {batch}x{height}x{width}x{channels}"),
                [batch, height * width, channels],
                [channels, 1, kernel, kernel],
                |x, w| depthwise_tokens(x, w, [height, width]),
                |x, w| plain::depthwise_tokens(x, w, [height, width]),
            );
        }
    }
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
fn linear_attention_equals_quadratic() {
    for [batch, tokens, heads, head_dim] in [[1, 1, 1, 1], [2, 15, 4, 8], [1, 130, 3, 32]] {
        let shape = [batch, tokens, heads * head_dim];
        compare(
            &format!("{shape:?}"),
            shape,
            shape,
            |x, w| relu_linear_attention(x.clone() * 2.0, w.clone() + 0.5, x + w, head_dim),
            |x, w| relu_quadratic_attention(x.clone() * 2.0, w.clone() + 0.5, x + w, head_dim),
        );
    }
}

#[test]
fn linear_attention_takes_strided_input() {
    let [batch, tokens, channels] = [2, 270, 12];
    let parts = |x: Tensor<3>| [0, 1, 2].map(|part| x.clone().narrow(2, part * channels, channels));
    let attend = |f: fn(Tensor<3>, Tensor<3>, Tensor<3>, usize) -> Tensor<3>| {
        move |x: Tensor<3>, w: Tensor<1>| {
            let [query, key, value] = parts(x);
            f(query, key, value, 4) * w.unsqueeze()
        }
    };
    compare(
        "thirds of a projection",
        [batch, tokens, 3 * channels],
        [1],
        attend(relu_linear_attention),
        attend(plain::relu_linear_attention),
    );
    let attend = |f: fn(Tensor<3>, usize) -> Tensor<3>| {
        move |x: Tensor<3>, w: Tensor<1>| f(x.swap_dims(1, 2), 7) * w.unsqueeze()
    };
    compare(
        "heads side by side, transposed",
        [batch, 42, tokens],
        [1],
        attend(relu_linear_attention_packed),
        attend(plain::relu_linear_attention_packed),
    );
}

#[test]
fn packed_attention_is_that_of_its_parts() {
    let device = Device::flex();
    let [batch, tokens, heads, head_dim] = [2, 19, 3, 5];
    let qkv = pseudo_random([batch, tokens, heads * 3 * head_dim], 4, &device);
    let part = |part: usize| {
        qkv.clone()
            .reshape([batch, tokens, heads, 3, head_dim])
            .narrow(3, part, 1)
            .reshape([batch, tokens, heads * head_dim])
    };
    let expected = values(relu_quadratic_attention(
        part(0),
        part(1),
        part(2),
        head_dim,
    ));
    for (name, packed) in [
        (
            "linear",
            relu_linear_attention_packed(qkv.clone(), head_dim),
        ),
        (
            "map",
            relu_quadratic_attention_packed(qkv.clone(), head_dim),
        ),
    ] {
        assert_close(name, &values(packed), &expected, 1e-5);
    }
}

#[test]
fn nan_is_not_rectified() {
    attention_edges::nan_is_not_rectified(&Device::flex());
}

#[test]
fn tokens_without_a_key_give_zero() {
    attention_edges::tokens_without_a_key_give_zero([1, 6, 4], 2, &Device::flex());
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
fn linear_equals_plain() {
    for [rows, depth, columns] in [[1, 1, 1], [3, 7, 5], [130, 33, 70], [65, 300, 400]] {
        for epilogue in [Epilogue::None, Epilogue::Silu] {
            let layer = |f: Linear| {
                move |x: Tensor<2>, w: Tensor<2>| {
                    let bias = w.clone().narrow(1, 0, 1).reshape([columns]);
                    f(x.clone(), w.clone(), None, epilogue) + f(x, w, Some(bias), epilogue)
                }
            };
            compare(
                &format!("{rows}x{depth}->{columns}, {epilogue:?}"),
                [rows, depth],
                [columns, depth],
                layer(native_linear),
                layer(plain::linear),
            );
        }
    }
}

#[test]
fn grouped_linear_equals_plain() {
    for [batch, tokens, groups, size] in [[1, 1, 1, 1], [2, 5, 3, 4], [2, 130, 6, 32]] {
        compare(
            &format!("{groups} groups of {size}, {batch}x{tokens}"),
            [batch, tokens, groups * size],
            [groups * size, size],
            grouped_linear,
            plain::grouped_linear,
        );
    }
}

#[test]
fn linear_takes_strided_input() {
    let layer = |f: Linear| {
        move |x: Tensor<2>, w: Tensor<2>| {
            let bias = w.clone().narrow(0, 0, 1).reshape([6]);
            f(x.transpose(), w.transpose(), Some(bias), Epilogue::None)
        }
    };
    compare(
        "transposed",
        [5, 4],
        [5, 6],
        layer(native_linear),
        layer(plain::linear),
    );
}

#[test]
fn depthwise_gate_equals_plain() {
    let plain = |x: Tensor<3>, w: Tensor<4>, bias: Tensor<1>, grid| {
        plain::silu_gate(plain::depthwise_tokens(x, w, grid) + bias.unsqueeze::<3>())
    };
    for kernel in [1, 3, 5] {
        for [batch, height, width, channels] in
            [[1, 1, 1, 2], [2, 3, 4, 10], [3, 4, 4, 600], [1, 7, 2, 66]]
        {
            let bias = |w: &Tensor<4>| {
                w.clone()
                    .narrow(2, 0, 1)
                    .narrow(3, 0, 1)
                    .reshape([channels])
            };
            compare(
                &format!("kernel {kernel}, {batch}x{height}x{width}x{channels}"),
                [batch, height * width, channels],
                [channels, 1, kernel, kernel],
                |x, w| depthwise_gate(x, w.clone(), bias(&w), [height, width]),
                |x, w| plain(x, w.clone(), bias(&w), [height, width]),
            );
        }
    }
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

/// Winograd's transforms multiply by up to 8 and divide by up to 24: a few units in the sixth
/// decimal of the largest output where a plain sum has one in the seventh.
#[test]
fn winograd_equals_plain() {
    let device = Device::flex();
    for [batch, input, output, height, width] in [
        [1, 16, 16, 1, 1],
        [2, 17, 19, 3, 5],
        [1, 32, 16, 4, 4],
        [2, 20, 33, 9, 70],
        [1, 130, 24, 67, 31],
        [1, 64, 96, 40, 8],
    ] {
        let x = pseudo_random([batch, input, height, width], 1, &device);
        let weight = pseudo_random([output, input, 3, 3], 2, &device);
        let bias = pseudo_random([output], 3, &device);
        for (bias, epilogue) in [
            (None, Epilogue::None),
            (Some(bias.clone()), Epilogue::None),
            (Some(bias.clone()), Epilogue::Silu),
        ] {
            let plain = plain::conv3x3(x.clone(), weight.clone(), 1);
            let plain = match &bias {
                Some(bias) => plain + bias.clone().reshape([1, output, 1, 1]),
                None => plain,
            };
            let plain = match epilogue {
                Epilogue::None => plain,
                Epilogue::Silu => burn::tensor::activation::silu(plain),
            };
            let ours = conv3x3_fused(x.clone(), weight.clone(), bias, 1, epilogue);
            let name = format!("{batch}x{input}->{output} {height}x{width}, {epilogue:?}");
            assert_close(&name, &values(ours), &values(plain), 1e-5);
        }
    }
}

#[test]
fn convolution_of_doubled_pixels_equals_plain() {
    let device = Device::flex();
    for [batch, input, output, height, width] in [
        [1, 16, 16, 1, 1],
        [2, 17, 19, 3, 5],
        [1, 20, 33, 9, 35],
        [1, 32, 16, 6, 64],
        [2, 3, 5, 4, 6], // too few channels for Winograd's kernel
    ] {
        let x = pseudo_random([batch, input, height, width], 1, &device);
        let weight = pseudo_random([output, input, 3, 3], 2, &device);
        let bias = pseudo_random([output], 3, &device);
        let plain = plain::conv3x3(plain::nearest_upsample(x.clone()), weight.clone(), 1);
        for bias in [None, Some(bias)] {
            let plain = match &bias {
                Some(bias) => plain.clone() + bias.clone().reshape([1, output, 1, 1]),
                None => plain.clone(),
            };
            let name = format!("{batch}x{input}->{output} {height}x{width}");
            let ours = conv3x3_upsampled(x.clone(), weight.clone(), bias);
            assert_close(&name, &values(ours), &values(plain), 1e-5);
        }
    }
}

#[test]
fn upsampled_shortcut_equals_plain() {
    let device = Device::flex();
    for (inputs, repeats, height, width) in
        [(3, 4, 1, 1), (4, 2, 5, 7), (8, 1, 3, 40), (2, 8, 4, 9)]
    {
        let x = pseudo_random([2, inputs, height, width], 1, &device);
        let shape = [2, inputs * repeats / 4, 2 * height, 2 * width];
        let y = pseudo_random(shape, 2, &device);
        let plain = values(plain::add_upsampled(y.clone(), x.clone(), repeats));
        let shared = add_upsampled(y.clone(), x.clone(), repeats);
        assert!(values(shared) == plain, "{repeats} repeats, shared");
        let before = values(y.clone());
        assert!(
            values(pseudo_random(shape, 2, &device)) == before,
            "y was written"
        );
        let alone = add_upsampled(
            pseudo_random(shape, 2, &device),
            x.flip([0]).flip([0]),
            repeats,
        );
        assert!(values(alone) == plain, "{repeats} repeats, in place");
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
#[should_panic(expected = "Number of channels in input tensor and input channels of convolution")]
fn a_kernel_of_other_channels_is_refused() {
    let device = Device::flex();
    let x = pseudo_random([1, 32, 8, 8], 1, &device);
    let weight = pseudo_random([32, 16, 3, 3], 2, &device);
    conv3x3_fused(x, weight, None, 1, Epilogue::None);
}

#[test]
fn winograd_takes_strided_input() {
    let device = Device::flex();
    let x = pseudo_random([2, 6, 9, 18], 1, &device).permute([0, 3, 1, 2]);
    let weight = pseudo_random([17, 3, 3, 18], 2, &device).permute([0, 3, 1, 2]);
    let ours = conv3x3_fused(x.clone(), weight.clone(), None, 1, Epilogue::None);
    let plain = plain::conv3x3(x, weight, 1);
    assert_close("permuted", &values(ours), &values(plain), 1e-5);
}

#[test]
fn softmax_attention_equals_plain() {
    // [batch, heads, key heads, tokens, keys, head_dim]; a mask for each query, for all, none.
    for [batch, heads, key_heads, tokens, keys, head_dim] in [
        [1, 1, 1, 1, 1, 1],
        [2, 3, 3, 5, 7, 4],
        [2, 6, 2, 33, 19, 9],
        [1, 4, 4, 300, 40, 24],
    ] {
        for (softcap, mask_rows) in [(None, None), (Some(0.7), Some(tokens)), (None, Some(1))] {
            type Attention = fn(
                Tensor<4>,
                Tensor<4>,
                Tensor<4>,
                Option<Tensor<4>>,
                f64,
                Option<f64>,
            ) -> Tensor<3>;
            let attend = |f: Attention| {
                move |x: Tensor<3>, kv: Tensor<4>| {
                    // As the layers do it: heads are views of rows, keys are stored transposed.
                    let query = x.reshape([batch, tokens, heads, head_dim]).swap_dims(1, 2);
                    let key = kv.clone().swap_dims(2, 3);
                    let value = kv.swap_dims(2, 3) * 2.0;
                    let mask = mask_rows.map(|rows| {
                        let device = Device::flex();
                        let device = if query.is_autodiff() {
                            device.autodiff()
                        } else {
                            device
                        };
                        (pseudo_random([batch, 1, rows, keys], 9, &device) - 0.5) * 10.0
                    });
                    f(query, key, value, mask, 0.8, softcap)
                }
            };
            compare(
                &format!(
                    "{heads}/{key_heads} heads, {tokens} to {keys}, {softcap:?} {mask_rows:?}"
                ),
                [batch, tokens, heads * head_dim],
                [batch, key_heads, head_dim, keys],
                attend(softmax_attention),
                attend(plain::softmax_attention),
            );
        }
    }
}

#[test]
fn softmax_attention_takes_flipped_input() {
    let device = Device::flex();
    let [query, key, value] =
        [1, 2, 3].map(|seed| pseudo_random([1, 2, 5, 4], seed, &device).flip([2]));
    let [ours, plain] = [softmax_attention, plain::softmax_attention].map(|f| {
        let (query, key, value) = (query.clone(), key.clone(), value.clone());
        values(f(query, key, value, None, 1.0, None))
    });
    assert_close("flipped", &ours, &plain, 1e-5);
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
