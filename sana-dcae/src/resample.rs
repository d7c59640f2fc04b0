//! Changes of size between stages: a convolution next to a shortcut without parameters, which moves
//! pixels into channels and back (DC-AE paper, section 3.1, "residual autoencoding").

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor};
use sana_linear_attn::kernels::{
    add, add_upsampled, channels_last, pixel_shuffle, pixel_unshuffle,
};
use sana_linear_attn::layers::Conv3x3;

use crate::{DownsampleBlockType, UpsampleBlockType};

/// Mean over each group of `group` consecutive channels, summed in f32.
///
/// # Shapes
/// - input `[batch, channels, height, width]`, `channels` a multiple of `group`
/// - output `[batch, channels / group, height, width]`
pub fn group_mean(x: Tensor<4>, group: usize) -> Tensor<4> {
    if group == 1 {
        return x;
    }
    let [batch, channels, height, width] = x.dims();
    let dtype = x.dtype();
    if channels_last(&x.device()) {
        return x
            .permute([0, 2, 3, 1])
            .cast(DType::F32)
            .reshape([batch, height, width, channels / group, group])
            .mean_dim(4)
            .cast(dtype)
            .reshape([batch, height, width, channels / group])
            .permute([0, 3, 1, 2]);
    }
    x.cast(DType::F32)
        .reshape([batch, channels / group, group, height * width])
        .mean_dim(2)
        .cast(dtype)
        .reshape([batch, channels / group, height, width])
}

/// Halves height and width:
///
/// ```text
/// conv             y = conv3x3_stride2(x)             + shortcut(x)
/// pixel unshuffle  y = pixel_unshuffle(conv3x3(x))    + shortcut(x)
/// shortcut(x) = group_mean(pixel_unshuffle(x))
/// ```
#[derive(Module, Debug)]
pub struct DownBlock {
    /// The main path's convolution; of stride 2 where no pixel unshuffle follows it.
    pub conv: Conv3x3,
    unshuffles: bool,
    /// Channels averaged by the shortcut.
    shortcut_group: Option<usize>,
}

impl DownBlock {
    /// A block from `d_input` to `d_output` channels.
    ///
    /// # Panics
    /// If `d_output` does not divide `4 * d_input` (with shortcut) or is no multiple of 4 (with
    /// pixel unshuffle).
    pub fn new(
        d_input: usize,
        d_output: usize,
        kind: DownsampleBlockType,
        shortcut: bool,
        device: &Device,
    ) -> Self {
        assert!(
            !shortcut || (4 * d_input).is_multiple_of(d_output),
            "a shortcut from {d_input} to {d_output} channels needs a divisor of {}",
            4 * d_input
        );
        let unshuffles = kind == DownsampleBlockType::PixelUnshuffle;
        assert!(
            !unshuffles || d_output.is_multiple_of(4),
            "a pixel unshuffle cannot give {d_output} channels, which is no multiple of 4"
        );
        let conv = if unshuffles {
            Conv3x3::new(d_input, d_output / 4, 1, true, device)
        } else {
            Conv3x3::new(d_input, d_output, 2, true, device)
        };
        Self {
            conv,
            unshuffles,
            shortcut_group: shortcut.then(|| 4 * d_input / d_output),
        }
    }

    /// Halves height and width.
    ///
    /// # Shapes
    /// - input `[batch, d_input, height, width]`, height and width even
    /// - output `[batch, d_output, height / 2, width / 2]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = self.conv.forward(x.clone());
        let y = if self.unshuffles {
            pixel_unshuffle(y)
        } else {
            y
        };
        match self.shortcut_group {
            Some(group) => add(y, group_mean(pixel_unshuffle(x), group)),
            None => y,
        }
    }
}

/// Doubles height and width:
///
/// ```text
/// interpolate    y = conv3x3(nearest_x2(x))       + shortcut(x)
/// pixel shuffle  y = pixel_shuffle(conv3x3(x))    + shortcut(x)
/// shortcut(x) = pixel_shuffle(repeat_channels(x))
/// ```
#[derive(Module, Debug)]
pub struct UpBlock {
    /// The main path's convolution.
    pub conv: Conv3x3,
    shuffles: bool,
    /// How often the shortcut repeats a channel.
    shortcut_repeats: Option<usize>,
}

impl UpBlock {
    /// A block from `d_input` to `d_output` channels.
    ///
    /// # Panics
    /// With shortcut, if `4 * d_output` is no multiple of `d_input`.
    pub fn new(
        d_input: usize,
        d_output: usize,
        kind: UpsampleBlockType,
        shortcut: bool,
        device: &Device,
    ) -> Self {
        assert!(
            !shortcut || (4 * d_output).is_multiple_of(d_input),
            "a shortcut from {d_input} channels cannot fill 4 x {d_output}"
        );
        let shuffles = kind == UpsampleBlockType::PixelShuffle;
        let d_conv = if shuffles { 4 * d_output } else { d_output };
        Self {
            conv: Conv3x3::new(d_input, d_conv, 1, true, device),
            shuffles,
            shortcut_repeats: shortcut.then(|| 4 * d_output / d_input),
        }
    }

