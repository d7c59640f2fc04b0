//! Transformers of another depth: grown, or with fewer blocks.

mod grow;
mod prune;

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use sana_pipeline::checkpoint::create;
use sana_pipeline::transformer::depth::DepthPlan;
use sana_pipeline::{Checkpoint, FolderLock};

use crate::args::Dtype;
use crate::device::OpenDevice;
use crate::files::check_empty;
use crate::terminal::Progress;

pub use grow::{GrowArgs, run as run_grow};
pub use prune::{PruneArgs, run as run_prune};

/// The checkpoint whose transformer gets another depth.
#[derive(Debug, Args)]
pub struct SourceArgs {
    /// Checkpoint folder in the diffusers layout, or owner/name on the Hugging Face Hub [default:
    /// the built-in model]
    model: Option<PathBuf>,
    /// Branch, tag or commit of a model from the Hub [default: main]
    #[arg(long, value_name = "REV", requires = "model")]
    revision: Option<String>,
    /// Weight files of this variant where the folder has them, such as fp16
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
}

/// The folder that is written.
#[derive(Debug, Args)]
pub struct OutArgs {
    /// Folder to write; it must not have a checkpoint in it
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    /// Type of the transformer's weights in the file [default: the model's]
    #[arg(long, value_name = "TYPE", value_enum)]
    out_dtype: Option<Dtype>,
}

impl OutArgs {
    /// Locks the folder, if nothing is in it that would be replaced.
    fn lock(&self) -> anyhow::Result<FolderLock> {
        let out = &self.out;
        check_empty(out)?;
        std::fs::create_dir_all(out).with_context(|| format!("cannot access {}", out.display()))?;
        FolderLock::take(out).with_context(|| format!("cannot write into {}", out.display()))
    }

    /// Writes the checkpoint with the transformer of the plan.
    fn write(
        &self,
        checkpoint: &Checkpoint,
        variant: Option<&str>,
        plan: &DepthPlan,
    ) -> anyhow::Result<()> {
        let device = OpenDevice::open(None)?.device;
        let progress = Progress::bytes("writing");
        let dtype = self.out_dtype.map(Into::into);
        create::write_with_depth(
            checkpoint,
            variant,
            plan,
            &self.out,
            dtype,
            &device,
            &mut |done, all| progress.advance(done, all),
        )?;
        progress.finish();
        Ok(())
    }

    fn folder(&self) -> &Path {
        &self.out
    }
}
