//! The GPU kernels against the plain forms on the CPU, on shapes that cut vectors, tiles and chunks
//! unevenly, behind the public functions and thus in burn's fusion stream. Sums are taken in another
//! order than in the plain form: 1e-5 of the largest magnitude in f32. In f16 the result is rounded
//! once, by at most half of 2^-10 of itself, and inputs are the same: 1e-3.
//!
//! Run by `.ci/wgpu`, or by
//! `SANA_TEST_DEVICE=wgpu cargo test -p sana-linear-attn --features wgpu --test linear_attn -- cube_kernels:: --include-ignored`.

mod attention;
mod norms;
mod quantized;

use crate::attention_edges;

use burn::tensor::{DType, Device, Tensor, TensorData};
use sana_linear_attn::kernels::*;
use sana_linear_attn::parity::{assert_close, device, values};

/// What a kernel's inputs are made of.
struct Source {
    device: Device,
    dtype: DType,
    /// The last operation that made an input is still to run, in one stream with the kernel.
    pending: bool,
}

impl Source {
    /// Values between -1 and 1 from a small congruential generator, those of 16 bits.
    fn tensor<const D: usize>(&self, shape: [usize; D], seed: u64) -> Tensor<D> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let values: Vec<f32> = (0..shape.iter().product())
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                (state >> 54) as f32 / 512.0 - 1.0
            })
            .collect();
        if self.pending {
            let halves = values.iter().map(|value| value / 2.0).collect();
            Tensor::from_data(TensorData::new(halves, shape), (&self.device, self.dtype)) * 2.0
        } else {
            Tensor::from_data(TensorData::new(values, shape), (&self.device, self.dtype))
        }
    }
}

fn gpu() -> Device {
    let device = device();
    assert_ne!(
        device,
        Device::flex(),
        "SANA_TEST_DEVICE must name a GPU, or an adapter that stands for one"
    );
    device
}

/// Compares a function on the GPU with the plain form on the CPU: alone, between other operations
/// of its stream, and in f16 where the device has it; and with itself, bit for bit.
fn check<const D: usize>(
    name: &str,
    fast: impl Fn(&Source) -> Tensor<D>,
    plain: impl Fn(&Source) -> Tensor<D>,
) {
    check_within(name, [1e-5, 1e-3], fast, plain);
}

/// The same with other bounds, in f32 and in f16.
fn check_within<const D: usize>(
    name: &str,
    [bound, half_bound]: [f64; 2],
    fast: impl Fn(&Source) -> Tensor<D>,
    plain: impl Fn(&Source) -> Tensor<D>,
) {
    let gpu = gpu();
    let source = |device: &Device, dtype, pending| Source {
        device: device.clone(),
        dtype,
        pending,
    };
    let expected = plain(&source(&Device::flex(), DType::F32, false));
    let (shape, expected) = (expected.dims(), values(expected));

    let ours = fast(&source(&gpu, DType::F32, false));
    assert_eq!(ours.dims(), shape, "{name}: shape");
    let ours = values(ours);
    assert_close(name, &ours, &expected, bound);
    let again = values(fast(&source(&gpu, DType::F32, false)));
    assert!(ours == again, "{name}: another run differs");

    let streamed = fast(&source(&gpu, DType::F32, true));
    let streamed = values(streamed.clone() * 3.0 + streamed.square());
    let squares: Vec<f32> = expected.iter().map(|y| y * 3.0 + y * y).collect();
    assert_close(&format!("{name}, streamed"), &streamed, &squares, bound);

    if gpu.supports_dtype(DType::F16) {
        let half = fast(&source(&gpu, DType::F16, true));
        assert_eq!(half.dtype(), DType::F16, "{name}: dtype");
        assert_close(
            &format!("{name}, f16"),
            &values(half),
            &expected,
            half_bound,
        );
    }
}