    /// Doubles height and width.
    ///
    /// # Shapes
    /// - input `[batch, d_input, height, width]`
    /// - output `[batch, d_output, 2 * height, 2 * width]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = match self.shuffles {
            true => pixel_shuffle(self.conv.forward(x.clone())),
            false => self.conv.forward_upsampled(x.clone()),
        };
        match self.shortcut_repeats {
            Some(repeats) => add_upsampled(y, x, repeats),
            None => y,
        }
    }
}

#[cfg(test)]
mod tests {
    use sana_linear_attn::kernels::repeat_channels;

    use super::*;

    fn ramp(shape: [usize; 4]) -> Tensor<4> {
        let values = (0..shape.iter().product::<usize>())
            .map(|i| (i as f32 * 0.7).sin())
            .collect();
        Tensor::from_data(
            burn::tensor::TensorData::new(values, shape),
            &Device::flex(),
        )
    }

    fn values(x: Tensor<4>) -> Vec<f32> {
        x.into_data_as::<f32>().try_into_vec().expect("f32 data")
    }

    #[test]
    fn shuffle_undoes_unshuffle() {
        let x = ramp([2, 3, 4, 6]);
        assert_eq!(pixel_unshuffle(x.clone()).dims(), [2, 12, 2, 3]);
        assert_eq!(values(pixel_shuffle(pixel_unshuffle(x.clone()))), values(x));
    }

    #[test]
    fn unshuffle_orders_a_square_row_by_row() {
        let x = ramp([1, 1, 2, 2]);
        assert_eq!(values(pixel_unshuffle(x.clone())), values(x));
    }

    #[test]
    fn the_shortcut_shuffles_repeated_channels() {
        for (inputs, repeats) in [(3, 4), (4, 2), (8, 1), (2, 8)] {
            let x = ramp([2, inputs, 4, 5]);
            let y = ramp([2, inputs * repeats / 4, 8, 10]).flip([2]);
            let shortcut = pixel_shuffle(repeat_channels(x.clone(), repeats));
            assert_eq!(
                values(add_upsampled(y.clone(), x, repeats)),
                values(y + shortcut),
                "{repeats} repeats"
            );
        }
    }

    #[test]
    fn group_mean_undoes_repeat_channels() {
        let x = ramp([2, 3, 4, 5]);
        let repeated = repeat_channels(x.clone(), 3);
        assert_eq!(
            values(repeated.clone().narrow(1, 2, 1)),
            values(x.clone().narrow(1, 0, 1))
        );
        for (mean, pixel) in values(group_mean(repeated, 3)).iter().zip(values(x)) {
            assert!((mean - pixel).abs() < 1e-6, "{mean} is not {pixel}");
        }
    }

    /// Devices whose images have channels last in memory move pixels by other steps.
    ///
    /// Run by `.ci/wgpu`, or by
    /// `SANA_TEST_DEVICE=wgpu cargo test -p sana-dcae --features wgpu --lib resample:: -- --include-ignored`.
    #[test]
    #[ignore = "compares with the device that SANA_TEST_DEVICE names"]
    fn every_move_is_the_same_as_on_the_cpu() {
        let device = sana_linear_attn::parity::device();
        assert!(
            channels_last(&device),
            "SANA_TEST_DEVICE must name a GPU, or an adapter that stands for one"
        );
        let here = ramp([2, 12, 4, 6]);
        let there = Tensor::from_data(here.clone().into_data(), &device);
        // The same image as a convolution leaves it.
        let pixels = there.clone().permute([0, 2, 3, 1]) * 1.0;
        let innermost = pixels.permute([0, 3, 1, 2]);
        type Move = fn(Tensor<4>) -> Tensor<4>;
        let moves: [Move; 5] = [
            pixel_unshuffle,
            pixel_shuffle,
            |x| repeat_channels(x, 3),
            sana_linear_attn::kernels::nearest_upsample,
            |x| group_mean(x, 4),
        ];
        for (index, step) in moves.into_iter().enumerate() {
            let expected = step(here.clone());
            for x in [there.clone(), innermost.clone()] {
                let ours = step(x);
                assert_eq!(ours.dims(), expected.dims(), "move {index}");
                for (a, b) in values(ours).iter().zip(values(expected.clone())) {
                    assert!((a - b).abs() < 1e-6, "move {index}: {a} is not {b}");
                }
            }
        }
    }
}
