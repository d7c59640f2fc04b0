//! The Inception-v3 of 2015 whose features FID is defined by.

mod blocks;

use std::path::Path;

use burn::module::Module;
use burn::tensor::module::{interpolate, max_pool2d};
use burn::tensor::ops::{InterpolateMode, InterpolateOptions, MaxPoolOptions};
use burn::tensor::{DType, Device, Tensor, TensorData};
use sana_linear_attn::{KeyMap, LoadOptions, TorchLinear, Weights, load_module};

use self::blocks::{Conv, ConvShape, MixedA, MixedB, MixedC, MixedD, MixedE};
use super::error::MetricsError;
use super::resample::{Filter, resize, shorter_side};
use crate::image::{RgbImage, host_values};

/// Width and height that the network takes.
const SIDE: usize = 299;
/// Classes of the network of 2015: 1000 and eight that are not used. torchvision's has 1000.
const CLASSES: usize = 1008;

/// Names as torchvision has them.
const KEY_MAP: KeyMap = KeyMap(&[("conv2d_", "Conv2d_"), ("mixed_", "Mixed_")]);

/// How an image becomes the square that FID's network resizes to 299 pixels. FIDs of two ways are
/// not comparable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FidResize {
    /// The shorter side to this many pixels, bilinear with antialiasing as Pillow does it, and the
    /// middle square of it: as Sana's `compute_fid.py`, with 512.
    ShorterSide(u32),
    /// The image as it is: as pytorch-fid.
    Whole,
}

impl std::fmt::Display for FidResize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Self::ShorterSide(side) = self {
            write!(
                f,
                "shorter side to {side}, bilinear with antialiasing, centre crop {side}x{side}; "
            )?;
        }
        write!(f, "{SIDE}x{SIDE}, bilinear without antialiasing")
    }
}

/// Inception-v3 as Google trained it in 2015 (`inception-2015-12-05`) and pytorch-fid converted it.
/// It computes in f32.
///
/// It differs from torchvision's network of the same names: average pools leave the padding out, the
/// last block has a max pool in place of one, and there are 1008 classes, of which nothing is used
/// here but their number, which distinguishes the weights.
#[derive(Debug)]
pub struct FidInception {
    network: Network,
    device: Device,
}

#[derive(Module, Debug)]
struct Network {
    conv2d_1a_3x3: Conv,
    conv2d_2a_3x3: Conv,
    conv2d_2b_3x3: Conv,
    conv2d_3b_1x1: Conv,
    conv2d_4a_3x3: Conv,
    mixed_5b: MixedA,
    mixed_5c: MixedA,
    mixed_5d: MixedA,
    mixed_6a: MixedB,
    mixed_6b: MixedC,
    mixed_6c: MixedC,
    mixed_6d: MixedC,
    mixed_6e: MixedC,
    mixed_7a: MixedD,
    mixed_7b: MixedE,
    mixed_7c: MixedE,
    fc: TorchLinear,
}

impl FidInception {
    /// Length of the features.
    pub const FEATURES: usize = 2048;

    /// Loads the weights from safetensors under torchvision's names, or from pytorch-fid's
    /// `pt_inception-2015-12-05-6726825d.pth`.
    ///
    /// # Errors
    /// [`MetricsError::Weights`] when the file cannot be read, or tensors are missing, unexpected or
    /// of another shape, as those of torchvision's own Inception are.
    pub fn load(path: &Path, device: &Device) -> Result<Self, MetricsError> {
        Self::from_weights(&Weights::open_file(path)?, device)
    }

    /// [`load`](Self::load) of opened weights.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn from_weights(weights: &Weights, device: &Device) -> Result<Self, MetricsError> {
        let options = LoadOptions {
            dtype: Some(DType::F32),
            key_map: KEY_MAP,
            // Counted in training.
            ignore: &[".num_batches_tracked"],
            ..LoadOptions::default()
        };
        Ok(Self {
            network: load_module(Network::new(device), weights, &options, device)?,
            device: device.clone(),
        })
    }

    /// The features of images, [`FEATURES`](Self::FEATURES) each.
    ///
    /// # Errors
    /// [`MetricsError::Pipeline`] when the values cannot be read, [`MetricsError::NotFinite`] for a
    /// feature that is not finite.
    pub fn features(
        &self,
        images: &[RgbImage],
        resize: FidResize,
    ) -> Result<Vec<Vec<f32>>, MetricsError> {
        if images.is_empty() {
            return Ok(Vec::new());
        }
        let pixels = images
            .iter()
            .map(|image| self.pixels(image, resize))
            .collect();
        let features = self.network.forward(Tensor::cat(pixels, 0));
        let features = host_values(features, "reading the features")?;
        if !features.iter().all(|value| value.is_finite()) {
            return Err(MetricsError::NotFinite {
                what: "feature of Inception",
            });
        }
        Ok(features
            .chunks(Self::FEATURES)
            .map(<[f32]>::to_vec)
            .collect())
    }

    /// # Shapes
    /// - output `[1, 3, 299, 299]`, values in [-1, 1]
    fn pixels(&self, image: &RgbImage, how: FidResize) -> Tensor<4> {
        let image = match how {
            FidResize::ShorterSide(side) => middle_square(image, side),
            FidResize::Whole => image.clone(),
        };
        let (width, height) = image.dimensions();
        let planes: Vec<f32> = (0..3)
            .flat_map(|channel| image.as_raw().iter().skip(channel).step_by(3))
            .map(|value| f32::from(*value) / 255.0)
            .collect();
        let shape = [1, 3, height as usize, width as usize];
        let pixels = Tensor::from_data(TensorData::new(planes, shape), (&self.device, DType::F32));
        let options = InterpolateOptions::new(InterpolateMode::Bilinear)
            .with_align_corners(false)
            .with_output_size([SIDE, SIDE]);
        interpolate(pixels, options) * 2.0 - 1.0
    }
}

