//! The one thread that owns the model.

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::Ordering;
use std::time::Instant;

use sana_pipeline::error::ObserverError;
use sana_pipeline::image::RgbImage;
use sana_pipeline::{PipelineError, Request, StepAction, StepInfo};

use super::error::ApiError;
use super::state::Shared;
use super::state::job::{Event, Job, Made, Signal};
use crate::generate::args::{ImageArgs, LoadedArgs};
use crate::generate::record::{Record, metadata};
use crate::model::Model;
use crate::preview;
use crate::terminal::warning;

/// An image of a batch: the number of its job, and its number within the job.
type Place = (usize, usize);

/// Makes what is queued until the queue is closed and empty.
pub fn work(model: &mut Model, loaded: &LoadedArgs, shared: &Shared) {
    let most = shared.limits.max_batch;
    let fits = |taken: &[Job], job: &Job| {
        let images = |job: &Job| job.settings.images();
        let together: usize = taken.iter().map(images).sum();
        let common = job.in_common();
        together + images(job) <= most && common.is_some() && common == taken[0].in_common()
    };
    while let Some(jobs) = shared.queue.next(fits) {
        let begin = Instant::now();
        for job in &jobs {
            shared.metrics.waited(job.since.elapsed());
        }
        shared
            .running
            .begin(jobs.iter().map(|job| job.signal.clone()));
        // What panics is a bug, of burn's or ours; the next request may be another one.
        let result = panic::catch_unwind(AssertUnwindSafe(|| make(model, loaded, shared, &jobs)));
        let result = result.unwrap_or_else(|_| Err(ApiError::internal("the model panicked")));
        shared.running.end();
        if let Err(error) = result {
            let unfinished =
                |job: &&Job| job.delivered.load(Ordering::Relaxed) < job.settings.images();
            for job in jobs.iter().filter(unfinished) {
                // Whoever has gone misses nothing.
                let _ = job.events.send(Event::Failed(error.clone()));
            }
        }
        shared.queue.took(begin.elapsed().as_secs_f64(), jobs.len());
    }
}

/// Makes the images of jobs that have their settings in common, as many at a time as may be and as fit
/// into memory.
fn make(
    model: &mut Model,
    loaded: &LoadedArgs,
    shared: &Shared,
    jobs: &[Job],
) -> Result<(), ApiError> {
    let places: Vec<Place> = jobs
        .iter()
        .enumerate()
        .flat_map(|(number, job)| (0..job.settings.images()).map(move |image| (number, image)))
        .collect();
    let mut at_a_time = shared.limits.max_batch.min(places.len());
    while at_a_time > 1
        && let Err(PipelineError::Memory { .. }) = model
            .pipeline
            .check_memory(&request(jobs, &places[..at_a_time]))
    {
        at_a_time /= 2;
    }
    let chunks = places.len().div_ceil(at_a_time);
    for (chunk, places) in places.chunks(at_a_time).enumerate() {
        // Those that are interrupted have the images of the chunks before.
        let ends =
            |job: &Job| job.signal.is_cancelled() || (chunk > 0 && job.signal.is_interrupted());
        if jobs.iter().all(ends) {
            return Ok(());
        }
        make_together(model, loaded, shared, jobs, places, [chunk, chunks])?;
    }
    Ok(())
}

