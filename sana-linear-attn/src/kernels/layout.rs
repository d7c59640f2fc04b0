use burn::tensor::Tensor;

#[cfg(feature = "flex")]
use super::on_flex_untracked;

/// The pixels of an image as tokens.
///
/// # Shapes
/// - `x` `[batch, channels, height, width]`
/// - result `[batch, height * width, channels]`
pub fn image_to_tokens(x: Tensor<4>) -> Tensor<3> {
    let [batch, channels, height, width] = x.dims();
    transpose(x.reshape([batch, channels, height * width]))
}

/// The inverse of [`image_to_tokens`].
///
/// # Shapes
/// - `x` `[batch, height * width, channels]`
/// - result `[batch, channels, height, width]`
pub fn tokens_to_image(x: Tensor<3>, [height, width]: [usize; 2]) -> Tensor<4> {
    let [batch, _, channels] = x.dims();
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
    x.reshape([batch, channels, height, 1, width, 1])
        .expand([batch, channels, height, 2, width, 2])
        .reshape([batch, channels, 2 * height, 2 * width])
}
