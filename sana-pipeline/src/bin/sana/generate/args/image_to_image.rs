//! Options of `sana generate` that start from an image.

use std::path::{Path, PathBuf};

use clap::Args;
use sana_pipeline::request::Settings;
use sana_pipeline::{Request, image};
use serde::Serialize;

use crate::args::{Color, as_typed, path_as_typed};
use crate::files::Files;

/// Image to image and inpainting.
#[derive(Debug, Clone, Default, PartialEq, Args, Serialize)]
#[command(next_help_heading = "Image to image and inpainting")]
#[serde(rename_all = "kebab-case")]
pub struct ImageToImageArgs {
    /// Image to start from, PNG, JPEG or WebP, fitted to the size [default size: that of the image, at
    /// most as many pixels as the model was trained at]
    #[arg(long, value_name = "FILE")]
    #[serde(serialize_with = "path_as_typed")]
    pub image: Option<PathBuf>,
    /// What transparent pixels of --image and --control are put on: RRGGBB, white or black [default:
    /// white]
    #[arg(long, value_name = "COLOR")]
    #[serde(serialize_with = "as_typed")]
    background: Option<Color>,
    /// How far the result may be from the image, above 0 and up to 1: this share of the steps runs
    /// [default: 0.6, with --mask 1]
    #[arg(
        long,
        value_name = "S",
        requires = "image",
        allow_negative_numbers = true
    )]
    #[serde(serialize_with = "as_typed")]
    strength: Option<f64>,
    /// Mask of the size of --image: white is regenerated, black and transparent is kept
    #[arg(long, value_name = "FILE", requires = "image")]
    #[serde(serialize_with = "path_as_typed")]
    mask: Option<PathBuf>,
    /// Pixels around the white over which the new image fades into the old one [default: 0]
    #[arg(long, value_name = "PIXELS", requires = "mask")]
    mask_feather: Option<u32>,
}

impl ImageToImageArgs {
    /// Reads the images and adds everything to the request.
    pub fn apply(&self, mut request: Request) -> anyhow::Result<Request> {
        if let Some(path) = &self.image {
            request = request.image(image::load_over(path, self.background())?);
        }
        if let Some(strength) = self.strength {
            request = request.strength(strength);
        }
        if let Some(path) = &self.mask {
            request = request.mask(image::load_mask(path)?);
        }
        if let Some(pixels) = self.mask_feather {
            request = request.mask_feather(pixels);
        }
        Ok(request)
    }

    /// The image to start from.
    pub fn image(&self) -> Option<&Path> {
        self.image.as_deref()
    }

    /// Whether a mask keeps a part of the image.
    pub fn has_mask(&self) -> bool {
        self.mask.is_some()
    }

    /// Whether it was said what transparent pixels are put on.
    pub fn has_background(&self) -> bool {
        self.background.is_some()
    }

    /// What transparent pixels of images are put on.
    pub fn background(&self) -> [u8; 3] {
        self.background.map_or([255; 3], |color| color.0)
    }

    /// Adds the images that are read.
    pub fn add_files(&self, files: &mut Files) {
        if let Some(path) = &self.image {
            files.reads(path, "the image of --image");
        }
        if let Some(path) = &self.mask {
            files.reads(path, "the mask");
        }
    }

    /// These, and those of `below` for what is not given here.
    pub fn or(self, below: Self) -> Self {
        Self {
            image: self.image.or(below.image),
            background: self.background.or(below.background),
            strength: self.strength.or(below.strength),
            mask: self.mask.or(below.mask),
            mask_feather: self.mask_feather.or(below.mask_feather),
        }
    }

    /// As they were applied.
    pub fn applied(&self, settings: &Settings) -> Self {
        let (Some(image), Some(applied)) = (&self.image, settings.image_to_image) else {
            return Self {
                background: self.background.filter(|_| settings.control.is_some()),
                ..Self::default()
            };
        };
        Self {
            image: Some(image.clone()),
            background: self.background,
            strength: Some(applied.strength),
            mask: self.mask.clone(),
            mask_feather: self.mask.is_some().then_some(applied.feather),
        }
    }
}
