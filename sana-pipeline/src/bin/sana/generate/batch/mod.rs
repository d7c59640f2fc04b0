//! `sana generate --prompts`: images of the prompts in a file, those with equal options together.

mod file_name;
mod make;
mod plan;
mod prompt_file;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use sana_pipeline::{FolderLock, image};

use self::make::{Job, check_memory};
use self::plan::{BatchImage, batches, images, lines};
use self::prompt_file::Problems;
use super::args::{GenerateArgs, ImageArgs, LoadedArgs, RecordedArgs};
use super::events::{Event, Report};
use super::record::Record;
use super::record::metadata::Made;
use super::template::Templates;
use crate::files::{Files, marked};
use crate::model::Model;

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
pub fn run(file: &Path, args: &GenerateArgs, mut report: Report) -> anyhow::Result<()> {
    let folder = folder(args.run.out.as_deref())?;
    if args.run.control_save.is_some() {
        bail!("--control-save keeps the control image of one prompt, and not of a file of them");
    }
    let RecordedArgs { image, loaded } = &args.recorded;
    let mut problems = Problems::default();
    let entries = prompt_file::read(file, &mut problems)?;
    let lines = lines(entries, image, &mut problems);
    let ending = args.run.batch.format.unwrap_or_default().ending();
    let templates = Templates::default();
    let images = images(&lines, &folder, ending, &templates, &mut problems);
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
    let shard = args.run.batch.shard.filter(|shard| !shard.is_whole());
    let _lock = match shard {
        None => FolderLock::take(&folder),
        Some(shard) => FolderLock::take_shard(&folder, shard.number(), shard.count()),
    }
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
    let share = shard.unwrap_or_default();
    let previews = &args.run.preview;
    let previews = previews.open(args.run.no_mark, share, &mut files)?;
    let grid_path = args.run.grid.path(folder.join("grid.png"), &mut files)?;
    let own = share.of(&images);
    let (existing, wanted): (Vec<&BatchImage>, Vec<&BatchImage>) = own
        .map(|(_, image)| image)
        .partition(|image| image.path.exists());
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
    report.warnings(differing(&existing, &applied, loaded, &model)?)?;
    if let Some(first) = wanted.first() {
        image::check_writable(&first.path)?;
    }

    let batches = batches(&wanted, &lines, args.run.batch.batch.unwrap_or(1));
    check_memory(&batches, &lines, &applied, &mut model)?;

    let of = match shard {
        None => format!("{} images", images.len()),
        Some(shard) => format!(
            "share {shard}: {} of {} images",
            existing.len() + wanted.len(),
            images.len()
        ),
    };
    report.line(format_args!(
        "model {}, device {}, {of} of {} prompts, {} of them exist",
        model.name,
        model.device.name,
        lines.len(),
        existing.len()
    ))?;
    report.started(&model, existing.len() + wanted.len(), existing.len())?;
    report.notes(notes)?;
    let started = Instant::now();
    let job = Job {
        lines: &lines,
        applied: &applied,
        loaded,
        no_mark: args.run.no_mark,
    };
    let (stages, cut) = job.make(&batches, &mut model, previews, &mut report)?;
    let seconds = started.elapsed().as_secs_f64();
    report.model_notes(&model)?;
    report.warnings(shortened(cut))?;

    report.stages(&stages)?;
    writeln!(report, "{}", summary(wanted.len(), seconds, existing.len()))?;
    report.line(format_args!("wrote {}", folder.display()))?;
    if let Some(path) = &grid_path {
        let grid = image::grid_of_files(&paths, &args.run.grid.options())?;
        marked::save(path, &grid, args.run.no_mark)?;
        report.line(format_args!("wrote {}", path.display()))?;
    }
    Ok(report.event(&Event::Done {
        images: wanted.len(),
        skipped: existing.len(),
        seconds,
        stages: stages.iter().map(Into::into).collect(),
        grid: grid_path.as_deref(),
    })?)
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
