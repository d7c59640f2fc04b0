use burn::tensor::{Device, Tensor};

/// Whether the convolutions of a device leave the channels of an image innermost in memory, as
/// burn's on GPUs do. There an image is put in order as `[batch, height, width, channels]`: what
/// moves its pixels then reads and writes whole rows of channels, and the next convolution finds
/// what it would else have to copy.
pub fn channels_last(device: &Device) -> bool {
    #[cfg(feature = "cubecl-backend")]
    return crate::kernels::cube::backend::supports::is_gpu(device);
    #[cfg(not(feature = "cubecl-backend"))]
    {
        let _ = device;
        false
    }
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
