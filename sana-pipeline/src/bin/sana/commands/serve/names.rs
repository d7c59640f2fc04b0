//! What is loaded, as clients see it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::args::{LoraArgs, ModelArgs, ScaledPath};
use crate::generate::args::LoadedArgs;

/// What images record of what is loaded: files and folders of this machine by their names alone, and not
/// by where they are. `model` is the model's name; one `from_hub` keeps that as it was typed.
pub fn without_folders(loaded: &LoadedArgs, model: &str, from_hub: bool) -> LoadedArgs {
    let lora = |file: &ScaledPath| ScaledPath {
        path: name(&file.path),
        ..file.clone()
    };
    LoadedArgs {
        model: ModelArgs {
            model: loaded.model.model.as_ref().map(|typed| match from_hub {
                true => typed.clone(),
                false => model.into(),
            }),
            transformer: loaded.model.transformer.as_deref().map(name),
            text_encoder: loaded.model.text_encoder.as_deref().map(name),
            ..loaded.model.clone()
        },
        lora: LoraArgs {
            lora: loaded.lora.lora.iter().map(lora).collect(),
            ..loaded.lora.clone()
        },
        controlnet: loaded.controlnet.as_deref().map(name),
        ..loaded.clone()
    }
}

fn name(path: &Path) -> PathBuf {
    path.file_name().unwrap_or(OsStr::new("file")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_folder_is_left() {
        let loaded = LoadedArgs {
            model: ModelArgs {
                model: Some("/home/me/models/mine".into()),
                transformer: Some("../secret/own.safetensors".into()),
                text_encoder: Some("/home/me/gemma.gguf".into()),
                ..ModelArgs::default()
            },
            lora: LoraArgs {
                lora: vec!["/home/me/style.safetensors:0.5".parse().unwrap()],
                lora_unmerged: true,
            },
            controlnet: Some("..".into()),
            ..LoadedArgs::default()
        };
        let shown = without_folders(&loaded, "mine", false);
        let expected = LoadedArgs {
            model: ModelArgs {
                model: Some("mine".into()),
                transformer: Some("own.safetensors".into()),
                text_encoder: Some("gemma.gguf".into()),
                ..ModelArgs::default()
            },
            lora: LoraArgs {
                lora: vec!["style.safetensors:0.5".parse().unwrap()],
                lora_unmerged: true,
            },
            controlnet: Some("file".into()),
            ..LoadedArgs::default()
        };
        assert_eq!(shown, expected);
        let of_hub = LoadedArgs {
            model: ModelArgs {
                model: Some("owner/name".into()),
                ..ModelArgs::default()
            },
            ..LoadedArgs::default()
        };
        assert_eq!(without_folders(&of_hub, "owner/name", true), of_hub);
        assert_eq!(
            without_folders(&LoadedArgs::default(), "built-in", false),
            LoadedArgs::default()
        );
    }
}
