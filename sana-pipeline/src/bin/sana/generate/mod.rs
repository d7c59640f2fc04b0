//! `sana generate`: images from a prompt.

pub mod args;
mod batch;
mod best_of;
pub mod events;
pub mod options;
pub mod profile;
pub mod record;
pub mod request;
mod template;

use std::cell::{Cell, RefCell};
use std::time::Instant;

use anyhow::{Error, bail};
use sana_pipeline::image::{self, RgbImage};
use sana_pipeline::{Request, StepAction, StepInfo};

use self::args::{ImageArgs, RecordedArgs, control, grid};
use self::events::{Event, Report, Written};
use self::record::from_image;
use self::record::metadata::Made;
use self::request::{cut, random_seed, write_notes};
use self::template::Templates;
use crate::args::Shard;
use crate::files::paths::{self, FILE};
use crate::files::{Files, marked};
use crate::terminal::Progress;

pub use self::args::GenerateArgs;
pub use self::batch::read_prompts;
pub use self::options::quoted;
pub use self::record::Record;

/// Runs `sana generate`.
pub fn run(args: GenerateArgs) -> anyhow::Result<()> {
    let json = args.run.json;
    // A profile may say how many threads compute.
    let done = profile::complete(args).and_then(|args| {
        let cpu = args.resources.cpu;
        cpu.run(|| run_complete(args))
    });
    if let Err(error) = &done {
        Report::new(json).failed(error);
    }
    done
}

fn run_complete(args: GenerateArgs) -> anyhow::Result<()> {
    let mut report = Report::new(args.run.json);
    let args = from_image::complete(args, &mut report)?;
    if let Some(file) = &args.run.batch.prompts {
        return batch::run(file, &args, report);
    }
    if args.recorded.image.prompt().trim().is_empty() {
        bail!("the prompt is empty: describe the image");
    }
    if let Some(count) = args.run.best_of.best_of {
        return best_of::run(args, count, report);
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
    let mut previews = run
        .preview
        .open(run.no_mark, Shard::default(), &mut files)?;
    let grid_path = run.grid.path(grid::next_to(&file), &mut files)?;
    let RecordedArgs {
        image: args,
        loaded,
    } = recorded;
    // What each of the images is made of; their prompts differ where wildcards do.
    let all = resolved(args)?;
    let args = &all[0];
    let mut model = loaded.open(&resources)?;
    let control_save = run.control_save.as_deref();
    args.check_memory(&mut model.pipeline)?;
    let request = with_prompts(args.request(&model.pipeline, control_save)?, &all);
    let settings = request.validate(model.pipeline.spec())?;
    drop(request);
    previews.prepare(&mut model, &settings)?;
    let plan = model.pipeline.plan(settings)?;
    let settings = plan.settings();

    report.line(format_args!(
        "model {}, device {}, seed {}",
        model.name, model.device.name, settings.seed
    ))?;
    report.started(&model, all.len(), 0)?;
    write_notes(settings, args, &mut report)?;
    let later = settings.hires.map_or(0, |hires| hires.steps);
    let steps = settings.steps() + later;
    let progress = Progress::new(steps, "encoding the prompt");
    let seeds = settings.seeds();
    let made = Made {
        in_tiles: plan.decodes_in_tiles(),
        together: seeds.len(),
        start: settings.image_to_image,
        no_mark: run.no_mark,
    };
    let records = all.iter().zip(&seeds);
    let records: Vec<Record> = records
        .map(|(args, seed)| Record::new(args.applied(settings, *seed), &loaded, &model, made))
        .collect();
    for (path, record) in paths.iter().zip(&records) {
        image::check_text(path, &record.texts())?;
    }
    let started = Instant::now();
    let report = RefCell::new(report);
    let (indices, done) = (Vec::from_iter(0..all.len()), Cell::new(0));
    let passes = 1 + usize::from(later > 0);
    let mut observe = |mut step: StepInfo<'_>| {
        previews.show(&mut step, &progress);
        done.set(done.get() + 1);
        progress.advance(done.get() as u64, steps as u64);
        progress.phase(match step.index + 1 == step.steps {
            true => "decoding",
            false => "denoising",
        });
        let pass = 1 + usize::from(done.get() > settings.steps());
        // Whoever reads them may be gone, and the image is made all the same.
        let _ = report.borrow_mut().event(&Event::Step {
            step: step.index + 1,
            steps: step.steps,
            pass,
            passes,
            images: &indices,
        });
        StepAction::Continue
    };
    // Each is kept even if the process is killed before the next is there.
    let mut save = |index: usize, image: &RgbImage| {
        let texts = records[index].texts();
        image::save(&paths[index], image, &texts)?;
        report.borrow_mut().event(&Event::Image(Written {
            image: index,
            path: &paths[index],
            seed: seeds[index],
            prompt: all[index].prompt(),
            width: image.width(),
            height: image.height(),
            line: None,
        }))?;
        Ok(())
    };
    let generation = model
        .pipeline
        .generate_plan(&plan, &mut observe, &mut save)?;
    let mut report = report.into_inner();
    progress.finish();
    report.model_notes(&model)?;
    report.warnings(
        [
            cut("prompt", &generation.dropped_tokens),
            cut("negative prompt", &generation.dropped_negative_tokens),
        ]
        .into_iter()
        .flatten(),
    )?;

    report.stages(&generation.stages)?;
    for path in run.control_save.iter().chain(&paths) {
        report.line(format_args!("wrote {}", path.display()))?;
    }
    if let Some(path) = &grid_path {
        let grid = image::grid(&generation.images, &run.grid.options())?;
        marked::save(path, &grid, run.no_mark)?;
        report.line(format_args!("wrote {}", path.display()))?;
    }
    Ok(report.event(&Event::Done {
        images: paths.len(),
        skipped: 0,
        seconds: started.elapsed().as_secs_f64(),
        stages: generation.stages.iter().map(Into::into).collect(),
        grid: grid_path.as_deref(),
    })?)
}

/// The options of each image, with its seed and the prompt that its seed makes of the wildcards.
fn resolved(args: ImageArgs) -> anyhow::Result<Vec<ImageArgs>> {
    let first = args.seed.unwrap_or_else(random_seed);
    let templates = Templates::default();
    let one = |image: usize| {
        let seed = first.wrapping_add(image as u64);
        let made = templates.resolved(&args, seed).map_err(Error::msg)?;
        if made.prompt().trim().is_empty() {
            bail!(
                "of the prompt, seed {seed} makes nothing: describe the image in every alternative"
            );
        }
        Ok(ImageArgs {
            seed: Some(first),
            ..made
        })
    };
    (0..args.count()).map(one).collect()
}

/// The request with the prompts of each image, where they are not all the same.
fn with_prompts(request: Request, all: &[ImageArgs]) -> Request {
    let first = &all[0];
    let seeds = (0..all.len() as u64).map(|image| first.seed.unwrap_or(0).wrapping_add(image));
    let negatives = all.iter().map(ImageArgs::negative);
    let request = match negatives.clone().all(|text| text == first.negative()) {
        true if all.iter().all(|args| args.prompt() == first.prompt()) => return request,
        true => request,
        false => request.negatives(negatives),
    };
    request
        .with_prompts(all.iter().map(ImageArgs::prompt))
        .count(1)
        .seeds(seeds.collect())
}
