//! Options of `sana train`, and what those that both kinds of run share ask for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use clap::{Args, Subcommand, ValueEnum};
use indicatif::DecimalBytes;
use sana_pipeline::FolderLock;
use sana_pipeline::train::{
    self, DataSource, OptimizerKind, OptimizerOptions, Run, RunOptions, Schedule, Settings,
    TrainError,
};

use super::data::DataName;
use super::new_model::NewModelArgs;
use super::sizes::Sizes;
use crate::args::many;
use crate::device::{DeviceName, OpenDevice};
use crate::terminal::output;

const EXAMPLES: &str = "\
Examples:
  sana train autoencoder --out runs/autoencoder --steps 5000 --optimizer muon
  sana train transformer --out runs/scenes --autoencoder runs/autoencoder --steps 20000
  sana train transformer --out runs/mine --data my-images --from runs/scenes --steps 2000

The same command again continues a run where it stopped, with nothing lost. A run's folder holds its
state, log.csv, loss.png and the trained components in the published layout.";

/// Train an autoencoder, or a transformer with its text encoder
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct TrainArgs {
    #[command(subcommand)]
    pub command: TrainCommand,
}

#[derive(Debug, Subcommand)]
pub enum TrainCommand {
    /// Train an autoencoder to reconstruct images
    Autoencoder(AutoencoderArgs),
    /// Train a transformer and its text encoder on an autoencoder's latents
    Transformer(TransformerArgs),
}

/// What both kinds of run share.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Folder of the run; a run that is in it continues
    #[arg(short, long, value_name = "DIR")]
    pub out: PathBuf,
    /// `scenes`, flat shapes drawn as they are needed; `sprites:FOLDER`, scenes of the things in a folder
    /// that docs/tools/sprites/fetch makes; or a folder: NAME.png with NAME.txt, or metadata.jsonl
    #[arg(long, value_name = "DATA", default_value = "scenes")]
    pub data: DataName,
    /// Image sizes in pixels, multiples of 32: `N` for a square, `WxH`, or several with commas
    /// between them, such as `256,320x192`; a step has images of one size
    #[arg(long, value_name = "SIZES", default_value = "128")]
    pub size: Sizes,
    /// Start from the weights of this checkpoint or run, with a new optimiser
    #[arg(long, value_name = "DIR")]
    pub from: Option<PathBuf>,
    /// Steps of the whole run
    #[arg(long, value_name = "N")]
    pub steps: usize,
    /// Highest learning rate; a half cosine lowers it to a twentieth
    #[arg(long, value_name = "RATE", default_value_t = 1e-3)]
    pub lr: f64,
    /// Optimiser; Muon is for matrices of hidden layers, AdamW takes the rest; CAME takes less
    /// memory than AdamW, its 8-bit form an eighth
    #[arg(long, value_name = "NAME", default_value = "adamw")]
    pub optimizer: OptimizerName,
    /// Steps of the linear warm-up
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub warmup: usize,
    /// Decay of the moving average of the weights, which is what is written
    #[arg(long, value_name = "D", default_value_t = 0.999)]
    pub ema: f64,
    /// Parts of a batch that run in parallel [default: one for each core; on a GPU, one]
    #[arg(long, value_name = "N")]
    pub replicas: Option<usize>,
    /// Steps between saves
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub save_every: usize,
    /// Seed of data and noise
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// Continue a run whose settings differ from these, and record the changes in its state
    #[arg(long)]
    pub accept_changes: bool,
    /// Start from the beginning in a folder that has a run or a checkpoint in it, which is replaced
    #[arg(long)]
    pub overwrite: bool,
    /// Train even where the estimate says that there is too little memory
    #[arg(long)]
    pub ignore_memory: bool,
    /// Where to train, as for `sana generate`
    #[arg(short, long, value_name = "DEVICE")]
    pub device: Option<DeviceName>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum OptimizerName {
    #[value(name = "adamw")]
    AdamW,
    Muon,
    Came,
    Came8bit,
}

impl From<OptimizerName> for OptimizerKind {
    fn from(name: OptimizerName) -> Self {
        match name {
            OptimizerName::AdamW => OptimizerKind::AdamW,
            OptimizerName::Muon => OptimizerKind::Muon,
            OptimizerName::Came => OptimizerKind::Came,
            OptimizerName::Came8bit => OptimizerKind::Came8Bit,
        }
    }
}

#[derive(Debug, Args)]
pub struct AutoencoderArgs {
    #[command(flatten)]
    pub run: RunArgs,
    /// Images of a step
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub batch: usize,
    /// Standard deviation of the noise on latents in training
    #[arg(long, value_name = "STD", default_value_t = 0.1)]
    pub latent_noise: f64,
    /// Weight of the error of edges, which makes images sharper
    #[arg(long, value_name = "W", default_value_t = 0.0)]
    pub edges: f64,
    /// Architecture of a new autoencoder, as in a checkpoint's vae/config.json [default: that of
    /// the built-in model, with `--data sprites:` that of the sprites model]
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    pub config: Option<PathBuf>,
    /// Train the decoder only: transformers trained on the encoder's latents stay valid
    #[arg(long, requires = "from")]
    pub decoder_only: bool,
}