#[test]
#[ignore = "compares with the device that SANA_TEST_DEVICE names"]
fn depthwise_equals_plain() {
    for kernel in [1, 3, 5, 7] {
        for [batch, height, width, channels] in [
            [1, 1, 1, 1],
            [2, 3, 4, 5],
            [3, 4, 9, 300],
            [1, 7, 2, 66],
            [2, 5, 13, 64],
        ] {
            let name = format!("kernel {kernel}, {batch}x{height}x{width}x{channels}");
            let (tokens, grid) = (height * width, [height, width]);
            let inputs = |source: &Source, channels| {
                (
                    source.tensor([batch, tokens, channels], 1),
                    source.tensor([channels, 1, kernel, kernel], 2),
                    source.tensor([channels], 3),
                )
            };
            check(
                &name,
                |source| {
                    let (x, weight, _) = inputs(source, channels);
                    depthwise_tokens(x, weight, grid)
                },
                |source| {
                    let (x, weight, _) = inputs(source, channels);
                    plain::depthwise_tokens(x, weight, grid)
                },
            );
            check(
                &format!("{name}, gated"),
                |source| {
                    let (x, weight, bias) = inputs(source, 2 * channels);
                    depthwise_gate(x, weight, bias, grid)
                },
                |source| {
                    let (x, weight, bias) = inputs(source, 2 * channels);
                    plain::silu_gate(plain::depthwise_tokens(x, weight, grid) + bias.unsqueeze())
                },
            );
        }
    }
}

#[test]
#[ignore = "compares with the device that SANA_TEST_DEVICE names"]
fn depthwise_takes_strided_input() {
    let [height, width] = [5, 6];
    let image = |convolve: fn(Tensor<3>, Tensor<4>, [usize; 2]) -> Tensor<3>| {
        move |source: &Source| {
            let x = source.tensor([2, 8, height * width], 1).swap_dims(1, 2);
            let weight = source.tensor([3, 3, 8, 1], 2).permute([2, 3, 1, 0]);
            convolve(x, weight, [height, width])
        }
    };
    check(
        "an image's channels",
        image(depthwise_tokens),
        image(plain::depthwise_tokens),
    );
    let middle = |convolve: fn(Tensor<3>, Tensor<4>, [usize; 2]) -> Tensor<3>| {
        move |source: &Source| {
            let x = source.tensor([2, height * width, 24], 1).narrow(2, 3, 8);
            convolve(x, source.tensor([8, 1, 3, 3], 2), [height, width])
        }
    };
    check(
        "a slice of channels",
        middle(depthwise_tokens),
        middle(plain::depthwise_tokens),
    );
}

#[test]
#[ignore = "compares with the device that SANA_TEST_DEVICE names"]
fn modulation_equals_plain() {
    type Modulate = fn(Tensor<3>, Tensor<3>, Tensor<3>, f64) -> Tensor<3>;
    for [batch, tokens, channels] in [
        [1, 1, 1],
        [2, 5, 7],
        [3, 70, 33],
        [2, 19, 1152],
        [1, 3, 2240],
    ] {
        // As the blocks do it: scale and shift are slices of one table.
        let table = |modulate: Modulate| {
            move |source: &Source| {
                let x = source.tensor([batch, tokens, channels], 1) * 3.0 + 5.0;
                let table = source.tensor([batch, 6, channels], 2);
                let [scale, shift] = [4, 1].map(|part| table.clone().narrow(1, part, 1));
                // A large eps: of a single channel the variance is 0, and the rest is rounding.
                modulate(x, scale, shift, 0.1)
            }
        };
        check(
            &format!("{batch}x{tokens}x{channels}"),
            table(norm_modulate),
            table(plain::norm_modulate),
        );
    }
    // Shapes that broadcast: one modulation for the batch, and one for each token.
    for [a, b] in [[1, 1], [2, 6]] {
        let broadcast = |modulate: Modulate| {
            move |source: &Source| {
                let x = source.tensor([2, 6, 12], 1);
                let scale = source.tensor([a, b, 12], 2);
                modulate(x, scale, source.tensor([2, 1, 12], 3), 1e-6)
            }
        };
        check(
            &format!("modulation {a}x{b}"),
            broadcast(norm_modulate),
            broadcast(plain::norm_modulate),
        );
    }
}

