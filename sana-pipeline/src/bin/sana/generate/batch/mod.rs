//! `sana generate --prompts`: images of the prompts in a file, those with equal options together.

mod file_name;
mod plan;
mod prompt_file;

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use sana_pipeline::memory::StageReport;
use sana_pipeline::{FolderLock, Generation, Request, StepAction, StepInfo, image};

use self::plan::{BatchImage, Line, batches, images, lines};
use self::prompt_file::Problems;
use super::args::{GenerateArgs, ImageArgs, LoadedArgs, RecordedArgs};
use super::metadata::{Made, Record};
use crate::files::Files;
use crate::marked;
use crate::model::Model;
use crate::preview::Previews;
use crate::terminal::{Progress, output, warning, write_stages};

/// Where images go without --out.
const FOLDER: &str = "images";
/// Warnings of a kind that are shown; the others are counted.
const SHOWN: usize = 5;

/// The prompts of a file in which they have no options of their own.
pub fn read_prompts(file: &Path) -> anyhow::Result<Vec<String>> {
    let mut problems = Problems::default();
    let entries = prompt_file::read(file, &mut problems)?;
    let mut prompts = Vec::with_capacity(entries.len());
    for entry in entries {
        let prompt = entry.args.prompt().to_owned();
        let alone = ImageArgs {
            prompt: entry.args.prompt.clone(),
            ..ImageArgs::default()
        };
        if entry.args != alone {
            problems.add(
                entry.line,
                "options have no effect here, only the prompt has",
            );
        } else if prompt.trim().is_empty() {
            problems.add(entry.line, "the prompt is empty");
        }
        prompts.push(prompt);
    }
    problems.check(file)?;
    if prompts.is_empty() {
        bail!("{} holds no prompt", file.display());
    }
    Ok(prompts)
}

/// Makes the images of the prompts in a file. Everything that can be wrong with a line is found
/// before the first image is begun.
pub fn run(file: &Path, args: &GenerateArgs) -> anyhow::Result<()> {
    let folder = folder(args.run.out.as_deref())?;
    if args.run.control_save.is_some() {
        bail!("--control-save keeps the control image of one prompt, and not of a file of them");
    }
    let RecordedArgs { image, loaded } = &args.recorded;
    let mut problems = Problems::default();
    let entries = prompt_file::read(file, &mut problems)?;
    let lines = lines(entries, image, &mut problems);
    let ending = args.run.batch.format.unwrap_or_default().ending();
    let images = images(&lines, &folder, ending, &mut problems);
    problems.check(file)?;
    if lines.is_empty() {
        bail!("{} holds no prompt", file.display());
    }

    let mut model = loaded.open(&args.resources)?;
    let (mut applied, mut notes) = (Vec::with_capacity(lines.len()), BTreeSet::new());
    for line in &lines {
        let fits = line.args.check_memory(&mut model.pipeline);
        let request = fits.and_then(|()| line.args.request(&model.pipeline, None));
        match request.and_then(|request| Ok(request.validate(model.pipeline.spec())?)) {
            Ok(checked) => {
                notes.extend(checked.notes().iter().cloned().chain(line.args.note()));
                applied.push(line.args.applied(&checked, checked.seed));
            }
            Err(error) => problems.add(line.number, format!("{error:#}")),
        }
    }
    problems.check(file)?;

    fs::create_dir_all(&folder)
        .with_context(|| format!("cannot create the folder {}", folder.display()))?;
    let _lock = FolderLock::take(&folder)
        .with_context(|| format!("cannot write to the folder {}", folder.display()))?;
    let paths: Vec<PathBuf> = images.iter().map(|one| one.path.clone()).collect();
    let mut files = Files::default();
    files.reads(file, "the prompts");
    if let Some(path) = &args.run.from_image.from_image {
        files.reads(path, "the image of --from-image");
    }
    loaded.add_files(&mut files);
    for path in &paths {
        files.reads(path, "an image");
    }
    for line in &lines {
        line.args.add_files(&mut files);
    }
    let previews = args.run.preview.open(args.run.no_mark, &mut files)?;
    let grid_path = args.run.grid.path(folder.join("grid.png"), &mut files)?;
    let (existing, wanted): (Vec<&BatchImage>, Vec<&BatchImage>) =
        images.iter().partition(|image| image.path.exists());
    for image in &wanted {
        let made = Made {
            in_tiles: true,
            together: images.len(),
            no_mark: args.run.no_mark,
            ..Made::default()
        };
        let record = Record::new(image.applied(&applied), loaded, &model, made);
        image::check_text(&image.path, &record.texts())
            .with_context(|| format!("line {}", lines[image.line].number))?;
    }
    warn(&differing(&existing, &applied, loaded, &model)?);
    if let Some(first) = wanted.first() {
        image::check_writable(&first.path)?;
    }

    let batches = batches(&wanted, &lines, args.run.batch.batch.unwrap_or(1));
    check_memory(&batches, &lines, &applied, &mut model)?;

    let mut out = output();
    out.line(format_args!(
        "model {}, device {}, {} images of {} prompts, {} of them exist",
        model.name,
        model.device.name,
        images.len(),
        lines.len(),
        existing.len()
    ))?;
    for note in notes {
        out.line(format_args!("note: {note}"))?;
    }
    let started = Instant::now();
    let (stages, cut) = make(
        &batches,
        &lines,
        &applied,
        loaded,
        &mut model,
        previews,
        args.run.no_mark,
    )?;
    let seconds = started.elapsed().as_secs_f64();
    model.print_notes();
    warn(&cut);

    write_stages(&stages, &mut out)?;
    writeln!(out, "{}", summary(wanted.len(), seconds, existing.len()))?;
    out.line(format_args!("wrote {}", folder.display()))?;
    if let Some(path) = grid_path {
        let grid = image::grid_of_files(&paths, &args.run.grid.options())?;
        marked::save(&path, &grid, args.run.no_mark)?;
        out.line(format_args!("wrote {}", path.display()))?;
    }
    Ok(())
}

