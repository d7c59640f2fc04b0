//! Options of `sana generate` that start from a picture, and the schedule by name.

use std::path::PathBuf;

use clap::Args;
use sana_pipeline::{Request, Settings, image};
use sana_sampler::ScmTimesteps;

/// Image-to-image and inpainting.
#[derive(Debug, Args)]
#[command(next_help_heading = "Picture to picture")]
pub struct EditArgs {
    /// Picture to start from, PNG or JPEG, fitted to the size [default size: that of the picture,
    /// at most as many pixels as the model was trained at]
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// How far the result may be from the picture, above 0 and up to 1: this part of the steps runs
    /// [default: 0.6, with --mask 1]
    #[arg(
        long,
        value_name = "S",
        requires = "image",
        allow_negative_numbers = true
    )]
    strength: Option<f64>,
    /// Picture of the size of --image: what is white is drawn anew, what is black stays
    #[arg(long, value_name = "FILE", requires = "image")]
    mask: Option<PathBuf>,
    /// Pixels around the white over which the new fades into the old [default: 0]
    #[arg(long, value_name = "PIXELS", requires = "mask")]
    mask_feather: Option<u32>,
    /// Times of the steps of Sana-Sprint: reference (as the diffusers library has them) or paper (as
    /// published, for 1, 2 and 4 steps) [default: reference]
    #[arg(long, value_name = "NAME", help_heading = None)]
    schedule: Option<ScmTimesteps>,
}

impl EditArgs {
    /// Reads the pictures and adds everything to the request.
    pub fn apply(&self, mut request: Request) -> anyhow::Result<Request> {
        if let Some(path) = &self.image {
            request = request.image(image::load(path)?);
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
        if let Some(times) = self.schedule {
            request = request.times(times);
        }
        Ok(request)
    }

    /// What is recorded in the picture, the paths as they were given.
    pub fn recorded(&self, settings: &Settings) -> Vec<(&'static str, String)> {
        let mut pairs = Vec::new();
        let file = |path: &PathBuf| path.display().to_string();
        if let Some((path, edit)) = self.image.as_ref().zip(settings.editing) {
            pairs.push(("image", file(path)));
            pairs.push(("strength", edit.strength.to_string()));
            if let Some(path) = &self.mask {
                pairs.push(("mask", file(path)));
                pairs.push(("mask-feather", edit.feather.to_string()));
            }
        }
        if let Some(times) = self.schedule {
            pairs.push(("schedule", times.to_string()));
        }
        pairs
    }
}
