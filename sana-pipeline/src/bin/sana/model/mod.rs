//! The pipeline that the options name.

pub mod hub;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use burn::tensor::DType;
use clap::ValueEnum;
use sana_dcae::Tiling;
use sana_pipeline::checkpoint::LoraFile;
use sana_pipeline::memory::{MemoryPolicy, MemoryShortage};
use sana_pipeline::transformer::ControlWiring;
use sana_pipeline::{Checkpoint, LoadOptions, SanaPipeline};

use crate::args::{Dtype, ModelArgs, ResourceArgs};
use crate::device::OpenDevice;
use crate::terminal;

use self::hub::Found;

/// What the model of this build is called.
pub const BUILT_IN: &str = "built-in";

/// A pipeline, and what it was made of.
pub struct Model {
    pub pipeline: SanaPipeline,
    pub device: OpenDevice,
    /// Name of the checkpoint folder, `owner/name` of one from the Hub, or `built-in`.
    pub name: String,
    /// Commit of a checkpoint from the Hub.
    pub revision: Option<String>,
}

/// The ControlNet that the options name.
#[derive(Debug, Clone, Default)]
pub struct Controlled {
    pub folder: Option<PathBuf>,
    pub wiring: Option<ControlWiring>,
}

impl Model {
    /// Opens checkpoint and device; weights are read when they are first needed.
    pub fn open(args: &ModelArgs, resources: &ResourceArgs) -> anyhow::Result<Self> {
        Self::open_with(args, resources, Vec::new(), Controlled::default())
    }

    /// Opens checkpoint and device, with LoRAs and a ControlNet.
    pub fn open_with(
        args: &ModelArgs,
        resources: &ResourceArgs,
        loras: Vec<LoraFile>,
        controlnet: Controlled,
    ) -> anyhow::Result<Self> {
        let found = find(
            args.model.as_deref(),
            args.revision.as_deref(),
            args.variant.as_deref(),
        )?;
        let checkpoint = found.checkpoint;
        let device = OpenDevice::open(args.device)?;
        let mut options = LoadOptions {
            dtype: args.dtype.map(Into::into),
            quantize: args.quantize.components(),
            bf16_gemm: args.bf16.gemm(),
            variant: args.variant.clone(),
            loras,
            controlnet: controlnet.folder,
            control_wiring: controlnet.wiring,
            memory_limit: resources.memory_limit.map(|bytes| bytes.0),
            memory_shortage: match resources.ignore_memory {
                true => MemoryShortage::Try,
                false => MemoryShortage::Refuse,
            },
            transformer: args.transformer.clone(),
            text_encoder: args.text_encoder.clone(),
            ..LoadOptions::default()
        };
        if let Some(dtype) = options.dtype {
            device.check_dtype(dtype)?;
        }
        if args.low_memory {
            let compression = checkpoint.vae_config()?.compression();
            options.memory = MemoryPolicy::OneStageAtATime;
            options.tiling = Some(Tiling::for_compression(compression));
        }
        let pipeline = SanaPipeline::from_checkpoint(checkpoint, options, &device.device)?;
        Ok(Self {
            pipeline,
            device,
            name: found.name,
            revision: found.commit,
        })
    }
}

impl Model {
    /// The dtype of all networks, if they have one: with it the same weights are loaded anywhere.
    pub fn dtype(&self) -> Option<Dtype> {
        let dtypes = self.pipeline.dtypes().ok()?;
        let (_, first) = dtypes.first()?;
        let same = dtypes.iter().all(|(_, dtype)| dtype == first);
        let mut names = Dtype::value_variants().iter().copied();
        names.find(|name| same && DType::from(*name) == *first)
    }

    /// Prints on stderr what was decided while components were loaded, such as another dtype.
    pub fn print_notes(&self) {
        for note in self.pipeline.notes() {
            terminal::note(note);
        }
    }
}

/// The checkpoint in the folder `model`, that of the Hub with the name `model`, or the built-in
/// one.
pub fn find(
    model: Option<&Path>,
    revision: Option<&str>,
    variant: Option<&str>,
) -> anyhow::Result<Found> {
    find_with(model, revision, variant, false)
}

/// As [`find`]; with `verify`, files of the Hub that are in the cache are compared with their hashes,
/// and damaged ones are downloaded again.
pub fn find_with(
    model: Option<&Path>,
    revision: Option<&str>,
    variant: Option<&str>,
    verify: bool,
) -> anyhow::Result<Found> {
    let Some(model) = model else {
        return Ok(Found {
            checkpoint: built_in()?,
            name: BUILT_IN.to_owned(),
            commit: None,
        });
    };
    check_accessible(model)?;
    if let Some(name) = hub::repository(model) {
        return hub::checkpoint(name, revision, variant, verify);
    }
    if revision.is_some() {
        bail!(
            "--revision is for a model of the Hub, such as owner/name, and not for {}",
            model.display()
        );
    }
    Ok(Found {
        checkpoint: Checkpoint::open(model)?,
        name: folder_name(model),
        commit: None,
    })
}

/// Refuses a folder that this user may not look into, which is otherwise taken for one that is not
/// there or not a checkpoint.
pub fn check_accessible(model: &Path) -> anyhow::Result<()> {
    for path in [model, &model.join("model_index.json")] {
        match std::fs::metadata(path) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                return Err(error).with_context(|| format!("cannot access {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(feature = "scenes-model")]
fn built_in() -> anyhow::Result<Checkpoint> {
    Ok(Checkpoint::built_in())
}

#[cfg(not(feature = "scenes-model"))]
fn built_in() -> anyhow::Result<Checkpoint> {
    anyhow::bail!(
        "this build has no model of its own: name a checkpoint folder with --model, or build with \
         the cargo feature scenes-model"
    )
}

/// The last component of the path, also of `.` and `..`.
fn folder_name(folder: &Path) -> String {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let name = folder.file_name().unwrap_or(folder.as_os_str());
    name.to_string_lossy().into_owned()
}