/// Makes the images at some places of a batch together: chunk `chunk` of `chunks`.
fn make_together(
    model: &mut Model,
    loaded: &LoadedArgs,
    shared: &Shared,
    jobs: &[Job],
    places: &[Place],
    [chunk, chunks]: [usize; 2],
) -> Result<(), ApiError> {
    let together = request(jobs, places).validate(model.pipeline.spec());
    let together = together.map_err(|error| ApiError::from(&error))?;
    let shows = places.iter().any(|place| jobs[place.0].draft.previews > 0);
    if shows || shared.running.is_watched() {
        prepare_previews(model, shared, [together.width, together.height]);
    }
    let start = together.image_to_image;
    let plan = model.pipeline.plan(together);
    let plan = plan.map_err(|error| ApiError::from(&error))?;
    let how = metadata::Made {
        in_tiles: plan.decodes_in_tiles(),
        together: places.len(),
        start,
        no_mark: shared.no_mark,
    };
    let mut signals: Vec<&Signal> = places.iter().map(|(job, _)| &jobs[*job].signal).collect();
    signals.dedup_by(|one, other| std::ptr::eq(*one, *other));
    let records: Vec<Record> = places
        .iter()
        .map(|place| {
            let (draft, settings) = (&jobs[place.0].draft, &jobs[place.0].settings);
            let applied = draft.args.applied(settings, seed(jobs, *place));
            Record::new(applied, loaded, model, how)
        })
        .collect();
    let mut last = None;
    let mut observe = |mut step: StepInfo<'_>| -> Result<StepAction, ObserverError> {
        // The first follows other stages, and the others no preview.
        if let Some(last) = last.take() {
            shared.metrics.step(Instant::elapsed(&last));
        }
        let all = |wants: fn(&Signal) -> bool| signals.iter().all(|signal| wants(signal));
        if all(Signal::is_cancelled) {
            return Err(Cancelled.into());
        }
        let (done, steps) = (step.index + 1, step.steps);
        shared.running.step(chunk * steps + done, chunks * steps);
        let wanted = |job: &Job| {
            // A client that reads slowly has those that it has not read.
            let waiting = job.pending.load(Ordering::Relaxed);
            waiting < 2 * job.settings.images() && is_shown(done, steps, job.draft.previews)
        };
        let mut previews = match places.iter().any(|place| wanted(&jobs[place.0]))
            || shared.running.is_watched()
        {
            true => preview::of_step(&mut step, shared.decode_previews)?,
            false => Vec::new(),
        };
        if let Some(first) = previews.first() {
            shared.running.show(first);
        }
        for (number, job) in jobs.iter().enumerate() {
            if places.iter().any(|place| place.0 == number) {
                let (step, steps) = (chunk * steps + done, chunks * steps);
                let _ = job.events.send(Event::Step { step, steps });
            }
        }
        for ((number, image), preview) in places.iter().zip(previews.drain(..)) {
            let job = &jobs[*number];
            if wanted(job) {
                let image = *image;
                job.pending.fetch_add(1, Ordering::Relaxed);
                let _ = job.events.send(Event::Preview { image, preview });
            }
        }
        last = Some(Instant::now());
        Ok(match all(Signal::is_interrupted) {
            true => StepAction::Stop,
            false => StepAction::Continue,
        })
    };
    let mut records = records.into_iter();
    let mut deliver = |index: usize, image: &RgbImage| {
        let (number, image_index) = places[index];
        let made = Made {
            index: image_index,
            seed: seed(jobs, places[index]),
            image: image.clone(),
            record: records.next().ok_or("more images than were asked for")?,
        };
        jobs[number].delivered.fetch_add(1, Ordering::Relaxed);
        let _ = jobs[number].events.send(Event::Image(Box::new(made)));
        Ok(())
    };
    let result = model
        .pipeline
        .generate_plan(&plan, &mut observe, &mut deliver);
    match result {
        Ok(generation) => {
            shared.metrics.made(&generation);
            Ok(())
        }
        Err(PipelineError::Observer(error)) if error.is::<Cancelled>() => Ok(()),
        Err(error) => Err(ApiError::from(&error)),
    }
}

/// Fits the colours of latents where previews need them and they are not known: where previews are not
/// decoded, or only one network may be in memory. Where that fails previews are decoded if they can be.
fn prepare_previews(model: &mut Model, shared: &Shared, size: [usize; 2]) {
    let latents = size.map(|side| side / model.pipeline.spec().compression());
    let wanted = shared.decode_previews || preview::is_decoded(latents);
    let decoded = wanted && !model.pipeline.releases_stages();
    if !decoded
        && model.pipeline.latent_rgb().is_none()
        && !shared.no_colors.load(Ordering::Relaxed)
        && let Err(error) = preview::fit(model)
    {
        // It fails with the next batch too, and takes as long.
        shared.no_colors.store(true, Ordering::Relaxed);
        warning(format!("previews are decoded: {error}"));
    }
}

/// Whether an image is shown after step `done` of `steps` where so many are, evenly before the last.
fn is_shown(done: usize, steps: usize, previews: usize) -> bool {
    let previews = previews.min(steps.saturating_sub(1));
    (1..=previews).any(|number| number * steps / (previews + 1) == done)
}

fn seed(jobs: &[Job], (number, image): Place) -> u64 {
    jobs[number].settings.seed.wrapping_add(image as u64)
}

/// The request for the images at some places.
fn request(jobs: &[Job], places: &[Place]) -> Request {
    let first = &jobs[places[0].0];
    let args = |place: &Place| -> &ImageArgs { &jobs[place.0].draft.args };
    let request = first
        .request
        .clone()
        .with_prompts(places.iter().map(|place| args(place).prompt()))
        .count(1)
        .seeds(places.iter().map(|place| seed(jobs, *place)).collect());
    // One negative prompt for all is encoded once.
    let negative = args(&places[0]).negative();
    match places
        .iter()
        .all(|place| args(place).negative() == negative)
    {
        true => request.negative(negative),
        false => request.negatives(places.iter().map(|place| args(place).negative())),
    }
}

/// That nobody waits for the images any more.
#[derive(Debug, thiserror::Error)]
#[error("cancelled")]
struct Cancelled;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn previews_are_spread_over_the_steps() {
        let shown = |steps, previews| -> Vec<usize> {
            (1..=steps)
                .filter(|done| is_shown(*done, steps, previews))
                .collect()
        };
        assert_eq!(shown(20, 3), [5, 10, 15]);
        assert_eq!(shown(20, 1), [10]);
        assert_eq!(shown(20, 0), [] as [usize; 0]);
        assert_eq!(shown(4, 100), [1, 2, 3]);
        assert_eq!(shown(2, 3), [1]);
        assert_eq!(shown(1, 3), [] as [usize; 0]);
    }
}
