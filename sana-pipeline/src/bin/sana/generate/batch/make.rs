//! Batches of images, made and written.

use std::collections::HashSet;

use anyhow::Context;
use sana_pipeline::memory::StageReport;
use sana_pipeline::{Generation, Request, StepAction, StepInfo, image};

use super::plan::{BatchImage, Line};
use crate::generate::args::{ImageArgs, LoadedArgs};
use crate::generate::events::{Event, Report, Written};
use crate::generate::record::metadata::{Made, Record};
use crate::model::Model;
use crate::preview::Previews;
use crate::terminal::Progress;

/// Refuses batches that do not fit into memory, once for all with equal options.
pub fn check_memory(
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
            let request = together(first, batch);
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

/// What is made, and how.
pub struct Job<'a> {
    pub lines: &'a [Line],
    /// The options of each line, as they are applied.
    pub applied: &'a [ImageArgs],
    pub loaded: &'a LoadedArgs,
    pub no_mark: bool,
}

impl Job<'_> {
    /// Makes the images and writes each as soon as its batch is done. Returns what the stages took,
    /// all batches together, and warnings.
    pub fn make(
        &self,
        batches: &[Vec<&BatchImage>],
        model: &mut Model,
        mut previews: Previews,
        report: &mut Report,
    ) -> anyhow::Result<(Vec<StageReport>, Vec<String>)> {
        let &Self {
            lines,
            applied,
            loaded,
            no_mark,
        } = self;
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
                    previews.prepare(model, &together)?;
                    let start = together.image_to_image;
                    let plan = model.pipeline.plan(together)?;
                    let settings = plan.settings();
                    let indices: Vec<usize> = batch.iter().map(|one| one.position).collect();
                    let mut steps = 0;
                    let observe = &mut |mut step: StepInfo<'_>| {
                        previews.show(&mut step, &progress);
                        steps += 1;
                        let _ = report.event(&Event::Step {
                            step: step.index + 1,
                            steps: step.steps,
                            pass: 1 + usize::from(steps > settings.steps()),
                            passes: 1 + usize::from(settings.hires.is_some()),
                            images: &indices,
                        });
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
                report.event(&Event::Image(Written {
                    image: image.position,
                    path: &image.path,
                    seed: image.seed,
                    prompt: image.args.prompt(),
                    width: made.width(),
                    height: made.height(),
                    line: Some(lines[image.line].number),
                }))?;
            }
            cut.extend(cuts(batch, lines, &generation, &mut reported));
            add(&mut stages, generation.stages);
            done += batch.len();
            progress.advance(done as u64, all as u64);
        }
        progress.finish();
        Ok((stages, cut))
    }
}

/// The request for a batch.
fn request(batch: &[&BatchImage], lines: &[Line], model: &Model) -> anyhow::Result<Request> {
    let first = lines[batch[0].line].args.request(&model.pipeline, None)?;
    Ok(together(first, batch))
}

/// A request of the first line of a batch, for all images of it.
fn together(request: Request, batch: &[&BatchImage]) -> Request {
    let request = request
        .with_prompts(batch.iter().map(|one| one.args.prompt()))
        .count(1)
        .seeds(batch.iter().map(|one| one.seed).collect());
    // One negative prompt for all is encoded once.
    let first = batch[0].args.negative();
    match batch.iter().all(|one| one.args.negative() == first) {
        true => request.negative(first),
        false => request.negatives(batch.iter().map(|one| one.args.negative())),
    }
}

/// What was cut off prompts that are too long; each text is reported once.
fn cuts<'a>(
    batch: &[&'a BatchImage],
    lines: &[Line],
    generation: &Generation,
    reported: &mut HashSet<(&'static str, &'a str)>,
) -> Vec<String> {
    let mut warnings = Vec::new();
    let prompts = generation.dropped_tokens.iter();
    let negatives = generation.dropped_negative_tokens.iter();
    let prompts = prompts.map(|dropped| ("prompt", dropped));
    let negatives = negatives.map(|dropped| ("negative prompt", dropped));
    let images = || batch.iter().copied();
    let cut = images().zip(prompts).chain(images().zip(negatives));
    for (image, (what, dropped)) in cut.filter(|(_, (_, dropped))| **dropped > 0) {
        let text = match what {
            "prompt" => image.args.prompt(),
            _ => image.args.negative(),
        };
        if reported.insert((what, text)) {
            let number = lines[image.line].number;
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
