//! `sana generate`: images from a prompt.

pub mod args;
mod batch;
mod best_of;
mod control;
mod for_others;
mod from_image;
mod grid;
mod image_to_image;
pub mod metadata;
mod options;
pub mod parameters;
pub mod paths;
pub mod request;
mod verifier;

use anyhow::bail;
use sana_pipeline::image::{self, RgbImage};
use sana_pipeline::{StepAction, StepInfo};

use self::args::RecordedArgs;
use self::metadata::Made;
use self::paths::FILE;
use self::request::{warn_of_cut, write_notes};
use crate::files::Files;
use crate::marked;
use crate::terminal::{Progress, output, write_stages};

pub use self::args::GenerateArgs;
pub use self::batch::read_prompts;
pub use self::metadata::Record;
pub use self::options::quoted;

/// Runs `sana generate`.
pub fn run(args: GenerateArgs) -> anyhow::Result<()> {
    let args = from_image::complete(args)?;
    if let Some(file) = &args.run.batch.prompts {
        return batch::run(file, &args);
    }
    if args.recorded.image.prompt().trim().is_empty() {
        bail!("the prompt is empty: describe the image");
    }
    if let Some(count) = args.run.best_of.best_of {
        return best_of::run(args, count);
    }
    let GenerateArgs {
        recorded,
        resources,
        run,
    } = args;
    let file = run.out.unwrap_or_else(|| FILE.into());
    let mut files = Files::default();
    if let Some(path) = &run.from_image.from_image {
        files.reads(path, "the image of --from-image");
    }
    recorded.image.add_files(&mut files);
    recorded.loaded.add_files(&mut files);
    let paths = paths::images(&file, recorded.image.count(), &mut files)?;
    if let Some(path) = &run.control_save {
        control::check_writable(path, &mut files)?;
    }
    let mut previews = run.preview.open(run.no_mark, &mut files)?;
    let grid_path = run.grid.path(self::grid::next_to(&file), &mut files)?;
    let RecordedArgs {
        image: args,
        loaded,
    } = recorded;
    let mut model = loaded.open(&resources)?;
    let control_save = run.control_save.as_deref();
    args.check_memory(&mut model.pipeline)?;
    let request = args.request(&model.pipeline, control_save)?;
    let settings = request.validate(model.pipeline.spec())?;
    drop(request);
    previews.prepare(&mut model, [settings.width, settings.height])?;
    let plan = model.pipeline.plan(settings)?;
    let settings = plan.settings();

    let mut out = output();
    out.line(format_args!(
        "model {}, device {}, seed {}",
        model.name, model.device.name, settings.seed
    ))?;
    write_notes(settings, &args, &mut out)?;
    let progress = Progress::new(settings.steps(), "encoding the prompt");
    let seeds = settings.seeds();
    let made = Made {
        in_tiles: plan.decodes_in_tiles(),
        together: seeds.len(),
        start: settings.image_to_image,
        no_mark: run.no_mark,
    };
    let record = |seed: &u64| Record::new(args.applied(settings, *seed), &loaded, &model, made);
    let records: Vec<Record> = seeds.iter().map(record).collect();
    for (path, record) in paths.iter().zip(&records) {
        image::check_text(path, &record.texts())?;
    }
    let mut observe = |mut step: StepInfo<'_>| {
        previews.show(&mut step, &progress);
        let done = step.index + 1;
        progress.advance(done as u64, step.steps as u64);
        progress.phase(match done == step.steps {
            true => "decoding",
            false => "denoising",
        });
        StepAction::Continue
    };
    // Each is kept even if the process is killed before the next is there.
    let mut save = |index: usize, image: &RgbImage| {
        let texts = records[index].texts();
        Ok(image::save(&paths[index], image, &texts)?)
    };
    let generation = model
        .pipeline
        .generate_plan(&plan, &mut observe, &mut save)?;
    progress.finish();
    model.print_notes();
    warn_of_cut("prompt", &generation.dropped_tokens);
    warn_of_cut("negative prompt", &generation.dropped_negative_tokens);

    write_stages(&generation.stages, &mut out)?;
    for path in run.control_save.iter().chain(&paths) {
        out.line(format_args!("wrote {}", path.display()))?;
    }
    if let Some(path) = grid_path {
        let grid = image::grid(&generation.images, &run.grid.options())?;
        marked::save(&path, &grid, run.no_mark)?;
        out.line(format_args!("wrote {}", path.display()))?;
    }
    Ok(())
}
