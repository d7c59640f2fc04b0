//! The operations as the backend without fusion runs them, against the same ones in a fusion
//! stream: the shapes and dtypes given to fusion must be those that the kernels give, since it
//! never compares them.
//!
//! Run by `.ci/wgpu`, or by
//! `SANA_TEST_DEVICE=wgpu cargo test -p sana-linear-attn --features wgpu --lib cube -- --include-ignored`.

use burn::backend::ops::FloatTensorOps;
use burn::backend::{DispatchDevice, TensorMetadata};
use burn::tensor::{Device, Tensor, TensorData};
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;

use super::layout;
use crate::kernels::cube::backend::inference::{
    CubeOps, depthwise_gate, depthwise_tokens, linear_attention, norm_modulate, packed_attention,
    rms_norm, rms_norm_residual, softmax_attention,
};
use crate::kernels::for_its_device;
use crate::parity::{device, values};
use crate::quantization::{QuantizedMatrix, Uint4Groups};

fn data<const D: usize>(shape: [usize; D], seed: usize) -> TensorData {
    let values = (0..shape.iter().product())
        .map(|i: usize| ((i * 37 + seed * 11) % 101) as f32 / 50.0 - 0.7);
    TensorData::new(values.collect(), shape)
}

/// Both ways into an operation.
struct Both {
    device: Device,
}

impl Both {
    fn new() -> Self {
        let device = device();
        assert!(
            matches!(device.as_dispatch(), DispatchDevice::Cube(_)),
            "SANA_TEST_DEVICE must name a GPU, or an adapter that stands for one"
        );
        Self { device }
    }

    fn bare<const D: usize>(&self, shape: [usize; D], seed: usize) -> CubeTensor {
        let DispatchDevice::Cube(device) = self.device.as_dispatch() else {
            unreachable!("checked when it was made")
        };
        CubeBackend::float_from_data(data(shape, seed), device)
    }

    fn fused<const D: usize>(&self, shape: [usize; D], seed: usize) -> Tensor<D> {
        Tensor::from_data(data(shape, seed), &self.device)
    }

    fn assert_equal<const D: usize>(&self, name: &str, bare: CubeTensor, fused: Tensor<D>) {
        assert_eq!(bare.shape().to_vec(), fused.dims(), "{name}: shape");
        assert_eq!(bare.dtype, fused.dtype(), "{name}: dtype");
        let bare = burn_cubecl::ops::into_data_sync(bare);
        let bare = bare.try_into_vec::<f32>().unwrap();
        // One more operation behind the fused one, of the shape given to fusion.
        let streamed = values(fused.clone() * 2.0);
        let fused = values(fused);
        assert!(bare == fused, "{name}: values differ");
        let doubled: Vec<f32> = bare.iter().map(|value| value * 2.0).collect();
        assert!(doubled == streamed, "{name}: streamed values differ");
    }
}

#[test]
#[ignore = "compares with the device that SANA_TEST_DEVICE names"]
fn operations_are_the_same_with_and_without_fusion() {
    let both = Both::new();

    let qkv = [2, 300, 24];
    let [q, k, v] = [1, 2, 3].map(|seed| both.bare(qkv, seed));
    let bare = CubeBackend::cube_linear_attention(q, k, v, 8);
    let [q, k, v] = [1, 2, 3].map(|seed| both.fused(qkv, seed));
    both.assert_equal("linear attention", bare, linear_attention(q, k, v, 8));

    let bare = CubeBackend::cube_packed_attention(both.bare(qkv, 4), 4);
    let fused = packed_attention(both.fused(qkv, 4), 4);
    both.assert_equal("packed attention", bare, fused);

    let (q, kv, m) = ([2, 4, 5, 8], [2, 2, 7, 8], [2, 1, 5, 7]);
    let bare = CubeBackend::cube_softmax_attention(
        both.bare(q, 1),
        both.bare(kv, 2),
        both.bare(kv, 3),
        both.bare(m, 4),
        0.5,
        2.0,
    );
    let fused = softmax_attention(
        both.fused(q, 1),
        both.fused(kv, 2),
        both.fused(kv, 3),
        both.fused(m, 4),
        0.5,
        2.0,
    );
    both.assert_equal("softmax attention", bare, fused);

    let (x, weight, bias) = ([2, 12, 20], [20, 1, 3, 3], [20]);
    let bare = CubeBackend::cube_depthwise(both.bare(x, 1), both.bare(weight, 2), 3, 4);
    let fused = depthwise_tokens(both.fused(x, 1), both.fused(weight, 2), [3, 4]);
    both.assert_equal("depthwise", bare, fused);
    let bare = CubeBackend::cube_depthwise_gate(
        both.bare(x, 1),
        both.bare(weight, 2),
        both.bare(bias, 3),
        3,
        4,
    );
    let (tokens, taps) = (both.fused(x, 1), both.fused(weight, 2));
    let fused = depthwise_gate(tokens, taps, both.fused(bias, 3), [3, 4]);
    both.assert_equal("gated depthwise", bare, fused);

    let row = [2, 1, 20];
    let [scale, shift] = [2, 3].map(|seed| both.bare(row, seed));
    let bare = CubeBackend::cube_norm_modulate(both.bare(x, 1), scale, shift, 1e-5);
    let [scale, shift] = [2, 3].map(|seed| both.fused(row, seed));
    let fused = norm_modulate(both.fused(x, 1), scale, shift, 1e-5);
    both.assert_equal("modulated norm", bare, fused);

    for axis in [1, 2] {
        let channels = [x[axis]];
        let weights = || [2, 3].map(|seed| both.bare(channels, seed));
        let fused = || [2, 3].map(|seed| both.fused(channels, seed));
        let [weight, bias] = weights();
        let bare = CubeBackend::cube_rms_norm(both.bare(x, 1), weight, 1e-5, axis);
        let [scale, _] = fused();
        let name = format!("norm along {axis}");
        both.assert_equal(
            &name,
            bare,
            rms_norm(both.fused(x, 1), scale, None, 1e-5, axis),
        );

        let [weight, _] = weights();
        let bare = CubeBackend::cube_rms_norm_shift(both.bare(x, 1), weight, bias, 1e-5, axis);
        let [scale, shift] = fused();
        let shifted = rms_norm(both.fused(x, 1), scale, Some(shift), 1e-5, axis);
        both.assert_equal(&format!("{name}, shifted"), bare, shifted);

        let [weight, bias] = weights();
        let (input, residual) = (both.bare(x, 1), both.bare(x, 4));
        let bare = CubeBackend::cube_rms_norm_residual(input, weight, bias, residual, 1e-5, axis);
        let [scale, shift] = fused();
        let (input, residual) = (both.fused(x, 1), both.fused(x, 4));
        let added = rms_norm_residual(input, scale, shift, residual, 1e-5, axis);
        both.assert_equal(&format!("{name}, added"), bare, added);
    }
}

