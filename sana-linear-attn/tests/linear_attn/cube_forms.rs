//! Every form of the GPU kernels is compiled by the device's driver, launched and read back: dtypes,
//! widths of vectors (by how often two divides the channels) and sizes of heads and taps. What they
//! compute is compared elsewhere ([`crate::cube_kernels`]); this finds forms that a driver refuses,
//! also on a stand-in that computes nothing.
//!
//! `SANA_TEST_DEVICE=cuda cargo test -p sana-linear-attn --features cuda --test linear_attn -- cube_forms:: --include-ignored`,
//! with `.ci/cuda-dry-run` where there is no GPU.

use burn::tensor::{DType, Device, Tensor};
use sana_linear_attn::kernels::*;
use sana_linear_attn::parity::{device, values};
use sana_linear_attn::quantization::Quantization;

const EPS: f64 = 1e-6;

/// The device under test and the dtypes that it computes in.
fn gpu() -> (Device, Vec<DType>) {
    let device = device();
    assert_ne!(device, Device::flex(), "SANA_TEST_DEVICE must name a GPU");
    let dtypes = [DType::F32, DType::F16, DType::BF16];
    let supported = dtypes
        .into_iter()
        .filter(|dtype| device.supports_dtype(*dtype));
    let supported: Vec<DType> = supported.collect();
    assert!(supported.contains(&DType::F32), "{supported:?}");
    (device, supported)
}

/// Makes inputs of one dtype.
struct Source(Device, DType);

impl Source {
    fn tensor<const D: usize>(&self, shape: [usize; D]) -> Tensor<D> {
        Tensor::full(shape, 0.5, (&self.0, self.1))
    }
}

/// Reading fails where the kernel was not compiled or not launched.
#[track_caller]
fn read<const D: usize>(name: &str, result: Tensor<D>, dtype: DType, shape: [usize; D]) {
    assert_eq!((result.dims(), result.dtype()), (shape, dtype), "{name}");
    let finite = values(result).iter().all(|value| value.is_finite());
    assert!(finite, "{name} in {dtype:?}: not finite");
}

fn every(check: impl Fn(&Source, DType)) {
    let (device, dtypes) = gpu();
    for dtype in dtypes {
        check(&Source(device.clone(), dtype), dtype);
    }
}

#[test]
#[ignore = "needs the GPU that SANA_TEST_DEVICE names, or a stand-in"]
fn linear_attention() {
    every(|source, dtype| {
        for head_dim in [1, 3, 8, 15, 32, 60] {
            let shape = [1, 70, 2 * head_dim];
            let [q, k, v] = [(); 3].map(|()| source.tensor(shape));
            let name = format!("linear attention, heads of {head_dim}");
            read(
                &name,
                relu_linear_attention(q, k, v, head_dim),
                dtype,
                shape,
            );
            let packed = source.tensor([1, 70, 6 * head_dim]);
            let packed = relu_linear_attention_packed(packed, head_dim);
            read(&format!("{name}, packed"), packed, dtype, shape);
        }
    });
}

#[test]
#[ignore = "needs the GPU that SANA_TEST_DEVICE names, or a stand-in"]
fn depthwise() {
    every(|source, dtype| {
        for kernel in [1, 3, 5, 7, 9] {
            for channels in [5, 6, 12, 64] {
                let name = format!("taps of {kernel}, {channels} channels");
                let weight = source.tensor([channels, 1, kernel, kernel]);
                let x = source.tensor([1, 30, channels]);
                read(
                    &name,
                    depthwise_tokens(x, weight, [5, 6]),
                    dtype,
                    [1, 30, channels],
                );
                let weight = source.tensor([2 * channels, 1, kernel, kernel]);
                let (x, bias) = (
                    source.tensor([1, 30, 2 * channels]),
                    source.tensor([2 * channels]),
                );
                let gated = depthwise_gate(x, weight, bias, [5, 6]);
                read(&format!("{name}, gated"), gated, dtype, [1, 30, channels]);
            }
        }
    });
}

#[test]
#[ignore = "needs the GPU that SANA_TEST_DEVICE names, or a stand-in"]
fn norms() {
    every(|source, dtype| {
        for channels in [5, 6, 12, 64, 1152] {
            let name = format!("{channels} channels");
            let rows = || source.tensor([2, 9, channels]);
            let scale = || source.tensor([2, 1, channels]);
            let modulated = norm_modulate(rows(), scale(), scale(), EPS);
            read(
                &format!("modulation of {name}"),
                modulated,
                dtype,
                [2, 9, channels],
            );
            // Weights of the same dtype, and of f32.
            for weights in [dtype, DType::F32] {
                let weight = || Source(source.0.clone(), weights).tensor([channels]);
                let normed = rms_norm_channels(rows(), weight(), None, EPS, 2);
                read(&format!("norm of {name}"), normed, dtype, [2, 9, channels]);
                let image = || source.tensor([1, channels, 3, 4]);
                let normed = rms_norm_channels(image(), weight(), Some(weight()), EPS, 1);
                read(
                    &format!("norm of images of {name}"),
                    normed,
                    dtype,
                    [1, channels, 3, 4],
                );
                let normed = rms_norm_residual(image(), weight(), Some(weight()), image(), EPS, 1);
                read(
                    &format!("norm and residual of {name}"),
                    normed,
                    dtype,
                    [1, channels, 3, 4],
                );
            }
        }
    });
}

#[test]
#[ignore = "needs the GPU that SANA_TEST_DEVICE names, or a stand-in"]
fn softmax_attention_with_cap_and_mask() {
    every(|source, dtype| {
        for head_dim in [3, 8, 64, 256, 384] {
            for cap in [None, Some(50.0)] {
                let [q, k, v] = [(); 3].map(|()| source.tensor([1, 2, 45, head_dim]));
                let mask = Tensor::zeros([1, 1, 45, 45], (&source.0, DType::F32));
                let name = format!("softmax attention, heads of {head_dim}, cap {cap:?}");
                let result = softmax_attention(q, k, v, Some(mask), 0.1, cap);
                read(&name, result, dtype, [1, 45, 2 * head_dim]);
            }
        }
    });
}

#[test]
#[ignore = "needs the GPU that SANA_TEST_DEVICE names, or a stand-in"]
fn quantized_weights() {
    every(|source, dtype| {
        for [rows, depth, columns] in [[1, 64, 40], [70, 120, 33], [300, 1152, 96]] {
            let weight = Source(source.0.clone(), DType::F32).tensor([columns, depth]);
            let uint4 = Quantization::Uint4.on(depth, &source.0);
            for to in [Quantization::Int8, uint4] {
                let x = source.tensor([rows, depth]);
                let y = quantized_linear(x, &to.quantize(weight.clone()), None, Epilogue::None);
                read(&format!("{to}, {depth} inputs"), y, dtype, [rows, columns]);
            }
        }
    });
}
