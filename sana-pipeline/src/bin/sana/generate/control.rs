//! Options of control pictures, of `sana generate`.

use std::path::PathBuf;

use anyhow::bail;
use clap::{Args, ValueEnum};
use sana_pipeline::image::{Canny, edges};
use sana_pipeline::{Request, SanaPipeline, Settings, image};

/// A picture that the generated one follows, by a ControlNet.
#[derive(Debug, Args)]
#[command(next_help_heading = "Control")]
pub struct ControlArgs {
    /// Picture to follow, PNG or JPEG, such as white lines on black; it is fitted to the size
    #[arg(long, value_name = "IMG")]
    control: Option<PathBuf>,
    /// Folder of the ControlNet [default: the one in the model's folder]
    #[arg(long, value_name = "DIR", requires = "control")]
    controlnet: Option<PathBuf>,
    /// How strongly the picture is followed; 0 is not at all [default: 1]
    #[arg(
        long,
        value_name = "X",
        requires = "control",
        allow_negative_numbers = true
    )]
    control_scale: Option<f64>,
    /// Follow it in these of the steps only, as shares of all of them [default: 0..1]
    #[arg(long, value_name = "FROM..TO", requires = "control", value_parser = shares)]
    control_interval: Option<[f64; 2]>,
    /// The picture is an ordinary one: make the control picture of it
    #[arg(long, value_name = "WAY", requires = "control", value_enum)]
    control_from: Option<Extractor>,
    /// File to keep the control picture in, as the ControlNet is given it
    #[arg(long, value_name = "PATH", requires = "control")]
    control_save: Option<PathBuf>,
}

/// How an ordinary picture becomes a control picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Extractor {
    /// Its edges (Canny), white on black
    Edges,
}

/// Shares of the steps, written `FROM..TO`; their range is checked with the rest of the request.
fn shares(text: &str) -> Result<[f64; 2], String> {
    let share = |text: &str| text.trim().parse::<f64>().ok();
    text.split_once("..")
        .and_then(|(start, end)| Some([share(start)?, share(end)?]))
        .ok_or_else(|| "expected FROM..TO with shares of the steps, such as 0..0.5".to_owned())
}

impl ControlArgs {
    /// Folder of the ControlNet, where one is named.
    pub fn controlnet(&self) -> Option<PathBuf> {
        self.controlnet.clone()
    }

    /// File of the control picture, where it is kept.
    pub fn saved(&self) -> Option<&PathBuf> {
        self.control_save.as_ref()
    }

    /// Checks before the work that the control picture can be kept, beside the pictures that are
    /// made.
    pub fn check_writable(&self, pictures: &[PathBuf]) -> anyhow::Result<()> {
        let Some(path) = &self.control_save else {
            return Ok(());
        };
        if pictures.contains(path) {
            bail!(
                "--control-save names the file that the picture goes to: {}",
                path.display()
            );
        }
        if !path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("png"))
        {
            bail!(
                "the control picture is written as PNG, so --control-save must end in .png: {}",
                path.display()
            );
        }
        Ok(image::check_writable(path)?)
    }

    /// The request with the control picture of its size, which is kept where that was asked for.
    pub fn apply(&self, mut request: Request, pipeline: &SanaPipeline) -> anyhow::Result<Request> {
        let Some(path) = &self.control else {
            return Ok(request);
        };
        let picture = image::load(path)?;
        if let Some(scale) = self.control_scale {
            request = request.control_scale(scale);
        }
        if let Some([start, end]) = self.control_interval {
            request = request.control_interval(start, end);
        }
        request = request.control(picture.clone());
        let settings = request.validate(pipeline)?;
        let fitted = image::fit(&picture, settings.width as u32, settings.height as u32);
        let fitted = match self.control_from {
            Some(Extractor::Edges) => edges(&fitted, &Canny::default()),
            None => fitted,
        };
        if let Some(path) = &self.control_save {
            image::save_png(path, &fitted, &[])?;
        }
        Ok(request.control(fitted))
    }

    /// What is recorded of it: options and their values.
    pub fn record(&self, settings: &Settings) -> Vec<(&'static str, String)> {
        let (Some(control), Some(path)) = (settings.control, &self.control) else {
            return Vec::new();
        };
        let mut pairs = vec![("control", path.display().to_string())];
        if let Some(folder) = &self.controlnet {
            pairs.push(("controlnet", folder.display().to_string()));
        }
        pairs.push(("control-scale", control.scale.to_string()));
        if [control.start, control.end] != [0.0, 1.0] {
            let shares = format!("{}..{}", control.start, control.end);
            pairs.push(("control-interval", shares));
        }
        if let Some(Extractor::Edges) = self.control_from {
            pairs.push(("control-from", "edges".to_owned()));
        }
        pairs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_the_steps() {
        assert_eq!(shares("0..0.5"), Ok([0.0, 0.5]));
        assert_eq!(shares(" 0.25 .. 1"), Ok([0.25, 1.0]));
        for wrong in ["", "..", "0.5", "0..", "a..b", "0..1..2"] {
            assert!(shares(wrong).unwrap_err().contains("FROM..TO"), "{wrong}");
        }
    }
}
