//! `sana train transformer`.

use anyhow::ensure;
use burn::tensor::DType;
use sana_pipeline::PipelineError;
use sana_pipeline::checkpoint::create::{CheckpointFiles, write_autoencoder, write_denoiser};
use sana_pipeline::train::{
    self, Denoiser, LatentPool, PoolOptions, TransformerOptions, TransformerTask,
};
use sana_text::{GemmaTokenizer, PromptTokenizer};

use super::args::TransformerArgs;
use super::data::largest;
use super::new_model::check_channels;
use super::start_point::{StartPoint, load_autoencoder};
use crate::terminal::{Progress, output};

/// Runs it.
pub fn train(args: TransformerArgs) -> anyhow::Result<()> {
    let TransformerArgs {
        run: common,
        autoencoder,
        batch,
        pool,
        renew_every,
        flow_shift,
        logit_std,
        caption_dropout,
        freeze_text_encoder,
        new_model,
    } = args;
    common.check_out()?;
    let (device, data) = (common.device()?, common.data()?);
    let options = common.options(&device, freeze_text_encoder.then_some("text_encoder."));
    let device = device.device;
    let autoencoder = load_autoencoder(&autoencoder, &device)?;
    let start_point = match &common.from {
        Some(folder) => StartPoint::load(folder, &device)?,
        None => {
            let nominal = common.size.nominal(autoencoder.config().compression());
            let new = common.data.new_model(nominal).with(new_model)?;
            new.check(autoencoder.config())?;
            let native = new.transformer.sample_size * autoencoder.config().compression();
            if native != nominal {
                output().line(format_args!(
                    "note: the sample_size of the new transformer is {native} pixels, the default of \
                     images made with it, and it is trained on {nominal}"
                ))?;
            }
            common.check_memory(train::check_text_encoder(
                &new.text_encoder,
                new.vocab,
                &options,
                &device,
            ))?;
            StartPoint::new(new, &*data, common.seed, &device)?
        }
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
    check_channels(config, latents)?;
    let patch = latents.compression() * config.patch_size;
    common.size.check(patch, ", the pixels of a token,")?;
    let sizes = (largest(&*data), latents.compression());
    common.check_memory(train::check_transformer_run(
        &model, config, sizes, batch, &options, &device,
    ))?;
    let available = data.count().unwrap_or(pool);
    let pool = match available < pool {
        true => {
            output().line(format_args!(
                "note: the pool has the {available} images of the data, each once"
            ))?;
            available
        }
        false => pool,
    };
    ensure!(
        renew_every.is_none() || data.count().is_none_or(|count| count > pool),
        "--renew-every has nothing to renew the pool with, which has all {pool} images of the data: \
         leave it out, or lower --pool"
    );
    let mut settings = data.settings();
    settings.extend(task_options.settings());
    settings.extend(
        [
            ("pool", pool.into()),
            (
                "renew_every",
                renew_every.map_or("never".into(), Into::into),
            ),
            ("autoencoder", train::weights_hash(&autoencoder).into()),
            ("tokenizer", train::text_hash(&tokenizer_json).into()),
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
    let export = |Denoiser {
                      transformer,
                      text_encoder,
                  }|
     -> Result<(), PipelineError> {
        write_denoiser(
            &transformer,
            &text_encoder,
            &files,
            &common.out,
            DType::BF16,
        )
    };
    // The checkpoint is complete from the first save on, so that a long run can be looked at.
    write_autoencoder(&autoencoder, &common.out, DType::BF16)?;
    if run.step() >= common.steps {
        run.save()?;
        export(run.averaged_model())?;
        output().line(format_args!("wrote {}", common.out.display()))?;
        return Ok(());
    }

    let renew_every = renew_every.unwrap_or(usize::MAX);
    let mut exported = Ok(());
    while run.step() < common.steps {
        // A run that is continued encodes the images of the round that it is in.
        let round = run.step() / renew_every;
        let images = PoolOptions {
            count: pool,
            seed: common.seed,
            round,
        };
        let progress = Progress::new(pool, "encoding images");
        let latents = LatentPool::encode(&autoencoder, &*data, images, &device, |done| {
            progress.advance(done as u64, pool as u64);
        })?;
        progress.finish();
        let task = TransformerTask {
            pool: latents,
            tokenizer: tokenizer.clone(),
            options: task_options,
            device: device.clone(),
        };
        let progress = Progress::new(common.steps, "training");
        let last = (round + 1).saturating_mul(renew_every);
        let to_the_end = run.train_until(&task, last, |run, step| {
            progress.advance(step.step as u64, step.steps as u64);
            if common.is_saved(step) {
                exported = export(run.averaged_model());
            }
            exported.is_ok()
        })?;
        progress.finish();
        if !to_the_end {
            break;
        }
    }
    exported?;
    output().line(format_args!("wrote {}", common.out.display()))?;
    Ok(())
}