/// Tensors that track gradients take the plain forms, whose gradients arrive.
#[test]
#[ignore = "compares with the device that SANA_TEST_DEVICE names"]
fn tracked_tensors_have_gradients() {
    let device = gpu().autodiff();
    let source = Source {
        device,
        dtype: DType::F32,
        pending: false,
    };
    let x = source.tensor([1, 12, 24], 1).require_grad();
    let weight = source.tensor([24, 1, 3, 3], 2).require_grad();
    let scale = source.tensor([24], 3).require_grad();
    let y = depthwise_tokens(x.clone(), weight.clone(), [3, 4]);
    let y = rms_norm_channels(y, scale.clone(), None, 1e-3, 2);
    let y = relu_linear_attention_packed(y, 4);
    let grads = y.sum().backward();
    let all = [
        x.grad(&grads).map(values),
        weight.grad(&grads).map(values),
        scale.grad(&grads).map(values),
    ];
    for gradient in all {
        let gradient = gradient.expect("a gradient reaches every input");
        assert!(gradient.iter().any(|value| *value != 0.0));
        assert!(gradient.iter().all(|value| value.is_finite()));
    }
}

/// More cubes than one dimension of a grid has: those of norms of many rows and of many columns.
#[test]
#[ignore = "compares with the device that SANA_TEST_DEVICE names"]
fn grids_are_folded() {
    for (shape, axis) in [([1, 2_200_000, 1], 2), ([1, 1, 2_200_000], 1)] {
        type Norm = fn(Tensor<3>, Tensor<1>, Option<Tensor<1>>, f64, usize) -> Tensor<3>;
        let run = |norm: Norm, device: Device| {
            let source = Source {
                device,
                dtype: DType::F32,
                pending: false,
            };
            let weight = source.tensor([1], 2) + 2.0;
            values(norm(source.tensor(shape, 1), weight, None, 0.3, axis))
        };
        let ours = run(rms_norm_channels, gpu());
        let plain = run(plain::rms_norm_channels, Device::flex());
        assert_close(&format!("{shape:?}"), &ours, &plain, 1e-5);
    }
}

/// An image is the same alone and in a batch, bit for bit: no kernel lets the batch decide how a
/// sum is cut.
#[test]
#[ignore = "compares with the device that SANA_TEST_DEVICE names"]
fn items_of_a_batch_are_those_made_alone() {
    let source = Source {
        device: gpu(),
        dtype: DType::F32,
        pending: false,
    };
    let check = |name: &str, f: &dyn Fn(Tensor<3>) -> Tensor<3>| {
        let x = source.tensor([3, 600, 48], 7);
        let together = f(x.clone());
        for item in 0..3 {
            let alone = values(f(x.clone().narrow(0, item, 1)));
            let of_batch = values(together.clone().narrow(0, item, 1));
            assert!(alone == of_batch, "{name}: item {item} differs");
        }
    };
    check("linear attention", &|x| {
        relu_linear_attention(x.clone(), x.clone() * -1.0, x, 16)
    });
    check("packed attention", &|x| relu_linear_attention_packed(x, 8));
    check("softmax attention", &|x| {
        let batch = x.dims()[0];
        let heads = x.reshape([batch, 600, 6, 8]).swap_dims(1, 2);
        let mask = Tensor::zeros([1, 1, 1, 600], &source.device);
        softmax_attention(
            heads.clone(),
            heads.clone(),
            heads,
            Some(mask),
            1.0,
            Some(5.0),
        )
    });
    let [weight, bias] = [source.tensor([48], 1), source.tensor([48], 2)];
    let taps = source.tensor([48, 1, 3, 3], 3);
    check("gate", &|x| {
        depthwise_gate(x, taps.clone(), bias.clone(), [20, 30])
    });
    check("norm", &|x| {
        rms_norm_channels(x, weight.clone(), Some(bias.clone()), 1e-5, 2)
    });
    check("norm of columns", &|x| {
        rms_norm_channels(x.swap_dims(1, 2) * 1.0, weight.clone(), None, 1e-5, 1)
    });
    let row = source.tensor([1, 1, 48], 4);
    check("modulation", &|x| {
        norm_modulate(x, row.clone(), row.clone(), 1e-5)
    });
}
