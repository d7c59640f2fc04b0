//! `sana train autoencoder`.

use anyhow::ensure;
use burn::tensor::DType;
use sana_dcae::{DcAe, DcAeConfig};
use sana_pipeline::checkpoint::create::write_autoencoder;
use sana_pipeline::train::{
    self, AutoencoderOptions, AutoencoderTask, Run, Task, with_measured_scale,
};

use super::args::{AutoencoderArgs, RunArgs};
use super::data::largest;
use super::start_point::load_autoencoder;
use crate::terminal::{Progress, output};

/// Runs it.
pub fn train(args: AutoencoderArgs) -> anyhow::Result<()> {
    let AutoencoderArgs {
        run: common,
        batch,
        latent_noise,
        edges,
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
            None => common.data.new_autoencoder().init(&device),
        },
    };
    let task = AutoencoderTask {
        data,
        options: AutoencoderOptions {
            batch,
            latent_noise,
            edges,
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
    common
        .size
        .check(compression, ", the autoencoder's compression,")?;
    common.check_memory(train::check_autoencoder_run(
        &model,
        config,
        largest(&*task.data),
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
    output().line(format_args!("wrote {}", common.out.join("vae").display()))?;
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
        model = with_measured_scale(&model, &*task.data, common.seed, &task.device)?;
    }
    Ok(write_autoencoder(&model, &common.out, DType::F32)?)
}
