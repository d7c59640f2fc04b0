//! `sana generate --best-of`: many images of one prompt, of which a verifier chooses.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Error, bail};
use sana_linear_attn::weights::replace_file;
use sana_pipeline::best_of::{Rating, Verifier, considered, rank};
use sana_pipeline::{FolderLock, PipelineError, Request, StepAction, StepInfo, image};
use serde::{Deserialize, Serialize};

use super::args::verifier::VerifierName;
use super::args::{GenerateArgs, ImageArgs, RecordedArgs};
use super::events::{Event, Report, Written};
use super::record::Record;
use super::record::metadata::Made;
use super::request::{cut, random_seed, write_notes};
use super::template::Templates;
use crate::args::Shard;
use crate::files::Files;
use crate::files::paths::{self, FILE};
use crate::model::Model;
use crate::terminal::Progress;

/// Images made at a time without --batch.
const BATCH: usize = 4;

/// The ratings, as they are written.
#[derive(Debug, Serialize, Deserialize)]
struct Ratings {
    prompt: String,
    verifier: String,
    /// Images that were compared: fewer than there are where pairs are compared and the number is
    /// no power of two.
    compared: usize,
    /// Seeds of the kept images, the best first where there are scores.
    kept: Vec<u64>,
    candidates: Vec<Rated>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Rated {
    seed: u64,
    image: PathBuf,
    rating: Rating,
}

/// An image to be made and rated.
struct Candidate {
    seed: u64,
    path: PathBuf,
    record: Record,
    /// Whether an earlier run made it, with the same settings.
    there: bool,
}

/// Generates the candidates, rates each once, and writes the best. A run that was stopped continues:
/// images and ratings that are there already are kept.
pub fn run(args: GenerateArgs, count: usize, mut report: Report) -> anyhow::Result<()> {
    let GenerateArgs {
        recorded,
        resources,
        run,
    } = args;
    let keep = run.best_of.keep.unwrap_or(1);
    if keep > count {
        bail!("--keep {keep} is more than the images of --best-of {count}");
    }
    let verifier = run.best_of.verifier.context("no --verifier")?;
    let begin = Instant::now();
    // All of them are of one prompt: that of the first seed.
    let seed = recorded.image.seed.unwrap_or_else(random_seed);
    let resolved = Templates::default().resolved(&recorded.image, seed);
    let recorded = RecordedArgs {
        image: ImageArgs {
            seed: Some(seed),
            ..resolved.map_err(Error::msg)?
        },
        ..recorded
    };
    verifier.check(recorded.image.prompt())?;
    let file = run.out.unwrap_or_else(|| FILE.into());
    let mut files = Files::default();
    if let Some(path) = &run.from_image.from_image {
        files.reads(path, "the image of --from-image");
    }
    recorded.image.add_files(&mut files);
    recorded.loaded.add_files(&mut files);
    verifier.add_files(&mut files);
    let paths = paths::images(&file, keep, &mut files)?;
    let table = next_to(&file, "-best-of.json");
    files.writes(&table, "--out", "the ratings")?;
    image::check_writable(&table)?;
    let mut previews = run
        .preview
        .open(run.no_mark, Shard::default(), &mut files)?;

    let RecordedArgs {
        image: args,
        loaded,
    } = recorded;
    let mut model = loaded.open(&resources)?;
    args.check_memory(&mut model.pipeline)?;
    let request = args.request(&model.pipeline, None)?;
    let settings = request.validate(model.pipeline.spec())?;
    let folder = next_to(&file, "-candidates");
    fs::create_dir_all(&folder)
        .with_context(|| format!("cannot create the folder {}", folder.display()))?;
    let _lock = FolderLock::take(&folder)
        .with_context(|| format!("cannot write to the folder {}", folder.display()))?;
    let asked = run.batch.batch.unwrap_or(BATCH).min(count);
    let at_a_time = fitting(&request, asked, &mut model)?;
    if at_a_time < asked && run.batch.batch.is_some() {
        bail!("--batch {asked}: of these images {at_a_time} fit into memory at a time");
    }
    let unmade = Made {
        no_mark: run.no_mark,
        ..Made::default()
    };
    let record = |seed| Record::new(args.applied(&settings, seed), &loaded, &model, unmade);
    let candidates = candidates(count, &folder, settings.seed, record);
    for one in &candidates {
        files.writes(&one.path, "--best-of", "an image to choose from")?;
    }
    let mut rated = reused(&table, &candidates, args.prompt(), &verifier.text());
    report.line(format_args!(
        "model {}, device {}, seed {}, {} of {count} images are rated",
        model.name,
        model.device.name,
        settings.seed,
        rated.len()
    ))?;
    let there = candidates.iter().filter(|one| one.there).count();
    report.started(&model, count, there)?;
    write_notes(&settings, &args, &mut report)?;

    let mut started: Option<Box<dyn Verifier>> = None;
    let progress = Progress::new(count, "generating and rating");
    previews.prepare(&mut model, &settings)?;
    let mut with_text = None;
    for (path, one) in paths.iter().zip(&candidates) {
        image::check_text(path, &one.record.texts())?;
    }
    for batch in candidates.chunks(at_a_time) {
        let missing: Vec<&Candidate> = batch.iter().filter(|one| !one.there).collect();
        if !missing.is_empty() {
            // Ratings of the images that these replace: a run that stops before it rates them must not
            // leave those to the next one.
            if table.exists() {
                write_table(&table, &ratings(&candidates, &rated, &args, &verifier))?;
            }
            let request = match &mut with_text {
                Some(request) => request,
                none => none.insert(encoded(&request, &mut model, &mut report)?),
            };
            let record = |seed, made, model: &Model| {
                let made = Made {
                    no_mark: run.no_mark,
                    ..made
                };
                Record::new(args.applied(&settings, seed), &loaded, model, made)
            };
            let mut observe = |mut step: StepInfo<'_>| {
                previews.show(&mut step, &progress);
                StepAction::Continue
            };
            make(&missing, request, &mut model, record, &mut observe)?;
        }
        for one in batch {
            if rated.contains_key(&one.seed) {
                continue;
            }
            let rater = match &mut started {
                Some(rater) => rater,
                none => none.insert(verifier.start(&model.device.device)?),
            };
            let rating = rater.rate(args.prompt(), &one.path)?;
            rated.insert(one.seed, rating);
            write_table(&table, &ratings(&candidates, &rated, &args, &verifier))?;
        }
        progress.advance(rated.len() as u64, count as u64);
    }
    progress.finish();
    report.model_notes(&model)?;
    let kept = finish(
        &candidates,
        &rated,
        &args,
        &verifier,
        &paths,
        &table,
        &mut report,
    )?;
    for (index, (seed, path)) in kept.into_iter().zip(&paths).enumerate() {
        let (width, height) = image::load(path)?.dimensions();
        report.event(&Event::Image(Written {
            image: index,
            path,
            seed,
            prompt: args.prompt(),
            width,
            height,
            line: None,
        }))?;
    }
    Ok(report.event(&Event::Done {
        images: count - there,
        skipped: there,
        seconds: begin.elapsed().as_secs_f64(),
        stages: Vec::new(),
        grid: None,
    })?)
}

