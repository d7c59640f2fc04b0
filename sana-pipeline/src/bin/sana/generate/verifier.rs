//! What chooses among images, and how it is asked for.

use std::path::Path;
use std::str::FromStr;

use anyhow::Context;
use clap::Args;
use sana_pipeline::best_of::{CommandVerifier, SceneVerifier, Verifier};

use crate::args::positive;

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
    /// What rates the images: `scenes`, for prompts of the scene language, or `command:PROGRAM`, a
    /// program that reads lines of JSON and answers each with its rating
    #[arg(long, value_name = "VERIFIER", requires = "best_of")]
    pub verifier: Option<VerifierName>,
}

/// A verifier, as it is typed.
#[derive(Debug, Clone)]
pub enum VerifierName {
    Scenes,
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
            Some(("clip", _)) => Err(
                "no verifier uses CLIP yet: give scenes, or a program with command:PROGRAM"
                    .to_owned(),
            ),
            _ => Err("expected scenes or command:PROGRAM".to_owned()),
        }
    }
}

impl VerifierName {
    /// As it is typed.
    pub fn text(&self) -> String {
        match self {
            Self::Scenes => "scenes".to_owned(),
            Self::Command(program) => format!("command:{program}"),
        }
    }

    /// Whether it can rate images of this prompt, as far as can be known.
    pub fn check(&self, prompt: &str) -> anyhow::Result<()> {
        if let Self::Scenes = self {
            SceneVerifier::parse(prompt)?;
        }
        Ok(())
    }

    /// Starts it. A program is a file of that name, or else its words are a program and arguments.
    pub fn start(&self) -> anyhow::Result<Box<dyn Verifier>> {
        Ok(match self {
            Self::Scenes => Box::new(SceneVerifier),
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
