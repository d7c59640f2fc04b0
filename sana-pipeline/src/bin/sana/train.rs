//! `sana train`: the autoencoder, then the transformer with its text encoder.

use std::io::{Write, stderr};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail, ensure};
use burn::tensor::{DType, Device};
use clap::{Args, Subcommand, ValueEnum};
use indicatif::DecimalBytes;
use sana_dcae::{DcAe, DcAeConfig};
use sana_pipeline::Checkpoint;
use sana_pipeline::train::{
    self, AutoencoderOptions, AutoencoderTask, CheckpointFiles, Data, Denoiser, LatentPool,
    MAX_PROMPT_TOKENS, OptimizerKind, OptimizerOptions, Run, RunOptions, Schedule, Settings, Task,
    TrainError, TransformerOptions, TransformerTask, export_autoencoder, export_denoiser,
    scenes_autoencoder, scenes_text_encoder, scenes_tokenizer, scenes_transformer,
    with_measured_scale,
};
use sana_pipeline::{CheckpointInstruction, Component, FolderLock, SanaKeys};
use sana_text::{
    EmbeddingPlacement, Gemma2LoadOptions, Gemma2Model, GemmaTokenizer, PromptTokenizer,
};

use crate::device::{DeviceName, OpenDevice};
use crate::terminal::{Progress, output};

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
    command: TrainCommand,
}

#[derive(Debug, Subcommand)]
enum TrainCommand {
    /// Train an autoencoder to reconstruct images
    Autoencoder(AutoencoderArgs),
    /// Train a transformer and its text encoder on an autoencoder's latents
    Transformer(TransformerArgs),
}

