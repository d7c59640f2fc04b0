//! Options of the second pass of `sana generate`.

use clap::Args;
use sana_pipeline::Request;
use sana_pipeline::request::Settings;
use serde::Serialize;

use crate::args::as_typed;

/// A second pass at a larger size.
#[derive(Debug, Clone, Default, PartialEq, Args, Serialize)]
#[command(next_help_heading = "Second pass")]
#[serde(rename_all = "kebab-case")]
pub struct HiresArgs {
    /// Enlarge the image to SCALE times both sides, above 1 and up to 8, and regenerate its details there by
    /// image to image; --size is that of the first pass
    #[arg(
        long,
        value_name = "SCALE",
        conflicts_with_all = ["mask", "bucket"],
        allow_negative_numbers = true
    )]
    #[serde(serialize_with = "as_typed")]
    hires: Option<f64>,
    /// How far the second pass may depart from the enlarged image, above 0 and up to 1: this share of
    /// the steps runs [default: 0.5]
    #[arg(
        long,
        value_name = "S",
        requires = "hires",
        allow_negative_numbers = true
    )]
    #[serde(serialize_with = "as_typed")]
    hires_strength: Option<f64>,
}

impl HiresArgs {
    /// Adds them to the request.
    pub fn apply(&self, mut request: Request) -> Request {
        if let Some(scale) = self.hires {
            request = request.hires(scale);
        }
        if let Some(strength) = self.hires_strength {
            request = request.hires_strength(strength);
        }
        request
    }

    /// Sides of the result as multiples of those of the first pass.
    pub fn scale(&self) -> Option<f64> {
        self.hires
    }

    /// How far the second pass may depart from the first.
    pub fn strength(&self) -> Option<f64> {
        self.hires_strength
    }

    /// Whether there is a second pass.
    pub fn is_given(&self) -> bool {
        self.hires.is_some()
    }

    /// These, and those of `below` for what is not given here.
    pub fn or(self, below: Self) -> Self {
        Self {
            hires: self.hires.or(below.hires),
            hires_strength: self.hires_strength.or(below.hires_strength),
        }
    }

    /// As they were applied.
    pub fn applied(settings: &Settings) -> Self {
        Self {
            hires: settings.hires.map(|hires| hires.scale),
            hires_strength: settings.hires.map(|hires| hires.strength),
        }
    }
}