#[derive(Debug, Args)]
pub struct TransformerArgs {
    #[command(flatten)]
    pub run: RunArgs,
    /// Checkpoint or run with the autoencoder (its folder `vae`)
    #[arg(long, value_name = "DIR")]
    pub autoencoder: PathBuf,
    /// Images of a step
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub batch: usize,
    /// Images encoded before the training starts
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pub pool: usize,
    /// Steps after which the next images are encoded in place of these: more different ones than
    /// fit into the pool [default: never]
    #[arg(long, value_name = "N", value_parser = many())]
    pub renew_every: Option<usize>,
    /// Shift of the training times, and of the sampler later [default: that of --from, else 3]
    #[arg(long, value_name = "S")]
    pub flow_shift: Option<f64>,
    /// Standard deviation of the logit-normal training times; more of it gives more times near
    /// both ends, where layout and detail are decided
    #[arg(long, value_name = "STD", default_value_t = 1.0)]
    pub logit_std: f64,
    /// Share of captions replaced by the empty one
    #[arg(long, value_name = "P", default_value_t = 0.1)]
    pub caption_dropout: f64,
    /// Train the transformer alone: the text encoder stays that of --from
    #[arg(long, requires = "from")]
    pub freeze_text_encoder: bool,
    #[command(flatten)]
    pub new_model: NewModelArgs,
}

impl RunArgs {
    pub fn data(&self) -> anyhow::Result<Arc<dyn DataSource>> {
        self.size.check(32, "")?;
        self.data.open(self.size.as_slice())
    }

    /// The options of a run that trains all but the parameters whose names begin with `frozen`.
    pub fn options(&self, device: &OpenDevice, frozen: Option<&str>) -> RunOptions {
        let replicas = if device.name.is_cpu() {
            std::thread::available_parallelism().map_or(1, usize::from)
        } else {
            1
        };
        // What a run computes depends on them, so it keeps its own.
        let recorded = || match device.name.is_cpu() && !self.overwrite {
            true => train::recorded_replicas(&self.out),
            false => None,
        };
        RunOptions {
            steps: self.steps,
            schedule: Schedule {
                learning_rate: self.lr,
                warmup: self.warmup,
                last: 0.05,
            },
            optimizer: OptimizerOptions {
                kind: self.optimizer.into(),
                ema_decay: self.ema,
                weight_decay: self.weight_decay(),
                ..OptimizerOptions::default()
            },
            frozen: frozen.map(str::to_owned).into_iter().collect(),
            replicas: self.replicas.or_else(recorded).unwrap_or(replicas),
            save_every: self.save_every,
            accept_changes: self.accept_changes,
        }
    }

    /// As the authors train with each.
    fn weight_decay(&self) -> f64 {
        match self.optimizer {
            OptimizerName::Came | OptimizerName::Came8bit => 0.0,
            _ => OptimizerOptions::default().weight_decay,
        }
    }

    /// Refuses a folder that has a checkpoint in it and no run that could be continued.
    pub fn check_out(&self) -> anyhow::Result<()> {
        if self.overwrite || train::holds_run(&self.out) {
            return Ok(());
        }
        let of_a_checkpoint = [
            "model_index.json",
            "vae/config.json",
            "transformer/config.json",
            "text_encoder/config.json",
        ];
        let mut files = of_a_checkpoint.into_iter();
        if let Some(found) = files.find(|file| self.out.join(file).exists()) {
            bail!(
                "{} has a checkpoint in it ({found}) and no run to continue: choose another folder \
                 for --out, or replace the checkpoint with --overwrite",
                self.out.display()
            );
        }
        Ok(())
    }

    /// Opens the run with the settings that its numbers depend on, for this process alone.
    pub fn open<M: burn::module::Module + Sync>(
        &self,
        model: M,
        options: RunOptions,
        settings: Settings,
    ) -> anyhow::Result<(FolderLock, Run<M>)> {
        let lock = lock(&self.out)?;
        if self.overwrite {
            train::discard_run(&self.out)?;
        }
        let mut run = Run::open(&self.out, model, options).map_err(with_advice)?;
        run.settle(settings).map_err(with_advice)?;
        output().line(format_args!(
            "{}: {} parameters, {} of optimizer state, step {} of {}",
            self.out.display(),
            run.parameter_count(),
            DecimalBytes(run.optimizer_bytes() as u64),
            run.step(),
            self.steps
        ))?;
        let step = run.step();
        for change in run.changes().iter().filter(|change| change.step == step) {
            output().line(format_args!(
                "note: {} changes from {} to {}",
                change.name, change.from, change.to
            ))?;
        }
        Ok((lock, run))
    }

    /// Refuses what does not fit into memory.
    pub fn check_memory(&self, estimate: Result<(), TrainError>) -> anyhow::Result<()> {
        match estimate {
            Err(error) if !self.ignore_memory => Err(anyhow!(
                "{error}, or give --ignore-memory to try nevertheless"
            )),
            _ => Ok(()),
        }
    }

    /// Whether the state is saved at this step: the trained components are written along with it.
    pub fn is_saved(&self, step: train::Progress) -> bool {
        step.step.is_multiple_of(self.save_every) || step.step == step.steps
    }

    pub fn device(&self) -> anyhow::Result<OpenDevice> {
        let device = OpenDevice::open(self.device)?;
        device.device.seed(self.seed); // initial weights
        Ok(device)
    }
}

/// What to do about settings that differ.
fn with_advice(error: TrainError) -> anyhow::Error {
    match error {
        TrainError::Settings { .. } => anyhow!(
            "{error}: give the values of the run, or add --accept-changes to continue with the new \
             ones, or start another run from its weights with --from"
        ),
        error => error.into(),
    }
}

/// Keeps other processes from writing to the same folder.
fn lock(folder: &Path) -> anyhow::Result<FolderLock> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot access {}", folder.display()))?;
    FolderLock::take(folder)
        .with_context(|| format!("cannot train in the folder {}", folder.display()))
}