/// What both kinds of run share.
#[derive(Debug, Args)]
struct RunArgs {
    /// Folder of the run; a run that is in it continues
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    /// `scenes`, drawn as they are needed, or a folder: NAME.png with NAME.txt, or metadata.jsonl
    #[arg(long, value_name = "DATA", default_value = "scenes")]
    data: String,
    /// Side of the images in pixels
    #[arg(long, value_name = "PX", default_value_t = 128)]
    size: usize,
    /// Start from the weights of this checkpoint or run, with a new optimiser
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// Steps of the whole run
    #[arg(long, value_name = "N")]
    steps: usize,
    /// Highest learning rate; a half cosine lowers it to a twentieth
    #[arg(long, value_name = "RATE", default_value_t = 1e-3)]
    lr: f64,
    /// Optimiser; Muon is for matrices of hidden layers, AdamW takes the rest; CAME takes less
    /// memory than AdamW, its 8-bit form an eighth
    #[arg(long, value_name = "NAME", default_value = "adamw")]
    optimizer: OptimizerName,
    /// Steps of the linear warm-up
    #[arg(long, value_name = "N", default_value_t = 100)]
    warmup: usize,
    /// Decay of the moving average of the weights, which is what is written
    #[arg(long, value_name = "D", default_value_t = 0.999)]
    ema: f64,
    /// Parts of a batch that run in parallel [default: one for each core; on a GPU, one]
    #[arg(long, value_name = "N")]
    replicas: Option<usize>,
    /// Steps between saves
    #[arg(long, value_name = "N", default_value_t = 200)]
    save_every: usize,
    /// Seed of data and noise
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Continue a run whose settings differ from these, and record the changes in its state
    #[arg(long)]
    accept_changes: bool,
    /// Start from the beginning in a folder that has a run or a checkpoint in it, which is replaced
    #[arg(long)]
    overwrite: bool,
    /// Train even where the estimate says that there is too little memory
    #[arg(long)]
    ignore_memory: bool,
    /// Where to train, as for `sana generate`
    #[arg(short, long, value_name = "DEVICE")]
    device: Option<DeviceName>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum OptimizerName {
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
struct AutoencoderArgs {
    #[command(flatten)]
    run: RunArgs,
    /// Images of a step
    #[arg(long, value_name = "N", default_value_t = 16)]
    batch: usize,
    /// Standard deviation of the noise on latents in training
    #[arg(long, value_name = "STD", default_value_t = 0.1)]
    latent_noise: f64,
    /// Architecture of a new autoencoder, as in a checkpoint's vae/config.json [default: that of
    /// the built-in model]
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    config: Option<PathBuf>,
    /// Train the decoder only: transformers trained on the encoder's latents stay valid
    #[arg(long, requires = "from")]
    decoder_only: bool,
}

#[derive(Debug, Args)]
struct TransformerArgs {
    #[command(flatten)]
    run: RunArgs,
    /// Checkpoint or run with the autoencoder (its folder `vae`)
    #[arg(long, value_name = "DIR")]
    autoencoder: PathBuf,
    /// Images of a step
    #[arg(long, value_name = "N", default_value_t = 128)]
    batch: usize,
    /// Images encoded before the training starts
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pool: usize,
    /// Shift of the training times, and of the sampler later [default: that of --from, else 3]
    #[arg(long, value_name = "S")]
    flow_shift: Option<f64>,
    /// Standard deviation of the logit-normal training times; more of it gives more times near
    /// both ends, where layout and detail are decided
    #[arg(long, value_name = "STD", default_value_t = 1.0)]
    logit_std: f64,
    /// Share of captions replaced by the empty one
    #[arg(long, value_name = "P", default_value_t = 0.1)]
    caption_dropout: f64,
    /// Train the transformer alone: the text encoder stays that of --from
    #[arg(long, requires = "from")]
    freeze_text_encoder: bool,
}

/// Runs `sana train`.
pub fn run(args: TrainArgs) -> anyhow::Result<()> {
    match args.command {
        TrainCommand::Autoencoder(args) => train_autoencoder(args),
        TrainCommand::Transformer(args) => train_transformer(args),
    }
}

impl RunArgs {
    fn data(&self) -> anyhow::Result<Data> {
        ensure!(
            self.size > 0 && self.size.is_multiple_of(32),
            "--size {} must be a positive multiple of 32",
            self.size
        );
        let data = match self.data.as_str() {
            "scenes" => Data::Scenes { size: self.size },
            folder => Data::open_folder(Path::new(folder), self.size)?,
        };
        warn_of_skipped(&data);
        Ok(data)
    }

    /// The options of a run that trains all but the parameters whose names begin with `frozen`.
    fn options(&self, device: &OpenDevice, frozen: Option<&str>) -> RunOptions {
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
    fn check_out(&self) -> anyhow::Result<()> {
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
    fn open<M: burn::module::Module + Sync>(
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
        writeln!(
            output(),
            "{}: {} parameters, {} of optimizer state, step {} of {}",
            self.out.display(),
            run.parameter_count(),
            DecimalBytes(run.optimizer_bytes() as u64),
            run.step(),
            self.steps
        )?;
        let step = run.step();
        for change in run.changes().iter().filter(|change| change.step == step) {
            writeln!(
                output(),
                "note: {} changes from {} to {}",
                change.name,
                change.from,
                change.to
            )?;
        }
        Ok((lock, run))
    }

    /// Refuses what does not fit into memory.
    fn check_memory(&self, estimate: Result<(), TrainError>) -> anyhow::Result<()> {
        match estimate {
            Err(error) if !self.ignore_memory => Err(anyhow!(
                "{error}, or give --ignore-memory to try nevertheless"
            )),
            _ => Ok(()),
        }
    }

    /// Whether the state is saved at this step: the trained components are written along with it.
    fn is_saved(&self, step: train::Progress) -> bool {
        step.step.is_multiple_of(self.save_every) || step.step == step.steps
    }

    fn device(&self) -> anyhow::Result<OpenDevice> {
        let device = OpenDevice::open(self.device)?;
        device.device.seed(self.seed); // initial weights
        Ok(device)
    }
}

/// Images named before the rest is only counted.
const NAMED: usize = 3;

fn warn_of_skipped(data: &Data) {
    let skipped = data.skipped();
    if skipped.is_empty() {
        return;
    }
    let mut text = format!(
        "warning: {} of {} images are left out, without a caption that can be read:\n",
        skipped.len(),
        skipped.len() + data.count().unwrap_or(0)
    );
    for (image, reason) in skipped.iter().take(NAMED) {
        text += &format!("  {:?}: {}\n", image, reason.escape_debug());
    }
    if skipped.len() > NAMED {
        text += &format!("  and {} more\n", skipped.len() - NAMED);
    }
    // Training does not depend on whether anybody reads this.
    let _ = stderr().write_all(text.as_bytes());
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

fn train_autoencoder(args: AutoencoderArgs) -> anyhow::Result<()> {
    let AutoencoderArgs {
        run: common,
        batch,
        latent_noise,
        config,
        decoder_only,
    } = args;
    common.check_out()?;
    let (device, data) = (common.device()?, common.data()?);
    let options = common.options(&device, decoder_only.then_some("encoder."));
    let device = device.device;
    let model = match &common.from {
        Some(folder) => load_autoencoder(folder, &device)?,
        None => match config {
            Some(file) => DcAeConfig::from_file(file)?.init(&device),
            None => scenes_autoencoder().init(&device),
        },
    };
    let task = AutoencoderTask {
        data,
        options: AutoencoderOptions {
            batch,
            latent_noise,
            seed: common.seed,
            ..AutoencoderOptions::default()
        },
        device,
    };
    task.options.validate()?;
    let config = model.config();
    ensure!(
        config.in_channels == 3,
        "the autoencoder has {} input channels, and images have 3",
        config.in_channels
    );
    let compression = config.compression();
    ensure!(
        common.size.is_multiple_of(compression),
        "--size {} must be a multiple of the autoencoder's compression, {compression}",
        common.size
    );
    common.check_memory(train::check_autoencoder_run(
        &model,
        config,
        common.size,
        batch,
        &options,
        &task.device,
    ))?;
    let (_lock, mut run) = common.open(model, options, task.settings())?;
    if run.step() >= common.steps {
        run.save()?;
        export_average(&run, &common, &task, decoder_only)?;
    }
    let progress = Progress::new(common.steps, "training");
    let mut exported = Ok(());
    run.train(&task, |run, step| {
        progress.advance(step.step as u64, step.steps as u64);
        if common.is_saved(step) {
            exported = export_average(run, &common, &task, decoder_only);
        }
        exported.is_ok()
    })?;
    progress.finish();
    exported?;
    writeln!(output(), "wrote {}", common.out.join("vae").display())?;
    Ok(())
}

/// Writes the averaged autoencoder. Its scaling factor is measured on the data, unless the encoder
/// was left as it is.
fn export_average(
    run: &Run<DcAe>,
    common: &RunArgs,
    task: &AutoencoderTask,
    decoder_only: bool,
) -> anyhow::Result<()> {
    let mut model = run.averaged_model();
    if !decoder_only {
        model = with_measured_scale(&model, &task.data, common.seed, &task.device)?;
    }
    Ok(export_autoencoder(&model, &common.out, DType::F32)?)
}

fn train_transformer(args: TransformerArgs) -> anyhow::Result<()> {
    let TransformerArgs {
        run: common,
        autoencoder,
        batch,
        pool,
        flow_shift,
        logit_std,
        caption_dropout,
        freeze_text_encoder,
    } = args;
    common.check_out()?;
    let (device, data) = (common.device()?, common.data()?);
    let options = common.options(&device, freeze_text_encoder.then_some("text_encoder."));
    let device = device.device;
    let autoencoder = load_autoencoder(&autoencoder, &device)?;
    let start_point = match &common.from {
        Some(folder) => StartPoint::load(folder, &device)?,
        None => StartPoint::scenes(common.size, common.seed, &device)?,
    };
    let StartPoint {
        model,
        tokenizer_json,
        keys,
        flow_shift: start_shift,
    } = start_point;
    let flow_shift = flow_shift.unwrap_or(start_shift);
    let task_options = TransformerOptions {
        batch,
        flow_shift,
        logit_std,
        caption_dropout,
        seed: common.seed,
        ..TransformerOptions::default()
    };
    task_options.validate()?;
    let tokenizer = GemmaTokenizer::from_bytes("tokenizer.json", tokenizer_json.as_bytes())?;
    let tokenizer = PromptTokenizer::new(tokenizer, keys.prompt_options())?;
    let (latents, config) = (autoencoder.config(), model.transformer.config());
    ensure!(
        latents.latent_channels == config.in_channels,
        "the autoencoder has latents of {} channels, and the transformer takes {}",
        latents.latent_channels,
        config.in_channels
    );
    let patch = latents.compression() * config.patch_size;
    ensure!(
        common.size.is_multiple_of(patch),
        "--size {} must be a multiple of {patch}, the pixels of a token",
        common.size
    );
    let sides = [common.size, latents.compression()];
    common.check_memory(train::check_transformer_run(
        &model, config, sides, batch, &options, &device,
    ))?;
    let available = data.count().unwrap_or(pool);
    let pool = match available < pool {
        true => {
            writeln!(
                output(),
                "note: the pool has the {available} images of the data, each once"
            )?;
            available
        }
        false => pool,
    };
    let mut settings = data.settings();
    settings.extend(task_options.settings());
    settings.extend(
        [
            ("pool", pool.into()),
            ("autoencoder", train::weights_hash(&autoencoder).into()),
            ("tokenizer", text_hash(&tokenizer_json).into()),
            ("prompts", serde_json::to_value(&keys)?),
        ]
        .map(|(name, value): (&str, serde_json::Value)| (name.to_owned(), value)),
    );
    let files = CheckpointFiles {
        tokenizer: &tokenizer_json,
        flow_shift,
        keys: &keys,
    };
    let (_lock, mut run) = common.open(model, options, settings)?;
    // The checkpoint is complete from the first save on, so that a long run can be looked at.
    export_autoencoder(&autoencoder, &common.out, DType::BF16)?;
    if run.step() >= common.steps {
        run.save()?;
        export_denoiser(&run.averaged_model(), &files, &common.out, DType::BF16)?;
        writeln!(output(), "wrote {}", common.out.display())?;
        return Ok(());
    }

    let progress = Progress::new(pool, "encoding images");
    let pool = LatentPool::encode(&autoencoder, &data, pool, common.seed, &device, |done| {
        progress.advance(done as u64, pool as u64);
    })?;
    progress.finish();
    let task = TransformerTask {
        pool,
        tokenizer,
        options: task_options,
        device,
    };
    let progress = Progress::new(common.steps, "training");
    let mut exported = Ok(());
    run.train(&task, |run, step| {
        progress.advance(step.step as u64, step.steps as u64);
        if common.is_saved(step) {
            exported = export_denoiser(&run.averaged_model(), &files, &common.out, DType::BF16);
        }
        exported.is_ok()
    })?;
    progress.finish();
    exported?;
    writeln!(output(), "wrote {}", common.out.display())?;
    Ok(())
}

/// FNV-1a of a text, to tell tokenizers apart.
fn text_hash(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// The autoencoder of a checkpoint or of a run.
fn load_autoencoder(folder: &Path, device: &Device) -> anyhow::Result<DcAe> {
    let vae = folder.join("vae");
    DcAe::load(&vae, None, Some(DType::F32), device)
        .with_context(|| format!("no autoencoder in {}", vae.display()))
}

/// What a transformer's run starts from.
struct StartPoint {
    model: Denoiser,
    tokenizer_json: String,
    keys: SanaKeys,
    flow_shift: f64,
}

impl StartPoint {
    /// The scenes model with new weights, and a tokenizer made from captions.
    fn scenes(size: usize, seed: u64, device: &Device) -> anyhow::Result<Self> {
        let tokenizer_json = scenes_tokenizer(seed)?;
        let tokenizer = GemmaTokenizer::from_bytes("tokenizer.json", tokenizer_json.as_bytes())?;
        let text = scenes_text_encoder(tokenizer.vocab_size());
        let transformer = scenes_transformer(size).init(device);
        Ok(Self {
            model: Denoiser {
                text_encoder: text.init_seeded(seed, device)?,
                transformer,
            },
            tokenizer_json,
            keys: SanaKeys {
                instruction: CheckpointInstruction::None,
                max_tokens: MAX_PROMPT_TOKENS,
                variant: Some("scenes".to_owned()),
                ..SanaKeys::default()
            },
            flow_shift: TransformerOptions::default().flow_shift,
        })
    }

    /// The weights of a checkpoint, widened to f32.
    fn load(folder: &Path, device: &Device) -> anyhow::Result<Self> {
        let checkpoint = Checkpoint::open(folder)?;
        let config = checkpoint.transformer_config()?;
        let flow_shift = checkpoint.scheduler()?.shift();
        let (false, Some(flow_shift)) = (config.guidance_embeds, flow_shift) else {
            bail!(
                "{} is a distilled checkpoint (Sana-Sprint), which is not trained by flow \
                 matching: give --from one of the base models",
                folder.display()
            );
        };
        let f32 = Some(DType::F32);
        let weights = checkpoint.weights(Component::Transformer, None)?;
        let transformer = config.load(&weights, f32, checkpoint.f16_clamp()?, device)?;
        let text_encoder = Gemma2Model::from_weights(
            &checkpoint.text_config()?,
            checkpoint.weights(Component::TextEncoder, None)?,
            &Gemma2LoadOptions {
                dtype: f32,
                variant: None,
                embedding: EmbeddingPlacement::Device,
            },
            device,
        )?;
        let tokenizer = checkpoint.read("tokenizer/tokenizer.json")?;
        Ok(Self {
            model: Denoiser {
                text_encoder,
                transformer,
            },
            tokenizer_json: String::from_utf8(tokenizer.into_owned())?,
            keys: checkpoint.keys().clone(),
            flow_shift,
        })
    }
}
