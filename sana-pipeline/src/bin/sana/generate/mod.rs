//! `sana generate`: pictures from a prompt.

mod args;
mod batch;
mod control;
mod from_png;
mod grid;
mod image_to_image;
mod metadata;
mod options;
pub mod paths;

use std::io::Write;

use anyhow::bail;
use sana_pipeline::{StepAction, image};

use self::args::request;
use crate::model::Model;
use crate::terminal::{Progress, output, write_stages};

pub use self::args::GenerateArgs;
pub use self::metadata::Record;

/// Runs `sana generate`.
pub fn run(args: GenerateArgs) -> anyhow::Result<()> {
    let (args, options) = from_png::complete(args, std::env::args_os().skip(1))?;
    if let Some(file) = &args.many.prompts {
        return batch::run(file, &args, &options);
    }
    if args.prompt.trim().is_empty() {
        bail!("the prompt is empty: say what to draw");
    }
    let paths = paths::pictures(&args.out, args.count)?;
    args.control.check_writable(&paths)?;
    let sheet = args.many.grid.path(self::grid::beside(&args.out), &paths)?;
    let controlnet = args.control.controlnet();
    let mut model = Model::open_with(&args.model, args.lora.files(), controlnet)?;
    let request = request(&args, &model.pipeline)?;
    let settings = request.validate(&model.pipeline)?;

    let mut out = output();
    writeln!(
        out,
        "model {}, device {}, seed {}",
        model.name, model.device.name, settings.seed
    )?;
    if args.aspect.is_some() || args.bucket {
        writeln!(out, "bucket {}x{}", settings.width, settings.height)?;
    }
    if let Some(note) = model.pipeline.size_note(&settings) {
        writeln!(out, "note: {note}")?;
    }
    let progress = Progress::new(settings.steps(), "reading the prompt");
    let generation = model.pipeline.generate(&request, &mut |step| {
        let done = step.index + 1;
        progress.advance(done as u64, step.steps as u64);
        progress.tell(match done == step.steps {
            true => "decoding",
            false => "drawing",
        });
        StepAction::Continue
    })?;
    progress.finish();
    model.tell_notes();
    warn_of_cut("prompt", &generation.dropped_tokens);
    warn_of_cut("negative prompt", &generation.dropped_negative_tokens);

    let pictures = generation.images.iter().zip(&generation.seeds);
    for (path, (picture, seed)) in paths.iter().zip(pictures) {
        let record = Record::new(&args, &settings, *seed, &model);
        image::save_png(path, picture, &record.chunks())?;
    }
    write_stages(&generation.stages, &mut out)?;
    for path in args.control.saved().into_iter().chain(&paths) {
        writeln!(out, "wrote {}", path.display())?;
    }
    if let Some(path) = sheet {
        let sheet = image::grid(&generation.images, &args.many.grid.options())?;
        self::grid::save(&path, &sheet)?;
        writeln!(out, "wrote {}", path.display())?;
    }
    Ok(())
}

fn warn_of_cut(what: &str, dropped_tokens: &[usize]) {
    let dropped: usize = dropped_tokens.iter().sum();
    if dropped > 0 {
        eprintln!("warning: the {what} is too long, its last {dropped} tokens were left out");
    }
}
