//! f32 rows times bf16 weights: multiplied in bf16 with f32 sums where the processor can, and
//! elsewhere, or where that is not wanted, as the widened weights bit for bit.

use burn::tensor::{DType, Device, Tensor, TensorData};
use sana_linear_attn::kernels::{Epilogue, linear, plain};
use sana_linear_attn::parity::{Fixture, assert_close, built_in_fixture_path, values};
use sana_linear_attn::precision::Bf16Gemm;
use sana_linear_attn::transformer::{F16Clamp, TransformerInput};
use sana_linear_attn::{SanaTransformer, SanaTransformerConfig, TorchLinear, Weights};

/// Values without a pattern, of magnitude up to 1.
fn waves<const D: usize>(shape: [usize; D], seed: f32) -> Tensor<D> {
    let count = shape.iter().product::<usize>();
    let values: Vec<f32> = (0..count)
        .map(|i| (i as f32 * 0.731 + seed + (i as f32 * 0.0131).cos()).sin())
        .collect();
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

fn rounded<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    x.cast(DType::BF16).cast(DType::F32)
}

/// `[rows, depth, columns]`: tiles, lanes and blocks cut evenly and not, and more rows than are
/// packed at a time.
const SHAPES: [[usize; 3]; 9] = [
    [1, 2, 1],
    [3, 8, 5],
    [32, 32, 12],
    [33, 34, 13],
    [70, 62, 97],
    [5, 1000, 30],
    [200, 96, 300],
    [1100, 64, 24],
    [7, 9, 11], // a depth of no whole pairs
];

#[test]
fn bf16_weights_are_multiplied_as_they_are() {
    assert_eq!(Bf16Gemm::default(), Bf16Gemm::Native);
    for gemm in [Bf16Gemm::Native, Bf16Gemm::Widened] {
        let native = gemm == Bf16Gemm::Native && Bf16Gemm::is_supported();
        for [rows, depth, columns] in SHAPES {
            let multiplies = native && depth.is_multiple_of(2);
            let x = waves([rows, depth], 1.0);
            let weight = waves([columns, depth], 2.0).cast(DType::BF16);
            let bias = waves([columns], 3.0);
            for bias in [None, Some(bias)] {
                for epilogue in [Epilogue::None, Epilogue::Silu] {
                    let name = format!("{rows}x{depth}->{columns}, {epilogue:?}, {gemm:?}");
                    let wide = weight.clone().cast(DType::F32);
                    let ours = linear(x.clone(), weight.clone(), bias.clone(), epilogue, gemm);
                    assert_eq!(ours.dtype(), DType::F32, "{name}");
                    let ours = values(ours);
                    let exact = linear(x.clone(), wide.clone(), bias.clone(), epilogue, gemm);
                    let exact = values(exact);
                    if multiplies {
                        // The product of two bf16 is exact in f32, the order of the sums differs.
                        let plain = plain::linear(rounded(x.clone()), wide, bias.clone(), epilogue);
                        assert_close(&name, &ours, &values(plain), 1e-5);
                        assert!(ours != exact, "{name}: x was not rounded");
                    } else {
                        assert!(ours == exact, "{name}");
                    }
                }
            }
        }
    }
}

/// A layer; strided rows; rows alone as among others; gradients by the widened weight.
#[test]
fn a_layer() {
    let device = Device::flex();
    let mut layer = TorchLinear::new(64, 40, true, &device);
    layer.weight = layer.weight.map(|weight| weight.cast(DType::BF16));
    let x = waves([64, 50], 4.0).transpose();
    let together = values(layer.forward(x.clone()));
    for row in [0, 17, 49] {
        let alone = values(layer.forward(x.clone().narrow(0, row, 1)));
        assert!(alone == together[40 * row..40 * (row + 1)], "row {row}");
    }
    let plain = plain::linear(
        rounded(x.clone()),
        layer.weight.val().cast(DType::F32),
        layer.bias.as_ref().map(|bias| bias.val()),
        Epilogue::None,
    );
    if Bf16Gemm::is_supported() {
        assert_close("strided", &together, &values(plain), 1e-5);
    }
    let tracked = Tensor::<2>::from_data(x.into_data(), &device.autodiff()).require_grad();
    let weight = layer.weight.val();
    let grads = linear(
        tracked.clone(),
        Tensor::from_data(weight.clone().into_data(), (&tracked.device(), DType::BF16)),
        None,
        Epilogue::None,
        Bf16Gemm::Native,
    )
    .sum()
    .backward();
    let gradient = tracked.grad(&grads).expect("a gradient of x");
    let columns = weight.cast(DType::F32).sum_dim(0).repeat(&[50, 1]);
    assert_close("gradient", &values(gradient), &values(columns), 1e-5);
}

/// What rounding the input of every linear layer does to a transformer's output.
#[test]
fn the_transformer() {
    let device = Device::flex();
    let folder = built_in_fixture_path(env!("CARGO_MANIFEST_DIR"), "transformer/sana");
    let io = Fixture::at(&folder.join("io.safetensors"));
    let config = SanaTransformerConfig::from_file(&folder.join("config.json"));
    let weights =
        Weights::open_folder(&folder, "diffusion_pytorch_model", None).expect("its weights");
    let narrow = config
        .expect("its config")
        .load(&weights, Some(DType::BF16), F16Clamp::Auto, &device)
        .expect("its weights");
    let run = |narrow: &SanaTransformer| {
        let tensor = |name| io.tensor::<1>(name, &device);
        let mask = io.tensor("caption_mask", &device);
        let text = narrow.text_context(io.tensor("caption", &device), Some(mask));
        let input = io.tensor("input", &device);
        let input = TransformerInput::new(input, tensor("timestep"), &text);
        values(narrow.forward(input).velocity)
    };
    let ours = run(&narrow);
    let exact = run(&narrow.with_bf16_gemm(Bf16Gemm::Widened));
    // A bf16 has 8 bits: 2^-9 of each input, some layers after each other.
    assert_close("transformer", &ours, &exact, 2e-2);
    assert_eq!(ours != exact, Bf16Gemm::is_supported());
}
