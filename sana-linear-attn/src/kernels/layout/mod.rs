pub(super) mod pixels;
use burn::tensor::Tensor;

#[cfg(feature = "flex")]
use super::flex;
use super::plain;
use crate::kernels::layout::pixels::channels_last;

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
    if flex::backend::supports::untracked(&x) {
        return flex::backend::inference::transpose(x);
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
    if flex::backend::supports::untracked(&x) {
        return flex::backend::inference::upsample(x);
    }
    plain::nearest_upsample(x)
}

/// `y` plus the shortcut of an upsampling block of DC-AE:
/// `y + pixel_shuffle(repeat_channels(x, repeats))`.
///
/// # Shapes
/// - `y` and result `[batch, channels, 2 * height, 2 * width]`
/// - `x` `[batch, 4 * channels / repeats, height, width]`
pub fn add_upsampled(y: Tensor<4>, x: Tensor<4>, repeats: usize) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if flex::backend::supports::add_upsampled(&y, &x, repeats) {
        return flex::backend::inference::add_upsampled(y, x, repeats);
    }
    plain::add_upsampled(y, x, repeats)
}