/// The folder of `--out`.
fn folder(out: Option<&Path>) -> anyhow::Result<PathBuf> {
    let Some(folder) = out else {
        return Ok(FOLDER.into());
    };
    let names_a_file = image::FileFormat::of(folder).is_ok() && !folder.is_dir();
    if folder.is_file() || names_a_file {
        bail!(
            "with --prompts, --out is a folder: {} is a file",
            folder.display()
        );
    }
    Ok(folder.to_owned())
}

/// Warnings of images that exist, but were made with other options than they would be now.
///
/// # Errors
/// When a file exists that is not an image: it was not made here.
fn differing(
    existing: &[&BatchImage],
    applied: &[ImageArgs],
    loaded: &LoadedArgs,
    model: &Model,
) -> anyhow::Result<Vec<String>> {
    let mut warnings = Vec::new();
    for image in existing {
        let path = image.path.display();
        let text = image::read_text(&image.path).with_context(|| {
            format!("{path} exists, but is not an image: remove it, and its image is made")
        })?;
        let now = Record::new(image.applied(applied), loaded, model, Made::default());
        if let Some(key) = now.difference(&Record(text)) {
            warnings.push(format!(
                "{path} was made with another {key}: remove it, and it is made again"
            ));
        }
    }
    Ok(shortened(warnings))
}

/// At most [`SHOWN`] of them, and how many more there are.
fn shortened(mut warnings: Vec<String>) -> Vec<String> {
    let more = warnings.len().saturating_sub(SHOWN);
    if more > 0 {
        warnings.truncate(SHOWN);
        warnings.push(format!("and {more} more like these"));
    }
    warnings
}

fn warn(warnings: &[String]) {
    for line in warnings {
        warning(line);
    }
}

/// Refuses batches that do not fit into memory, once for all with equal options.
fn check_memory(
    batches: &[Vec<&BatchImage>],
    lines: &[Line],
    applied: &[ImageArgs],
    model: &mut Model,
) -> anyhow::Result<()> {
    let mut checked = HashSet::new();
    for batch in batches {
        let line = &lines[batch[0].line];
        if checked.insert((&line.in_common, batch.len())) {
            // Their size is known by now, so the images that they name are not read for it.
            let first = applied[batch[0].line].request_without_files(model.pipeline.spec())?;
            let request = together(first, batch, lines);
            model.pipeline.check_memory(&request).with_context(|| {
                format!(
                    "{} images at a time with the options of line {}; nothing was made",
                    batch.len(),
                    line.number
                )
            })?;
        }
    }
    Ok(())
}

