//! Images as CLIP was trained to see them.

use std::fmt;

use burn::tensor::{DType, Device, Tensor, TensorData};
use serde::Deserialize;

use crate::image::RgbImage;
use crate::quality::metrics::resample::{Filter, resize, shorter_side};

/// `preprocessor_config.json`. Keys and defaults are those of transformers' `CLIPImageProcessor`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub(super) struct Preprocessor {
    do_resize: bool,
    size: Size,
    /// Number of a filter of Pillow's.
    resample: u32,
    do_center_crop: bool,
    crop_size: CropSize,
    do_rescale: bool,
    rescale_factor: f64,
    do_normalize: bool,
    image_mean: [f64; 3],
    image_std: [f64; 3],
}

/// What an image is resized to.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Size {
    /// Its shorter side, in files of older versions.
    Number(u32),
    Shortest {
        shortest_edge: u32,
    },
    Both {
        height: u32,
        width: u32,
    },
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
enum CropSize {
    Number(u32),
    Both { height: u32, width: u32 },
}

impl Default for Preprocessor {
    fn default() -> Self {
        Self {
            do_resize: true,
            size: Size::Number(224),
            resample: 3,
            do_center_crop: true,
            crop_size: CropSize::Number(224),
            do_rescale: true,
            rescale_factor: 1.0 / 255.0,
            do_normalize: true,
            image_mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
            image_std: [0.268_629_54, 0.261_302_58, 0.275_777_11],
        }
    }
}

impl Preprocessor {
    /// Checks that pixels come out as a network for images of `side` takes them.
    pub fn validate(&self, side: usize) -> Result<(), String> {
        let [width, height] = self.crop();
        if [width as usize, height as usize] != [side; 2] {
            return Err(format!(
                "images are cropped to {width}x{height}, and the network takes {side}x{side}"
            ));
        }
        let (least_width, least_height) = match self.size {
            Size::Number(side)
            | Size::Shortest {
                shortest_edge: side,
            } => (side, side),
            Size::Both { height, width } => (width, height),
        };
        if least_width < width || least_height < height {
            return Err(format!(
                "images are resized to {least_width}x{least_height}, which is less than the \
                 {width}x{height} of the crop"
            ));
        }
        if least_width.max(least_height) as usize > crate::image::LARGEST_SIDE {
            return Err(format!(
                "images are resized to {least_width}x{least_height}"
            ));
        }
        if !(self.do_resize && self.do_center_crop && self.do_rescale && self.do_normalize) {
            return Err(
                "do_resize, do_center_crop, do_rescale and do_normalize must all be true"
                    .to_owned(),
            );
        }
        if !matches!(self.resample, 2 | 3) {
            return Err(format!(
                "resample must be 2 (bilinear) or 3 (bicubic), got {}",
                self.resample
            ));
        }
        let stds = self
            .image_std
            .iter()
            .all(|std| std.is_finite() && *std > 0.0);
        if !(stds && self.rescale_factor.is_finite()) {
            return Err("image_std must be positive, rescale_factor finite".to_owned());
        }
        Ok(())
    }

    fn crop(&self) -> [u32; 2] {
        match self.crop_size {
            CropSize::Number(side) => [side; 2],
            CropSize::Both { height, width } => [width, height],
        }
    }

    fn filter(&self) -> Filter {
        match self.resample {
            2 => Filter::Bilinear,
            _ => Filter::Bicubic,
        }
    }

    /// # Shapes
    /// - output `[1, 3, height, width]` in f32
    pub fn pixels(&self, image: &RgbImage, device: &Device) -> Tensor<4> {
        let [width, height] = match self.size {
            Size::Number(side)
            | Size::Shortest {
                shortest_edge: side,
            } => shorter_side(image, side),
            Size::Both { height, width } => [width, height],
        };
        let [columns, rows] = self.crop();
        let [left, top] = [(width - columns) / 2, (height - rows) / 2];
        let kept = [left..left + columns, top..top + rows];
        let resized = resize(image, [width, height], kept, self.filter());
        let mut values = Vec::with_capacity(3 * (columns * rows) as usize);
        for (channel, (mean, std)) in self.image_mean.iter().zip(self.image_std).enumerate() {
            values.extend(resized.pixels().map(|pixel| {
                let value = f64::from(pixel.0[channel]) * self.rescale_factor;
                ((value - mean) / std) as f32
            }));
        }
        let shape = [1, 3, rows as usize, columns as usize];
        Tensor::from_data(TensorData::new(values, shape), (device, DType::F32))
    }
}

impl fmt::Display for Preprocessor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let filter = match self.filter() {
            Filter::Bilinear => "bilinear",
            Filter::Bicubic => "bicubic",
        };
        match self.size {
            Size::Number(side)
            | Size::Shortest {
                shortest_edge: side,
            } => {
                write!(f, "shorter side to {side}")?;
            }
            Size::Both { height, width } => write!(f, "{width}x{height}")?,
        }
        let [width, height] = self.crop();
        write!(
            f,
            ", {filter} with antialiasing, centre crop {width}x{height}"
        )
    }
}
