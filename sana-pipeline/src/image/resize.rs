//! Decoded images of another size, as the reference resizes what it made in a bucket.

use burn::tensor::{Device, Int, Tensor, TensorData};

/// Resizes images so that they cover a size, and cuts off what sticks out on both sides.
///
/// Bilinear between the pixels' centres, without a filter against aliasing: output pixel `i` is
/// read at `(i + 1/2) in / out - 1/2`, not beyond the first and last pixel. Sides are rounded down
/// after scaling, but not below the size that is asked for, which the reference cuts short where
/// its product comes out just under a whole number.
///
/// # Shapes
/// - images `[batch, channels, height, width]`
/// - result `[batch, channels, height, width]` of the size that is asked for
pub(crate) fn resize_and_crop(images: Tensor<4>, [width, height]: [usize; 2]) -> Tensor<4> {
    let [_, _, rows, columns] = images.dims();
    if [rows, columns] == [height, width] {
        return images;
    }
    let ratio = f64::max(height as f64 / rows as f64, width as f64 / columns as f64);
    let resized = |length: usize, least: usize| ((length as f64 * ratio) as usize).max(least);
    let device = images.device();
    let vertical = Samples::new(rows, resized(rows, height), height);
    let horizontal = Samples::new(columns, resized(columns, width), width);
    let images = vertical.read(images, 2, &device);
    horizontal.read(images, 3, &device)
}

/// Where the pixels of a resized and cropped axis are read.
struct Samples {
    below: Vec<i64>,
    above: Vec<i64>,
    /// Weight of `above`.
    weights: Vec<f32>,
}

impl Samples {
    /// The middle `kept` of `resized` pixels that an axis of `length` is resized to.
    fn new(length: usize, resized: usize, kept: usize) -> Self {
        let first = (resized - kept) / 2;
        let scale = length as f64 / resized as f64;
        let mut samples = Self {
            below: Vec::with_capacity(kept),
            above: Vec::with_capacity(kept),
            weights: Vec::with_capacity(kept),
        };
        for pixel in first..first + kept {
            let place = (scale * (pixel as f64 + 0.5) - 0.5).max(0.0);
            let below = (place as usize).min(length - 1);
            samples.below.push(below as i64);
            samples.above.push((below + 1).min(length - 1) as i64);
            samples.weights.push((place - below as f64) as f32);
        }
        samples
    }

    fn read(&self, x: Tensor<4>, axis: usize, device: &Device) -> Tensor<4> {
        let mut broadcast = [1; 4];
        broadcast[axis] = self.weights.len();
        let weights = TensorData::new(self.weights.clone(), broadcast);
        let weights = Tensor::<4>::from_data(weights, (device, x.dtype()));
        let [below, above] = [&self.below, &self.above]
            .map(|indices| Tensor::<1, Int>::from_ints(indices.as_slice(), device));
        let below = x.clone().select(axis, below);
        let above = x.select(axis, above);
        below.clone() + (above - below) * weights
    }
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use super::*;
    use sana_linear_attn::parity::values;

    fn image<const N: usize>(rows: &[[f32; N]]) -> Tensor<4> {
        let shape = [1, 1, rows.len(), N];
        Tensor::from_data(TensorData::new(rows.concat(), shape), &Device::flex())
    }

    /// PyTorch's own example of `Upsample(scale_factor=2, mode="bilinear", align_corners=False)`.
    #[test]
    fn doubling_is_pytorch_s() {
        let doubled = resize_and_crop(image(&[[1.0, 2.0], [3.0, 4.0]]), [4, 4]);
        let expected = [
            [1.0, 1.25, 1.75, 2.0],
            [1.5, 1.75, 2.25, 2.5],
            [2.5, 2.75, 3.25, 3.5],
            [3.0, 3.25, 3.75, 4.0],
        ];
        assert_eq!(values(doubled), expected.concat());
    }

    #[test]
    fn the_middle_is_kept() {
        let ramp = image(&[[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]; 2]);
        assert_eq!(
            values(resize_and_crop(ramp.clone(), [6, 2])),
            values(ramp.clone())
        );
        assert_eq!(
            values(resize_and_crop(ramp.clone(), [2, 2])),
            [2.0, 3.0, 2.0, 3.0]
        );
        // One column more than can be cut evenly: it is cut on the right.
        assert_eq!(
            values(resize_and_crop(ramp.clone(), [3, 2]))[..3],
            [1.0, 2.0, 3.0]
        );
        // Twice as high, so twelve wide, of which columns 5 and 6 are read at 2.25 and 2.75.
        let tall = resize_and_crop(ramp, [2, 4]);
        assert_eq!(tall.dims(), [1, 1, 4, 2]);
        assert_eq!(values(tall)[..2], [2.25, 2.75]);
    }

    #[test]
    fn shrinking_reads_between_pixels() {
        let ramp = image(&[[0.0, 1.0, 2.0, 3.0]; 4]);
        assert_eq!(
            values(resize_and_crop(ramp.clone(), [2, 2]))[..2],
            [0.5, 2.5]
        );
        assert_eq!(values(resize_and_crop(ramp, [1, 1])), [1.5]);
    }

    /// Every size comes out as asked for, also where the scaled side falls just short of it.
    #[test]
    fn sizes_are_as_asked_for() {
        let wide = Tensor::<4>::zeros([1, 1, 24, 42], &Device::flex());
        for width in 1..60 {
            for height in [1, 7, 24, 49] {
                let dims = resize_and_crop(wide.clone(), [width, height]).dims();
                assert_eq!(dims, [1, 1, height, width]);
            }
        }
    }
}
