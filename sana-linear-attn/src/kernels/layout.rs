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

/// Moves each 2x2 square of pixels into four consecutive channels, row by row.
///
/// # Shapes
/// - input `[batch, channels, height, width]`, height and width even
/// - output `[batch, 4 * channels, height / 2, width / 2]`
pub fn pixel_unshuffle(x: Tensor<4>) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    if channels_last(&x.device()) {
        return x
            .permute([0, 2, 3, 1])
            .reshape([batch, height / 2, 2, width / 2, 2, channels])
            .permute([0, 1, 3, 5, 2, 4]) // [batch, height / 2, width / 2, channels, 2, 2]
            .reshape([batch, height / 2, width / 2, 4 * channels])
            .permute([0, 3, 1, 2]);
    }
    x.reshape([batch, channels, height / 2, 2, width / 2, 2])
        .permute([0, 1, 3, 5, 2, 4]) // [batch, channels, 2, 2, height / 2, width / 2]
        .reshape([batch, 4 * channels, height / 2, width / 2])
}

/// The inverse of [`pixel_unshuffle`]: four consecutive channels become a 2x2 square of pixels.
///
/// # Shapes
/// - input `[batch, 4 * channels, height, width]`
/// - output `[batch, channels, 2 * height, 2 * width]`
pub fn pixel_shuffle(x: Tensor<4>) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    if channels_last(&x.device()) {
        return x
            .permute([0, 2, 3, 1])
            .reshape([batch, height, width, channels / 4, 2, 2])
            .permute([0, 1, 4, 2, 5, 3]) // [batch, height, 2, width, 2, channels / 4]
            .reshape([batch, 2 * height, 2 * width, channels / 4])
            .permute([0, 3, 1, 2]);
    }
    x.reshape([batch, channels / 4, 2, 2, height, width])
        .permute([0, 1, 4, 2, 5, 3]) // [batch, channels / 4, height, 2, width, 2]
        .reshape([batch, channels / 4, 2 * height, 2 * width])
}

/// Repeats each channel `repeats` times in a row.
///
/// # Shapes
/// - input `[batch, channels, height, width]`
/// - output `[batch, channels * repeats, height, width]`
pub fn repeat_channels(x: Tensor<4>, repeats: usize) -> Tensor<4> {
    if repeats == 1 {
        return x;
    }
    let [batch, channels, height, width] = x.dims();
    if channels_last(&x.device()) {
        return x
            .permute([0, 2, 3, 1])
            .reshape([batch, height, width, channels, 1])
            .expand([batch, height, width, channels, repeats])
            .reshape([batch, height, width, channels * repeats])
            .permute([0, 3, 1, 2]);
    }
    x.reshape([batch, channels, 1, height * width])
        .expand([batch, channels, repeats, height * width])
        .reshape([batch, channels * repeats, height, width])
}

/// `y` plus the shortcut of an upsampling block of DC-AE:
/// `y + pixel_shuffle(repeat_channels(x, repeats))`.
///
/// # Shapes
/// - `y` and result `[batch, channels, 2 * height, 2 * width]`
/// - `x` `[batch, 4 * channels / repeats, height, width]`
pub fn add_upsampled(y: Tensor<4>, x: Tensor<4>, repeats: usize) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if on_flex_untracked(&y) && on_flex_untracked(&x) && super::shapes::upsampled(&y, &x, repeats) {
        return super::inference::add_upsampled(y, x, repeats);
    }
    add_upsampled_plain(y, x, repeats)
}

/// [`add_upsampled`] in plain tensor operations.
pub fn add_upsampled_plain(y: Tensor<4>, x: Tensor<4>, repeats: usize) -> Tensor<4> {
    if repeats == 4 {
        return y + nearest_upsample_plain(x);
    }
    y + pixel_shuffle(repeat_channels(x, repeats))
}
