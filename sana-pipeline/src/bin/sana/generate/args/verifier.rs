//! What chooses among images, and how it is asked for.

#[cfg(feature = "metrics")]
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context;
use burn::tensor::Device;
use clap::Args;
#[cfg(feature = "metrics")]
use sana_pipeline::best_of::ClipVerifier;
use sana_pipeline::best_of::{CommandVerifier, SceneVerifier, SpriteVerifier, Verifier};
use sana_pipeline::sprites::SpriteSheet;

use crate::args::positive;
use crate::files::Files;

/// Of many images of one prompt the best.
#[derive(Debug, Args)]
#[command(next_help_heading = "Best of N")]
pub struct BestOfArgs {
    /// Generate N images of the prompt, on consecutive seeds, and keep what the verifier finds best;
    /// all of them are in the folder NAME-candidates, and their ratings in NAME-best-of.json
    #[arg(
        long,
        value_name = "N",
        requires = "verifier",
        conflicts_with_all = ["prompts", "count", "grid", "control_save"],
        allow_negative_numbers = true,
        value_parser = positive()
    )]
    pub best_of: Option<usize>,
    /// Images to keep [default: 1]
    #[arg(long, value_name = "K", requires = "best_of", allow_negative_numbers = true, value_parser = positive())]
    pub keep: Option<usize>,
    /// What rates the images: `scenes`, for prompts of the scene language; `sprites:DIR`, for prompts about
    /// the things in a folder that docs/tools/sprites/fetch makes; `clip:DIR`, the folder of a CLIP of
    /// transformers; or `command:PROGRAM`, a program that reads lines of JSON and answers each with its
    /// rating
    #[arg(long, value_name = "VERIFIER", requires = "best_of")]
    pub verifier: Option<VerifierName>,
}

/// A verifier, as it is typed.
#[derive(Debug, Clone)]
pub enum VerifierName {
    Scenes,
    Sprites(PathBuf),
    Clip(PathBuf),
    Command(String),
}

impl FromStr for VerifierName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "scenes" => Ok(Self::Scenes),
            Some(("command", program)) if !program.trim().is_empty() => {
                Ok(Self::Command(program.to_owned()))
            }
            Some(("sprites", folder)) if !folder.is_empty() => Ok(Self::Sprites(folder.into())),
            Some(("clip", folder)) if !folder.is_empty() => Ok(Self::Clip(folder.into())),
            _ => Err("expected scenes, sprites:DIR, clip:DIR or command:PROGRAM".to_owned()),
        }
    }
}

impl VerifierName {
    /// As it is typed.
    pub fn text(&self) -> String {
        match self {
            Self::Scenes => "scenes".to_owned(),
            Self::Sprites(folder) => format!("sprites:{}", folder.display()),
            Self::Clip(folder) => format!("clip:{}", folder.display()),
            Self::Command(program) => format!("command:{program}"),
        }
    }

    /// Whether it can rate images of this prompt, as far as can be known.
    pub fn check(&self, prompt: &str) -> anyhow::Result<()> {
        match self {
            Self::Scenes => {
                SceneVerifier::parse(prompt)?;
            }
            Self::Sprites(folder) => {
                SpriteVerifier::parse(prompt, &SpriteSheet::open(folder)?)?;
            }
            #[cfg(feature = "metrics")]
            Self::Clip(folder) => {
                let config = folder.join("config.json");
                let found = fs::metadata(&config);
                found.with_context(|| format!("cannot read {}", config.display()))?;
            }
            #[cfg(not(feature = "metrics"))]
            Self::Clip(_) => no_clip()?,
            _ => {}
        }
        Ok(())
    }

    /// Adds the files that it reads.
    pub fn add_files(&self, files: &mut Files) {
        match self {
            Self::Sprites(folder) => files.reads_folder(folder, "sprites"),
            Self::Clip(folder) => files.reads_folder(folder, "CLIP"),
            Self::Scenes | Self::Command(_) => {}
        }
    }

    /// Starts it. A network runs on the device; a program is a file of that name, or else its words are
    /// a program and arguments.
    #[cfg_attr(
        not(feature = "metrics"),
        expect(unused_variables, reason = "no network verifies")
    )]
    pub fn start(&self, device: &Device) -> anyhow::Result<Box<dyn Verifier>> {
        Ok(match self {
            Self::Scenes => Box::new(SceneVerifier),
            Self::Sprites(folder) => Box::new(SpriteVerifier::new(SpriteSheet::open(folder)?)),
            #[cfg(feature = "metrics")]
            Self::Clip(folder) => Box::new(ClipVerifier::load(folder, device)?),
            #[cfg(not(feature = "metrics"))]
            Self::Clip(_) => return no_clip(),
            Self::Command(line) => {
                let words: Vec<&str> = match Path::new(line).is_file() {
                    true => vec![line],
                    false => line.split_whitespace().collect(),
                };
                let (program, arguments) = words.split_first().context("no program")?;
                Box::new(CommandVerifier::start(program, arguments)?)
            }
        })
    }
}

#[cfg(not(feature = "metrics"))]
fn no_clip<T>() -> anyhow::Result<T> {
    anyhow::bail!("this build has no CLIP: build with the cargo feature metrics")
}
