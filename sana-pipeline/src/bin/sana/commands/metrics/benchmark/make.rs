//! The images of a benchmark's prompts, those that are not there yet.

use std::fs;
use std::time::Instant;

use anyhow::{Context, bail};
use sana_pipeline::request::Settings;
use sana_pipeline::{FolderLock, PipelineError, Request, StepAction, StepInfo, image};

use super::args::MakeArgs;
use super::item::{Item, Writer};
use crate::files::Files;
use crate::generate::Record;
use crate::generate::args::{ImageArgs, LoadedArgs};
use crate::generate::record::metadata::Made;
use crate::model::Model;
use crate::terminal::{Progress, output, warning};

/// A prompt of this run.
struct Work<'a> {
    item: &'a Item,
    args: ImageArgs,
    settings: Settings,
    first_seed: u64,
    missing: Vec<usize>,
}

impl Work<'_> {
    fn seed(&self, image: usize) -> u64 {
        self.first_seed.wrapping_add(image as u64)
    }
}

/// Makes the images of the prompts in a shard. `no_instruction`: their prompts are encoded as they are.
///
/// # Errors
/// When an image is there that was made in another way: both would be scored as one.
pub fn run(
    args: &MakeArgs,
    mut items: Vec<Item>,
    mut files: Files,
    no_instruction: bool,
) -> anyhow::Result<()> {
    if let Some(count) = args.count {
        if items.len() < count {
            bail!("--count {count}: there are {} prompts", items.len());
        }
        items.truncate(count);
    }
    let loaded = args.loaded();
    loaded.add_files(&mut files);
    let mut model = loaded.open(&args.resources)?;
    let mut all_work = Vec::new();
    let mut first = 0;
    let seeds: Vec<u64> = items
        .iter()
        .map(|item| {
            let seed = args.seed.wrapping_add(first);
            first += item.place.images() as u64;
            seed
        })
        .collect();
    for (index, item) in args.shard.of(&items) {
        let image_args = args.image(&item.prompt, seeds[index], no_instruction);
        let request = image_args.request(&model.pipeline, None)?;
        let work = Work {
            item,
            settings: request.validate(model.pipeline.spec())?,
            args: image_args,
            first_seed: seeds[index],
            missing: item.place.missing(),
        };
        check_existing(&work, &loaded, &model)?;
        for (_, path) in item.place.files() {
            files.writes(path, "--out", "an image")?;
        }
        all_work.push(work);
    }
    let _lock = lock(args)?;
    let images: usize = all_work.iter().map(|work| work.item.place.images()).sum();
    let missing: usize = all_work.iter().map(|work| work.missing.len()).sum();
    let mut out = output();
    out.line(format_args!(
        "model {}, device {}, {images} images of {} prompts, {} of them exist",
        model.name,
        model.device.name,
        all_work.len(),
        images - missing
    ))?;
    if let Some(work) = all_work.first() {
        for note in work.settings.notes() {
            out.line(format_args!("note: {note}"))?;
        }
    }
    let started = Instant::now();
    make(&all_work, args.batch, &loaded, &mut model)?;
    model.print_notes();
    if missing > 0 {
        let seconds = started.elapsed().as_secs_f64();
        out.line(format_args!("made {missing} images in {seconds:.1} s"))?;
    }
    out.line(format_args!("wrote {}", args.out.display()))?;
    Ok(())
}

/// Shards write to one folder at the same time, and none of their files is that of another.
fn lock(args: &MakeArgs) -> anyhow::Result<FolderLock> {
    let (folder, shard) = (&args.out, args.shard);
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot create the folder {}", folder.display()))?;
    let lock = match shard.is_whole() {
        true => FolderLock::take(folder),
        false => FolderLock::take_shard(folder, shard.number(), shard.count()),
    };
    lock.with_context(|| format!("cannot write to the folder {}", folder.display()))
}

fn check_existing(work: &Work<'_>, loaded: &LoadedArgs, model: &Model) -> anyhow::Result<()> {
    for (index, path) in work.item.place.files() {
        if !path.exists() {
            continue;
        }
        let seed = work.seed(index);
        let made = Made::default();
        let record = Record::new(work.args.applied(&work.settings, seed), loaded, model, made);
        let found = Record(image::read_text(path)?);
        if let Some(key) = record.difference(&found) {
            bail!(
                "{} was made with another {key}: remove it, or name another folder with --out",
                path.display()
            );
        }
    }
    Ok(())
}

