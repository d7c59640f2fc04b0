//! `sana evaluate`: how often images match their prompts.

use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use sana_pipeline::evaluate::{self, EvaluateOptions};
use sana_pipeline::scenes::ScenePrompt;
use sana_pipeline::sprites::{SpritePrompt, SpriteSheet};
use serde::Serialize;
use serde_json::json;

use crate::args::{LoraArgs, ModelArgs, ResourceArgs, positive};
use crate::model::{Controlled, Model};
use crate::terminal::{Progress, output};

const EXAMPLES: &str = "\
Examples:
  sana evaluate
  sana evaluate --prompts 10 --steps 8
  sana evaluate --autoencoder
  sana evaluate --model my-checkpoint --json
  sana evaluate --prompts 10 --list-prompts > prompts.jsonl
  sana evaluate --sprites sheet --model my-checkpoint

The prompts are of the scene language (flat shapes: one object, its colours, two objects, counting,
position, attribute binding) or, with --sprites, of scenes of little things (which things, how many,
where, in front of what), none of which occurs in training; a program scores each image.";

/// Number of prompts in each category of the scene language.
const PROMPTS: usize = 100;

/// Evaluate a model on held-out prompts that a program can score
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct EvaluateArgs {
    /// Prompts in each of the six categories; with --sprites, of all together [default: 100, with
    /// --sprites 600]
    #[arg(long, value_name = "N", value_parser = positive())]
    prompts: Option<usize>,
    /// Prompts of scenes of the things in a folder that docs/tools/sprites/fetch makes
    #[arg(long, value_name = "FOLDER")]
    sprites: Option<PathBuf>,
    /// Seed of the prompts
    #[arg(
        long,
        value_name = "S",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    seed: u64,
    /// Steps of the solver [default: 20, for Sana-Sprint 2]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = positive())]
    steps: Option<usize>,
    /// Classifier-free guidance scale [default: 4.5]
    #[arg(long, value_name = "G", allow_negative_numbers = true)]
    guidance: Option<f64>,
    /// Images made at a time: fewer take less memory
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = positive())]
    batch: usize,
    /// Score drawn scenes after the autoencoder alone: the most that the rest of the model can reach
    #[arg(long, conflicts_with_all = ["steps", "guidance", "lora"])]
    autoencoder: bool,
    /// Print the prompts, in lines of JSON as `sana generate --prompts` reads them, and evaluate nothing
    #[arg(long, conflicts_with_all = ["steps", "guidance", "autoencoder", "json", "lora"])]
    list_prompts: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    pub resources: ResourceArgs,
    #[command(flatten)]
    lora: LoraArgs,
}

/// Runs `sana evaluate`.
pub fn run(args: EvaluateArgs) -> anyhow::Result<()> {
    let sheet = args.sprites.as_deref().map(SpriteSheet::open).transpose()?;
    if args.list_prompts {
        return match &sheet {
            Some(sheet) => list_sprite_prompts(&args, sheet),
            None => list_prompts(&args),
        };
    }
    let (loras, none) = (args.lora.files(), Controlled::default());
    let mut model = Model::open_with(&args.model, &args.resources, loras, none)?;
    let mut options = EvaluateOptions::default()
        .prompts_per_category(args.prompts.unwrap_or(PROMPTS))
        .seed(args.seed)
        .batch(args.batch);
    if let Some(steps) = args.steps {
        options = options.steps(steps);
    }
    if let Some(guidance) = args.guidance {
        options = options.guidance(guidance);
    }
    if let Some(prompts) = args.prompts {
        options = options.sprite_prompts(prompts);
    }
    let images = match sheet {
        Some(_) => options.sprite_prompts,
        None => 6 * options.prompts_per_category,
    };
    let progress = Progress::new(images, "evaluating");
    let mut advance = |done, all| progress.advance(done as u64, all as u64);
    let pipeline = &mut model.pipeline;
    match (&sheet, args.autoencoder) {
        (None, true) => {
            let result = evaluate::evaluate_autoencoder(pipeline, &options, &mut advance)?;
            progress.finish();
            let table = with_psnr(&result.report, result.psnr);
            print(&model, args.json, &result, table)
        }
        (None, false) => {
            let report = evaluate::evaluate(pipeline, &options, &mut advance)?;
            progress.finish();
            print(&model, args.json, &report, report.to_string())
        }
        (Some(sheet), true) => {
            let result =
                evaluate::evaluate_sprites_autoencoder(pipeline, sheet, &options, &mut advance)?;
            progress.finish();
            let table = with_psnr(&result.report, result.psnr);
            print(&model, args.json, &result, table)
        }
        (Some(sheet), false) => {
            let report = evaluate::evaluate_sprites(pipeline, sheet, &options, &mut advance)?;
            progress.finish();
            print(&model, args.json, &report, report.to_string())
        }
    }
}

fn with_psnr(report: &impl Display, psnr: f64) -> String {
    format!("{report}\nPSNR {psnr:.2} dB")
}

/// Prints the prompts that images are made of, named after their categories.
fn list_prompts(args: &EvaluateArgs) -> anyhow::Result<()> {
    let each = args.prompts.unwrap_or(PROMPTS);
    let prompts = ScenePrompt::held_out_set(each, args.seed);
    let mut out = output();
    for (index, prompt) in prompts.iter().enumerate() {
        let category = serde_json::to_value(prompt.category())?;
        let category = category.as_str().unwrap_or_default().replace('_', "-");
        let line = json!({
            "prompt": prompt.canonical(),
            "name": format!("{category}-{}", index % each),
        });
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// Prints the prompts of scenes of little things, numbered.
fn list_sprite_prompts(args: &EvaluateArgs, sheet: &SpriteSheet) -> anyhow::Result<()> {
    let count = args
        .prompts
        .unwrap_or(EvaluateOptions::default().sprite_prompts);
    let mut out = output();
    for (index, prompt) in SpritePrompt::held_out(sheet, count, args.seed)
        .iter()
        .enumerate()
    {
        let line = json!({
            "prompt": prompt.canonical(sheet),
            "name": format!("sprites-{index}"),
        });
        writeln!(out, "{line}")?;
    }
    Ok(())
}

fn print(model: &Model, json: bool, result: &impl Serialize, table: String) -> anyhow::Result<()> {
    model.print_notes();
    let mut out = output();
    if json {
        out.json(result)?;
    } else {
        writeln!(out, "{table}")?;
    }
    Ok(())
}