/// `NAME` and an ending, next to the image.
fn next_to(file: &Path, ending: &str) -> PathBuf {
    let mut name: OsString = file.file_stem().unwrap_or_default().to_owned();
    name.push(ending);
    file.with_file_name(name)
}

fn candidates(
    count: usize,
    folder: &Path,
    first: u64,
    record: impl Fn(u64) -> Record,
) -> Vec<Candidate> {
    let candidate = |index: u64| {
        let seed = first.wrapping_add(index);
        let (path, record) = (folder.join(format!("{seed}.png")), record(seed));
        let text = image::read_text(&path);
        Candidate {
            there: text.is_ok_and(|text| record.difference(&Record(text)).is_none()),
            seed,
            path,
            record,
        }
    };
    (0..count as u64).map(candidate).collect()
}

/// Ratings of an earlier run, by seed: of the same verifier and images.
fn reused(
    table: &Path,
    candidates: &[Candidate],
    prompt: &str,
    verifier: &str,
) -> HashMap<u64, Rating> {
    let bytes = fs::read(table).unwrap_or_default();
    let Ok(before) = serde_json::from_slice::<Ratings>(&bytes) else {
        return HashMap::new();
    };
    if before.prompt != prompt || before.verifier != verifier {
        return HashMap::new();
    }
    let there = candidates.iter().filter(|one| one.there);
    let seeds: HashSet<u64> = there.map(|one| one.seed).collect();
    let rated = before.candidates.into_iter();
    rated
        .filter(|rated| seeds.contains(&rated.seed) && rated.rating.is_finite())
        .map(|rated| (rated.seed, rated.rating))
        .collect()
}

