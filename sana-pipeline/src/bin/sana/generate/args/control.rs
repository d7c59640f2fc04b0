//! Options of the control image, of `sana generate`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context;
use clap::{Args, ValueEnum};
use sana_pipeline::image::{Canny, FileFormat, edges};
use sana_pipeline::request::Settings;
use sana_pipeline::transformer::ControlWiring;
use sana_pipeline::{Request, SanaPipeline, image};
use serde::Serialize;

use crate::args::{as_typed, path_as_typed};
use crate::files::Files;

/// An image that the generated one follows, by a ControlNet.
#[derive(Debug, Clone, Default, PartialEq, Args, Serialize)]
#[command(next_help_heading = "ControlNet")]
#[serde(rename_all = "kebab-case")]
pub struct ControlArgs {
    /// Control image, PNG, JPEG or WebP, such as white lines on black; it is fitted to the size
    #[arg(long, value_name = "IMG")]
    #[serde(serialize_with = "path_as_typed")]
    pub control: Option<PathBuf>,
    /// How strongly the control image is followed; 0 is not at all [default: 1]
    #[arg(
        long,
        value_name = "X",
        requires = "control",
        allow_negative_numbers = true
    )]
    #[serde(serialize_with = "as_typed")]
    control_scale: Option<f64>,
    /// Apply the ControlNet in these of the steps only, as shares of all of them [default: 0..1]
    #[arg(long, value_name = "FROM..TO", requires = "control")]
    #[serde(serialize_with = "as_typed")]
    control_interval: Option<Shares>,
    /// Make the control image from an ordinary one
    #[arg(long, value_name = "WAY", requires = "control", value_enum)]
    control_from: Option<Extractor>,
}

/// How an ordinary image becomes a control image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Extractor {
    /// Its edges (Canny), white on black
    Edges,
}

/// Where the blocks of a ControlNet sit between the model's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wiring {
    /// As in diffusers
    Diffusers,
    /// As in the authors' code, by which the released ones were trained
    Original,
}

impl From<Wiring> for ControlWiring {
    fn from(wiring: Wiring) -> Self {
        match wiring {
            Wiring::Diffusers => Self::Diffusers,
            Wiring::Original => Self::Original,
        }
    }
}

/// Shares of the steps, written `FROM..TO`; their range is checked with the rest of the request.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Shares {
    start: f64,
    end: f64,
}

impl FromStr for Shares {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let share = |text: &str| text.trim().parse::<f64>().ok();
        let shares = text.split_once("..").and_then(|(start, end)| {
            let (start, end) = share(start).zip(share(end))?;
            Some(Self { start, end })
        });
        shares.ok_or("expected FROM..TO with shares of the steps, such as 0..0.5".to_owned())
    }
}

impl fmt::Display for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

/// Checks before the work that the control image can be kept at `path`, where no other file of the
/// run is.
pub fn check_writable(path: &Path, files: &mut Files) -> anyhow::Result<()> {
    files.writes(path, "--control-save", "the control image that is kept")?;
    FileFormat::of(path).with_context(|| format!("--control-save {}", path.display()))?;
    Ok(image::check_writable(path)?)
}

impl ControlArgs {
    /// The request with the control image of its size, which is written to `save` if it is given.
    pub fn apply(
        &self,
        mut request: Request,
        pipeline: &SanaPipeline,
        background: [u8; 3],
        save: Option<&Path>,
    ) -> anyhow::Result<Request> {
        let Some(path) = &self.control else {
            return Ok(request);
        };
        let image = image::load_over(path, background)?;
        if let Some(scale) = self.control_scale {
            request = request.control_scale(scale);
        }
        if let Some(Shares { start, end }) = self.control_interval {
            request = request.control_interval(start, end);
        }
        request = request.control(image.clone());
        let settings = request.validate(pipeline.spec())?;
        let fitted = image::fit(&image, settings.width as u32, settings.height as u32);
        let fitted = match self.control_from {
            Some(Extractor::Edges) => edges(&fitted, &Canny::default()),
            None => fitted,
        };
        if let Some(path) = save {
            image::save(path, &fitted, &[])?;
        }
        Ok(request.control(fitted))
    }

    /// These, and those of `below` for what is not given here.
    pub fn or(self, below: Self) -> Self {
        Self {
            control: self.control.or(below.control),
            control_scale: self.control_scale.or(below.control_scale),
            control_interval: self.control_interval.or(below.control_interval),
            control_from: self.control_from.or(below.control_from),
        }
    }

    /// As they were applied.
    pub fn applied(&self, settings: &Settings) -> Self {
        let (Some(control), Some(path)) = (settings.control, &self.control) else {
            return Self::default();
        };
        let shares = Shares {
            start: control.start,
            end: control.end,
        };
        let all = Shares {
            start: 0.0,
            end: 1.0,
        };
        Self {
            control: Some(path.clone()),
            control_scale: Some(control.scale),
            control_interval: (shares != all).then_some(shares),
            control_from: self.control_from,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_the_steps() {
        let shares = |start, end| Ok(Shares { start, end });
        assert_eq!("0..0.5".parse(), shares(0.0, 0.5));
        assert_eq!(" 0.25 .. 1".parse(), shares(0.25, 1.0));
        assert_eq!(shares(0.25, 1.0).unwrap().to_string(), "0.25..1");
        for wrong in ["", "..", "0.5", "0..", "a..b", "0..1..2"] {
            let error = wrong.parse::<Shares>().unwrap_err();
            assert!(error.contains("FROM..TO"), "{wrong}");
        }
    }
}