/// An image whose channels are innermost in memory stays so: convolutions read it without a copy.
#[test]
#[ignore = "compares with the device that SANA_TEST_DEVICE names"]
fn norms_keep_channels_last() {
    let both = Both::new();
    let image = |seed| CubeBackend::float_permute(both.bare([2, 3, 5, 8], seed), &[0, 3, 1, 2]);
    let [weight, bias] = [3, 4].map(|seed| both.bare([8], seed));
    let x = image(1);
    let strides = x.meta.strides().to_vec();
    let y = CubeBackend::cube_rms_norm_residual(x, weight, bias, image(2), 1e-5, 1);
    assert_eq!(y.meta.shape().to_vec(), [2, 8, 3, 5]);
    assert_eq!(y.meta.strides().to_vec(), strides);
}

/// More cubes than one dimension of a grid has: every one is in the fold, and few are beyond.
#[test]
fn many_cubes_are_folded() {
    use burn_cubecl::cubecl::prelude::CubeCount;
    for count in [1, 2, 65_535, 65_536, 1_000_000, 70_000_000] {
        let CubeCount::Static(x, y, z) = layout::cubes(count) else {
            panic!("a count known on the host is static")
        };
        assert!(x <= 65_535 && y <= 65_535 && z == 1, "{count}: {x} {y} {z}");
        let all = x as usize * y as usize;
        assert!(count <= all && all < count + y as usize, "{count}: {x} {y}");
    }
}

/// What DC-AE does with an image between two convolutions leaves the channels innermost in memory,
/// through burn's convolutions, its fusion, and our kernels and moves.
#[test]
#[ignore = "compares with the device that SANA_TEST_DEVICE names"]
fn images_stay_channels_last() {
    use crate::kernels::{
        Epilogue, add, conv3x3, conv3x3_fused, image_to_tokens, nearest_upsample,
        rms_norm_residual, silu, tokens_to_image,
    };
    type Stream = burn_cubecl::Cube;
    let both = Both::new();
    let assert_last = |name: &str, x: Tensor<4>| {
        let [_, channels, height, width] = x.dims();
        let fused = x
            .try_into_primitive::<Stream>()
            .unwrap_or_else(|_| panic!("{name} is on the GPU"));
        let client = fused.client.clone();
        let bare = client.resolve_tensor_float::<CubeBackend>(fused);
        let expected = [channels * height * width, 1, channels * width, channels];
        assert_eq!(bare.meta.strides().to_vec(), expected, "{name}");
    };
    let weight = both.fused([8, 8, 3, 3], 1);
    let bias = both.fused([8], 2);
    let x = conv3x3(both.fused([2, 8, 6, 5], 3), weight.clone(), 1);
    assert_last("convolution", x.clone());
    let y = conv3x3_fused(
        x.clone(),
        weight.clone(),
        Some(bias.clone()),
        1,
        Epilogue::Silu,
    );
    assert_last("convolution with bias and SiLU", y.clone());
    let y = rms_norm_residual(y, bias.clone(), Some(bias.clone()), x.clone(), 1e-5, 1);
    assert_last("norm and residual", y.clone());
    assert_last("SiLU of a sum", silu(add(y.clone(), x.clone())));
    assert_last("doubled", nearest_upsample(y.clone()));
    let doubled = nearest_upsample(y.clone());
    let summed = add(conv3x3(doubled.clone(), weight, 1), doubled);
    assert_last("convolution of it and shortcut", summed);
    let tokens = image_to_tokens(y.clone()) * 2.0;
    assert_last("tokens and back", tokens_to_image(tokens.clone(), [6, 5]));
    assert_last("sum with tokens", add(tokens_to_image(tokens, [6, 5]), y));
}

/// Groups of 70 are not whole words: they become rows of 8 bits, as on the CPU they do not.
#[test]
#[ignore = "compares with the device that SANA_TEST_DEVICE names"]
fn groups_that_are_no_words_become_rows() {
    let both = Both::new();
    for (inputs, group, device, stays) in [
        (128, 64, &both.device, true),
        (140, 70, &both.device, false),
        (140, 70, &Device::flex(), true),
    ] {
        let weight = Tensor::<2>::from_data(data([3, inputs], 1), device);
        let groups = Uint4Groups::quantize(weight, group);
        let found = for_its_device(QuantizedMatrix::Uint4Groups(groups));
        let is_groups = matches!(found, QuantizedMatrix::Uint4Groups(_));
        assert_eq!(is_groups, stays, "{group} on {device:?}");
        assert_eq!(found.dims(), [3, inputs]);
    }
}
