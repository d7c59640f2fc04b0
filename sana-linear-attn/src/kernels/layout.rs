use burn::tensor::{Device, Tensor};

#[cfg(feature = "flex")]
use super::on_flex_untracked;

/// Whether the convolutions of a device leave the channels of an image innermost in memory, as
/// burn's on GPUs do. There an image is put in order as `[batch, height, width, channels]`: what
/// moves its pixels then reads and writes whole rows of channels, and the next convolution finds
/// what it would else have to copy.
pub fn channels_last(device: &Device) -> bool {
    #[cfg(feature = "cubecl-backend")]
    return super::cube::is_gpu(device);
    #[cfg(not(feature = "cubecl-backend"))]
    {
        let _ = device;
        false
    }
}

/// The pixels of an image as tokens.
///
/// # Shapes
/// - `x` `[batch, channels, height, width]`
/// - result `[batch, height * width, channels]`
pub fn image_to_tokens(x: Tensor<4>) -> Tensor<3> {
    let [batch, channels, height, width] = x.dims();
    if channels_last(&x.device()) {
        let pixels = x.permute([0, 2, 3, 1]); // [batch, height, width, channels]
        return pixels.reshape([batch, height * width, channels]);
    }
    transpose(x.reshape([batch, channels, height * width]))
}

/// The inverse of [`image_to_tokens`].
///
/// # Shapes
/// - `x` `[batch, height * width, channels]`
/// - result `[batch, channels, height, width]`
pub fn tokens_to_image(x: Tensor<3>, [height, width]: [usize; 2]) -> Tensor<4> {
    let [batch, _, channels] = x.dims();
    if channels_last(&x.device()) {
        let pixels = x.reshape([batch, height, width, channels]);
        return pixels.permute([0, 3, 1, 2]);
    }
    transpose(x).reshape([batch, channels, height, width])
}

/// The last two axes exchanged; on the CPU written out by all cores at once.
fn transpose(x: Tensor<3>) -> Tensor<3> {
    #[cfg(feature = "flex")]
    if on_flex_untracked(&x) {
        return super::inference::transpose(x);
    }
    x.swap_dims(1, 2)
}

/// Doubles height and width by repeating each pixel.
///
/// # Shapes
/// - `x` `[batch, channels, height, width]`
/// - result `[batch, channels, 2 * height, 2 * width]`
pub fn nearest_upsample(x: Tensor<4>) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if on_flex_untracked(&x) {
        return super::inference::upsample(x);
    }
    nearest_upsample_plain(x)
}

/// [`nearest_upsample`] in plain tensor operations.
pub fn nearest_upsample_plain(x: Tensor<4>) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    if channels_last(&x.device()) {
        return x
            .permute([0, 2, 3, 1])
            .reshape([batch, height, 1, width, 1, channels])
            .expand([batch, height, 2, width, 2, channels])
            .reshape([batch, 2 * height, 2 * width, channels])
            .permute([0, 3, 1, 2]);
    }
    x.reshape([batch, channels, height, 1, width, 1])
        .expand([batch, channels, height, 2, width, 2])
        .reshape([batch, channels, 2 * height, 2 * width])
}

/// `y` plus the shortcut of an upsampling block of DC-AE: each channel of `x` `repeats` times in a
/// row, then four consecutive channels as a 2x2 square of pixels.
///
/// # Shapes
/// - `y` and result `[batch, channels, 2 * height, 2 * width]`
/// - `x` `[batch, 4 * channels / repeats, height, width]`
pub fn add_upsampled(y: Tensor<4>, x: Tensor<4>, repeats: usize) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if on_flex_untracked(&y) && on_flex_untracked(&x) {
        return super::inference::add_upsampled(y, x, repeats);
    }
    add_upsampled_plain(y, x, repeats)
}

/// [`add_upsampled`] in plain tensor operations.
pub fn add_upsampled_plain(y: Tensor<4>, x: Tensor<4>, repeats: usize) -> Tensor<4> {
    if repeats == 4 {
        return y + nearest_upsample_plain(x);
    }
    let [batch, inputs, height, width] = x.dims();
    let channels = inputs * repeats / 4;
    let shortcut = x
        .reshape([batch, inputs, 1, height * width])
        .expand([batch, inputs, repeats, height * width])
        .reshape([batch, channels, 2, 2, height, width])
        .permute([0, 1, 4, 2, 5, 3]) // [batch, channels, height, 2, width, 2]
        .reshape([batch, channels, 2 * height, 2 * width]);
    y + shortcut
}