/// The image with its shorter side resized, and of it the middle square: as torchvision's `Resize`
/// and `CenterCrop` of a Pillow image.
fn middle_square(image: &RgbImage, side: u32) -> RgbImage {
    let [width, height] = shorter_side(image, side);
    let [left, top] = [width, height].map(|length| {
        // Python rounds a half to the even neighbour.
        let odd = length - side;
        (odd / 2) + u32::from(odd % 4 == 3)
    });
    let kept = [left..left + side, top..top + side];
    resize(image, [width, height], kept, Filter::Bilinear)
}

impl Network {
    fn new(device: &Device) -> Self {
        let conv = |from, to, shape| Conv::new(from, to, shape, device);
        Self {
            conv2d_1a_3x3: conv(3, 32, ConvShape::square(3).stride(2)),
            conv2d_2a_3x3: conv(32, 32, ConvShape::square(3)),
            conv2d_2b_3x3: conv(32, 64, ConvShape::square(3).same()),
            conv2d_3b_1x1: conv(64, 80, ConvShape::square(1)),
            conv2d_4a_3x3: conv(80, 192, ConvShape::square(3)),
            mixed_5b: MixedA::new(192, 32, device),
            mixed_5c: MixedA::new(256, 64, device),
            mixed_5d: MixedA::new(288, 64, device),
            mixed_6a: MixedB::new(288, device),
            mixed_6b: MixedC::new(128, device),
            mixed_6c: MixedC::new(160, device),
            mixed_6d: MixedC::new(160, device),
            mixed_6e: MixedC::new(192, device),
            mixed_7a: MixedD::new(device),
            mixed_7b: MixedE::new(1280, blocks::Pool::Average, device),
            mixed_7c: MixedE::new(2048, blocks::Pool::Max, device),
            fc: TorchLinear::new(FidInception::FEATURES, CLASSES, true, device),
        }
    }

    /// # Shapes
    /// - input `[batch, 3, 299, 299]`, values in [-1, 1]
    /// - output `[batch, 2048]`
    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self.conv2d_1a_3x3.forward(x); // [batch, 32, 149, 149]
        let x = self.conv2d_2a_3x3.forward(x); // [batch, 32, 147, 147]
        let x = halved(self.conv2d_2b_3x3.forward(x)); // [batch, 64, 73, 73]
        let x = self.conv2d_3b_1x1.forward(x);
        let x = halved(self.conv2d_4a_3x3.forward(x)); // [batch, 192, 35, 35]
        let x = self.mixed_5b.forward(x);
        let x = self.mixed_5c.forward(x);
        let x = self.mixed_5d.forward(x); // [batch, 288, 35, 35]
        let x = self.mixed_6a.forward(x); // [batch, 768, 17, 17]
        let x = self.mixed_6b.forward(x);
        let x = self.mixed_6c.forward(x);
        let x = self.mixed_6d.forward(x);
        let x = self.mixed_6e.forward(x);
        let x = self.mixed_7a.forward(x); // [batch, 1280, 8, 8]
        let x = self.mixed_7b.forward(x);
        let x = self.mixed_7c.forward(x); // [batch, 2048, 8, 8]
        let [batch, channels, height, width] = x.dims();
        let means = x.reshape([batch, channels, height * width]).mean_dim(2);
        means.reshape([batch, channels])
    }
}

fn halved(x: Tensor<4>) -> Tensor<4> {
    max_pool2d(x, MaxPoolOptions::new([3, 3]).with_stride([2, 2]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `int(round((length - side) / 2))` of Python.
    #[test]
    fn crops_are_centred_as_torchvision_does() {
        for (length, first) in [(8, 0), (9, 0), (10, 1), (11, 2), (12, 2), (13, 2), (15, 4)] {
            let image = RgbImage::from_fn(length, 8, |x, _| image::Rgb([x as u8; 3]));
            assert_eq!(
                middle_square(&image, 8).get_pixel(0, 0).0[0],
                first,
                "{length}"
            );
            let turned = RgbImage::from_fn(8, length, |_, y| image::Rgb([y as u8; 3]));
            assert_eq!(
                middle_square(&turned, 8).get_pixel(0, 0).0[0],
                first,
                "{length}"
            );
        }
    }
}
