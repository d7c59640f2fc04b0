//! Depthwise and 3x3 convolutions.

use super::*;

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

/// To a few channels, of one pixel, one row, one column, and more of each; with gradients through the
/// other kernel, and from an input whose channels are innermost.
#[test]
fn few_outputs_equal_plain() {
    for [batch, input, outputs, height, width] in [
        [1, 1, 1, 1, 1],
        [2, 3, 3, 1, 4],
        [3, 4, 8, 5, 1],
        [2, 40, 3, 9, 67],
        [1, 128, 2, 20, 2],
    ] {
        let bias = pseudo_random([outputs], 4, &Device::flex());
        let shift = |x: &Tensor<4>| match x.is_autodiff() {
            true => bias.clone().autodiff(),
            false => bias.clone(),
        };
        compare(
            &format!("{batch}x{input}->{outputs} {height}x{width}"),
            [batch, input, height, width],
            [outputs, input, 3, 3],
            |x, w| {
                let bias = shift(&x);
                conv3x3_fused(x, w, Some(bias), 1, Epilogue::None)
            },
            |x, w| {
                let bias = shift(&x).reshape([1, outputs, 1, 1]);
                plain::conv3x3(x, w, 1) + bias
            },
        );
        let innermost = [batch, height, width, input];
        compare(
            "channels last",
            innermost,
            [outputs, input, 3, 3],
            |x, w| conv3x3_fused(x.permute([0, 3, 1, 2]), w, None, 1, Epilogue::Silu),
            |x, w| silu(plain::conv3x3(x.permute([0, 3, 1, 2]), w, 1)),
        );
    }
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