/// As many of so many images as fit into memory at a time.
fn fitting(request: &Request, asked: usize, model: &mut Model) -> anyhow::Result<usize> {
    let mut at_a_time = asked;
    loop {
        let checked = model
            .pipeline
            .check_memory(&request.clone().count(at_a_time));
        match checked {
            Err(PipelineError::Memory { .. }) if at_a_time > 1 => at_a_time /= 2,
            checked => return Ok(checked.map(|()| at_a_time)?),
        }
    }
}

/// The request with its prompts encoded, once for all batches.
fn encoded(request: &Request, model: &mut Model, report: &mut Report) -> anyhow::Result<Request> {
    let text = model.pipeline.encode_prompt(request)?;
    let cut = [
        cut("prompt", text.dropped_tokens()),
        cut("negative prompt", text.dropped_negative_tokens()),
    ];
    report.warnings(cut.into_iter().flatten())?;
    Ok(request.clone().embeddings(text.prompt, text.negative))
}

/// Makes images as one batch; each is written as soon as it is decoded.
fn make(
    missing: &[&Candidate],
    request: &Request,
    model: &mut Model,
    record: impl Fn(u64, Made, &Model) -> Record,
    observe: &mut dyn FnMut(StepInfo<'_>) -> StepAction,
) -> anyhow::Result<()> {
    let request = request
        .clone()
        .count(missing.len())
        .seeds(missing.iter().map(|one| one.seed).collect());
    let settings = request.validate(model.pipeline.spec())?;
    let plan = model.pipeline.plan(settings)?;
    let made = Made {
        in_tiles: plan.decodes_in_tiles(),
        together: missing.len(),
        start: plan.settings().image_to_image,
        ..Made::default()
    };
    let records = missing.iter().map(|one| record(one.seed, made, model));
    let records: Vec<Record> = records.collect();
    model
        .pipeline
        .generate_plan(&plan, observe, &mut |index, image| {
            let path = &missing[index].path;
            Ok(image::save_png(path, image, &records[index].texts())?)
        })?;
    Ok(())
}

/// What is known so far.
fn ratings(
    candidates: &[Candidate],
    rated: &HashMap<u64, Rating>,
    args: &ImageArgs,
    verifier: &VerifierName,
) -> Ratings {
    let known = |one: &Candidate| {
        Some(Rated {
            seed: one.seed,
            image: one.path.clone(),
            rating: *rated.get(&one.seed)?,
        })
    };
    Ratings {
        prompt: args.prompt().to_owned(),
        verifier: verifier.text(),
        compared: 0,
        kept: Vec::new(),
        candidates: candidates.iter().filter_map(known).collect(),
    }
}

fn write_table(path: &Path, ratings: &Ratings) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(ratings)?;
    replace_file(path, |file| writeln!(file, "{text}"))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Compares the ratings, and writes the best images and the table. Returns the seeds of the images.
fn finish(
    candidates: &[Candidate],
    rated: &HashMap<u64, Rating>,
    args: &ImageArgs,
    verifier: &VerifierName,
    paths: &[PathBuf],
    table: &Path,
    report: &mut Report,
) -> anyhow::Result<Vec<u64>> {
    let mut ratings = ratings(candidates, rated, args, verifier);
    let all: Vec<Rating> = ratings.candidates.iter().map(|one| one.rating).collect();
    let kept = rank(&all, paths.len())?;
    let by_score = matches!(all.first(), Some(Rating::Score(_)));
    let [compared, keeping] = considered(by_score, all.len(), paths.len());
    ratings.compared = compared;
    ratings.kept = kept.iter().map(|index| candidates[*index].seed).collect();
    write_table(table, &ratings)?;
    if [compared, keeping] != [all.len(), paths.len()] {
        report.notes([format!(
            "images meet in pairs, so {compared} of {} are compared and {keeping} kept",
            all.len()
        )])?;
    }
    for (index, path) in kept.iter().zip(paths) {
        let Candidate {
            seed, path: from, ..
        } = &candidates[*index];
        // With what it says of how it was made.
        let record = Record(image::read_text(from)?);
        image::save(path, &image::load(from)?, &record.texts())?;
        let rating = match all[*index] {
            Rating::Score(score) => format!("score {score}"),
            Rating::Answer { yes, no } => format!("yes {yes}, no {no}"),
        };
        report.line(format_args!(
            "wrote {}: seed {seed}, {rating}",
            path.display()
        ))?;
    }
    report.line(format_args!("wrote {}", table.display()))?;
    Ok(ratings.kept)
}