/// Makes the images and writes each as soon as its batch is done. Returns what the stages took,
/// all batches together, and warnings.
fn make(
    batches: &[Vec<&BatchImage>],
    lines: &[Line],
    applied: &[ImageArgs],
    loaded: &LoadedArgs,
    model: &mut Model,
    mut previews: Previews,
    no_mark: bool,
) -> anyhow::Result<(Vec<StageReport>, Vec<String>)> {
    let all: usize = batches.iter().map(Vec::len).sum();
    let (mut done, mut stages) = (0, Vec::new());
    let (mut cut, mut reported) = (Vec::new(), HashSet::new());
    if all == 0 {
        return Ok((stages, cut));
    }
    let progress = Progress::new(all, "generating");
    for batch in batches {
        let numbers = || {
            let mut numbers: Vec<_> = batch.iter().map(|one| lines[one.line].number).collect();
            numbers.dedup();
            let numbers: Vec<String> = numbers.iter().map(usize::to_string).collect();
            numbers.join(", ")
        };
        let made = request(batch, lines, model)
            .and_then(|request| Ok(request.validate(model.pipeline.spec())?))
            .and_then(|together| {
                previews.prepare(model, [together.width, together.height])?;
                let start = together.image_to_image;
                let plan = model.pipeline.plan(together)?;
                let observe = &mut |mut step: StepInfo<'_>| {
                    previews.show(&mut step, &progress);
                    StepAction::Continue
                };
                let keep = &mut |_, _: &_| Ok(());
                let generation = model.pipeline.generate_plan(&plan, observe, keep)?;
                Ok((generation, plan.decodes_in_tiles(), start))
            });
        let (generation, in_tiles, start) = made.with_context(|| {
            format!(
                "the images of line {} were not made; {done} of {all} were, and the same command \
                 continues from there",
                numbers()
            )
        })?;
        let how = Made {
            in_tiles,
            together: batch.len(),
            start,
            no_mark,
        };
        for (image, made) in batch.iter().zip(&generation.images) {
            let record = Record::new(image.applied(applied), loaded, model, how);
            image::save(&image.path, made, &record.texts())?;
        }
        cut.extend(cuts(batch, lines, &generation, &mut reported));
        add(&mut stages, generation.stages);
        done += batch.len();
        progress.advance(done as u64, all as u64);
    }
    progress.finish();
    Ok((stages, shortened(cut)))
}

/// The request for a batch.
fn request(batch: &[&BatchImage], lines: &[Line], model: &Model) -> anyhow::Result<Request> {
    let first = lines[batch[0].line].args.request(&model.pipeline, None)?;
    Ok(together(first, batch, lines))
}

/// A request of the first line of a batch, for all images of it.
fn together(request: Request, batch: &[&BatchImage], lines: &[Line]) -> Request {
    let args = |image: &&BatchImage| &lines[image.line].args;
    let first = &lines[batch[0].line].args;
    let request = request
        .with_prompts(batch.iter().map(|one| args(one).prompt()))
        .count(1)
        .seeds(batch.iter().map(|one| one.seed).collect());
    // One negative prompt for all is encoded once.
    let shared = batch
        .iter()
        .all(|one| args(one).negative() == first.negative());
    match shared {
        true => request.negative(first.negative()),
        false => request.negatives(batch.iter().map(|one| args(one).negative())),
    }
}

/// What was cut off prompts that are too long; each text is reported once.
fn cuts<'a>(
    batch: &[&BatchImage],
    lines: &'a [Line],
    generation: &Generation,
    reported: &mut HashSet<(&'static str, &'a str)>,
) -> Vec<String> {
    let mut warnings = Vec::new();
    let prompts = generation.dropped_tokens.iter();
    let negatives = generation.dropped_negative_tokens.iter();
    let prompts = prompts.map(|dropped| ("prompt", dropped));
    let negatives = negatives.map(|dropped| ("negative prompt", dropped));
    let images = || batch.iter().map(|image| &lines[image.line]);
    let cut = images().zip(prompts).chain(images().zip(negatives));
    for (line, (what, dropped)) in cut.filter(|(_, (_, dropped))| **dropped > 0) {
        let text = match what {
            "prompt" => line.args.prompt(),
            _ => line.args.negative(),
        };
        if reported.insert((what, text)) {
            let number = line.number;
            warnings.push(format!(
                "the {what} of line {number} is too long, its last {dropped} tokens were left out"
            ));
        }
    }
    warnings
}

/// Adds the stages of a batch to those before.
fn add(stages: &mut Vec<StageReport>, more: Vec<StageReport>) {
    for stage in more {
        match stages.iter_mut().find(|sum| sum.name == stage.name) {
            None => stages.push(stage),
            Some(sum) => {
                sum.seconds += stage.seconds;
                sum.load_seconds += stage.load_seconds;
                sum.peak_memory_bytes = sum.peak_memory_bytes.max(stage.peak_memory_bytes);
                sum.device_memory_bytes = sum.device_memory_bytes.max(stage.device_memory_bytes);
            }
        }
    }
}

/// How many images, how fast, and how many were skipped.
fn summary(made: usize, seconds: f64, skipped: usize) -> String {
    let mut text = format!("made {made} images");
    if made > 0 {
        let per_minute = made as f64 / seconds.max(1e-3) * 60.0;
        text += &format!(" in {seconds:.1} s, {per_minute:.1} a minute");
    }
    if skipped > 0 {
        text += &format!(", skipped {skipped} that existed");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary() {
        assert_eq!(summary(3, 90.0, 0), "made 3 images in 90.0 s, 2.0 a minute");
        assert_eq!(summary(0, 0.1, 4), "made 0 images, skipped 4 that existed");
    }
}