/// Makes what is missing, in batches over prompts, and writes each image when it is decoded.
fn make(
    all_work: &[Work<'_>],
    batch: usize,
    loaded: &LoadedArgs,
    model: &mut Model,
) -> anyhow::Result<()> {
    let of_work = |(index, work): (usize, &Work<'_>)| {
        let missing = work.missing.clone();
        missing.into_iter().map(move |image| (index, image))
    };
    let jobs: Vec<(usize, usize)> = all_work.iter().enumerate().flat_map(of_work).collect();
    let at_a_time = match jobs.len().min(batch) {
        0 => 1,
        most => fitting(&request(all_work, &jobs[..most], model)?, most, model)?,
    };
    let progress = Progress::new(jobs.len(), "generating");
    let mut writer = Writer::default();
    let (mut begun, mut cut) = (0, Vec::new());
    for (number, chunk) in jobs.chunks(at_a_time).enumerate() {
        // Also those whose images are all there may lack what goes with them.
        let last = chunk.last().map_or(0, |(work, _)| *work);
        for work in &all_work[begun..=last] {
            work.item.place.begin()?;
        }
        let request = request(all_work, chunk, model)?;
        let settings = request.validate(model.pipeline.spec())?;
        let plan = model.pipeline.plan(settings)?;
        let made = Made {
            in_tiles: plan.decodes_in_tiles(),
            together: chunk.len(),
            ..Made::default()
        };
        let record = |(index, image): &(usize, usize)| {
            let work = &all_work[*index];
            let seed = work.seed(*image);
            Record::new(work.args.applied(&work.settings, seed), loaded, model, made)
        };
        let mut records: Vec<Option<Record>> = chunk.iter().map(|job| Some(record(job))).collect();
        let mut failed = None;
        let generation = model.pipeline.generate_plan(
            &plan,
            &mut |_: StepInfo<'_>| StepAction::Continue,
            &mut |index, image| {
                let (work, number) = chunk[index];
                let place = &all_work[work].item.place;
                if failed.is_none()
                    && let Some(record) = records[index].take()
                {
                    failed = writer.add(place, number, image, record).err();
                }
                Ok(())
            },
        )?;
        if let Some(error) = failed {
            return Err(error);
        }
        cut.extend(generation.dropped_tokens);
        // Prompts before the last one of the batch have all their images now.
        let done = number * at_a_time + chunk.len();
        let next = jobs.get(done).map_or(all_work.len(), |(work, _)| *work);
        for work in &all_work[begun..next] {
            if work.missing.is_empty() {
                work.item.place.begin()?;
            }
            work.item.place.finish(!work.missing.is_empty())?;
        }
        begun = next;
        progress.advance(done as u64, jobs.len() as u64);
    }
    for work in &all_work[begun..] {
        work.item.place.begin()?;
        work.item.place.finish(!work.missing.is_empty())?;
    }
    progress.finish();
    let (images, tokens) = (
        cut.iter().filter(|cut| **cut > 0).count(),
        cut.iter().sum::<usize>(),
    );
    if tokens > 0 {
        warning(format!(
            "the prompts of {images} images are too long: {tokens} tokens at their ends were left out"
        ));
    }
    Ok(())
}

/// The request for images that are made together.
fn request(
    all_work: &[Work<'_>],
    chunk: &[(usize, usize)],
    model: &Model,
) -> anyhow::Result<Request> {
    let prompts = chunk.iter().map(|(work, _)| all_work[*work].args.prompt());
    let seeds = chunk
        .iter()
        .map(|(work, image)| all_work[*work].seed(*image));
    let first = &all_work[chunk[0].0].args;
    Ok(first
        .request(&model.pipeline, None)?
        .with_prompts(prompts)
        .count(1)
        .seeds(seeds.collect()))
}

/// Refuses a batch that does not fit into memory.
fn fitting(request: &Request, images: usize, model: &mut Model) -> anyhow::Result<usize> {
    match model.pipeline.check_memory(request) {
        Err(error @ PipelineError::Memory { .. }) if images > 1 => {
            let error = anyhow::Error::from(error);
            Err(error.context(format!("{images} images at a time: --batch makes fewer")))
        }
        checked => Ok(checked.map(|()| images)?),
    }
}
