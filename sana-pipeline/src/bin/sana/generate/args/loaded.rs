//! Options of what is loaded once for all images of a run.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::control::Wiring;
use crate::args::{LoraArgs, ModelArgs, ResourceArgs, path_as_typed};
use crate::files::Files;
use crate::model::{Controlled, Model};

/// What is loaded once for all images of a run.
#[derive(Debug, Clone, Default, PartialEq, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LoadedArgs {
    #[command(flatten)]
    #[serde(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub lora: LoraArgs,
    /// Folder of the ControlNet [default: the one in the model's folder]
    #[arg(
        long,
        value_name = "DIR",
        requires = "control",
        help_heading = "ControlNet"
    )]
    #[serde(serialize_with = "path_as_typed")]
    pub controlnet: Option<PathBuf>,
    /// Where the ControlNet is joined to the model [default: as its config says, or diffusers]
    #[arg(
        long,
        value_name = "WIRING",
        requires = "control",
        help_heading = "ControlNet"
    )]
    pub control_wiring: Option<Wiring>,
}

impl LoadedArgs {
    /// Adds the files of weights.
    pub fn add_files(&self, files: &mut Files) {
        self.model.add_files(files);
        for lora in &self.lora.lora {
            files.reads_folder(&lora.path, "a LoRA");
        }
        if let Some(path) = &self.controlnet {
            files.reads_folder(path, "the ControlNet");
        }
    }

    /// Opens the model; weights are read when they are first needed.
    pub fn open(&self, resources: &ResourceArgs) -> anyhow::Result<Model> {
        let controlnet = Controlled {
            folder: self.controlnet.clone(),
            wiring: self.control_wiring.map(Into::into),
        };
        Model::open_with(&self.model, resources, self.lora.files(), controlnet)
    }

    pub(super) fn or(self, below: Self) -> Self {
        Self {
            model: self.model.or(below.model),
            lora: self.lora.or(below.lora),
            controlnet: self.controlnet.or(below.controlnet),
            control_wiring: self.control_wiring.or(below.control_wiring),
        }
    }
}
