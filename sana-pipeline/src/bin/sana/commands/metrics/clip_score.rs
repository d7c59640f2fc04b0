//! `sana metrics clip-score`: how well images fit their prompts.

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use rayon::prelude::*;
use sana_pipeline::metrics::Clip;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::args::MeasureArgs;
use super::images;
use super::prompts::{self, Prompt};
use super::result::{description, result};
use super::result_file::ResultFile;
use crate::args::many;
use crate::device::OpenDevice;
use crate::files::Files;
use crate::terminal::{Progress, output};

const EXAMPLES: &str = "\
Examples:
  sana metrics clip-score --clip clip-vit-large-patch14 --prompts meta_data.json --images generated
  sana metrics clip-score --clip clip-vit-large-patch14 --prompts meta_data.json --images generated \\
      --count 10000 --out scores.jsonl --json

The image of a prompt is KEY.jpg, .png, .jpeg or .webp in the folder. With --out a run that was
stopped continues where it was.";

/// Mean of 100 times the cosine of CLIP's vectors of images and prompts
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ClipScoreArgs {
    /// Folder of a CLIP of transformers: config.json, preprocessor_config.json, tokenizer.json and
    /// model.safetensors, such as openai/clip-vit-large-patch14's
    #[arg(long, value_name = "DIR")]
    clip: PathBuf,
    /// Prompts by key: {"KEY": {"prompt": "..."}} or {"KEY": "..."}, as MJHQ-30K's meta_data.json
    #[arg(long, value_name = "FILE")]
    prompts: PathBuf,
    /// Folder of the images
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// Score the first N prompts of the file [default: all]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = many())]
    count: Option<usize>,
    /// Write the score of each image to this file, a line of JSON each, and continue from it: images
    /// of the same names are taken for the same
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    pub measure: MeasureArgs,
}

/// The score of one image.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Scored {
    key: String,
    score: f32,
    /// Tokens of the prompt that CLIP did not see.
    dropped_tokens: usize,
    /// Seed that the image says it was made with.
    seed: Option<String>,
}

/// Runs `sana metrics clip-score`.
pub fn run(args: &ClipScoreArgs) -> anyhow::Result<()> {
    let mut files = Files::default();
    files.reads(&args.prompts, "the prompts");
    files.reads_folder(&args.clip, "CLIP");
    if let Some(path) = &args.out {
        files.writes(path, "--out", "the scores")?;
    }
    let prompts = prompts::read(&args.prompts, args.count)?;
    let device = OpenDevice::open(args.measure.device)?;
    let clip = Clip::load(&args.clip, &device.device)?;
    let header = header(args, &clip);
    let (mut results, known) = match &args.out {
        Some(path) => {
            ResultFile::open::<Scored>(path, &header).map(|(file, known)| (Some(file), known))?
        }
        None => (None, Vec::new()),
    };
    let mut scores: HashMap<String, Scored> = known
        .into_iter()
        .map(|scored| (scored.key.clone(), scored))
        .collect();
    let progress = Progress::new(prompts.len(), "scoring");
    let missing: Vec<&Prompt> = prompts
        .iter()
        .filter(|prompt| !scores.contains_key(&prompt.key))
        .collect();
    let mut done = prompts.len() - missing.len();
    for batch in missing.chunks(args.measure.batch) {
        let scored = score(args, &clip, batch)?;
        if let Some(results) = &mut results {
            results.add(&scored)?;
        }
        for scored in scored {
            scores.insert(scored.key.clone(), scored);
        }
        done += batch.len();
        progress.advance(done as u64, prompts.len() as u64);
    }
    progress.finish();
    print(args, header, &prompts, &scores)
}

fn score(args: &ClipScoreArgs, clip: &Clip, batch: &[&Prompt]) -> anyhow::Result<Vec<Scored>> {
    let read = |prompt: &&Prompt| images::read(&images::of_key(&args.images, &prompt.key)?);
    let read: anyhow::Result<Vec<_>> = batch.par_iter().map(read).collect();
    let (pixels, seeds): (Vec<_>, Vec<_>) = read?.into_iter().unzip();
    let texts: Vec<&str> = batch.iter().map(|prompt| prompt.text.as_str()).collect();
    let scores = clip.scores(&pixels, &texts)?;
    batch
        .iter()
        .zip(scores)
        .zip(seeds)
        .map(|((prompt, score), seed)| {
            Ok(Scored {
                key: prompt.key.clone(),
                score,
                dropped_tokens: clip.tokens(&prompt.text)?.dropped,
                seed,
            })
        })
        .collect()
}

/// What was measured and how, so that it can be measured again.
fn header(args: &ClipScoreArgs, clip: &Clip) -> Value {
    let inputs = json!({
        "clip": args.clip,
        "scale": clip.scale(),
        "prompts": args.prompts,
        "images": args.images,
    });
    let dtype = Some("f32".to_owned());
    description("clip-score", Some(clip.resize()), dtype, inputs)
}

fn print(
    args: &ClipScoreArgs,
    header: Value,
    prompts: &[Prompt],
    scores: &HashMap<String, Scored>,
) -> anyhow::Result<()> {
    let scored = || prompts.iter().filter_map(|prompt| scores.get(&prompt.key));
    let count = scored().count();
    let mean = scored().map(|scored| f64::from(scored.score)).sum::<f64>() / count as f64;
    let mut out = output();
    if args.measure.json {
        let seeds = scored().map(|scored| scored.seed.clone()).collect();
        let mut result = result(header, Some(mean), Some(count as u64), Some(seeds));
        let cut = scored().filter(|scored| scored.dropped_tokens > 0).count();
        result["prompts_cut"] = json!(cut);
        out.json(&result)?;
    } else {
        writeln!(out, "{mean:.4}")?;
    }
    Ok(())
}
