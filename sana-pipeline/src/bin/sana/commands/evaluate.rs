//! `sana evaluate`: how often images match their prompts.

use std::io::Write;

use clap::Args;
use sana_pipeline::evaluate::{self, EvaluateOptions};
use sana_pipeline::scenes::ScenePrompt;
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

The prompts are of the scene language (flat shapes: one object, its colours, two objects, counting,
position, attribute binding), none of which occurs in training; a program scores each image.";

/// Evaluate a model on held-out prompts of the scene language
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct EvaluateArgs {
    /// Prompts in each of the six categories
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = positive())]
    prompts: usize,
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
    if args.list_prompts {
        return list_prompts(&args);
    }
    let (loras, none) = (args.lora.files(), Controlled::default());
    let mut model = Model::open_with(&args.model, &args.resources, loras, none)?;
    let mut options = EvaluateOptions::default()
        .prompts_per_category(args.prompts)
        .seed(args.seed)
        .batch(args.batch);
    if let Some(steps) = args.steps {
        options = options.steps(steps);
    }
    if let Some(guidance) = args.guidance {
        options = options.guidance(guidance);
    }
    let progress = Progress::new(6 * args.prompts, "evaluating");
    let mut advance = |done, all| progress.advance(done as u64, all as u64);
    if args.autoencoder {
        let result = evaluate::evaluate_autoencoder(&mut model.pipeline, &options, &mut advance)?;
        progress.finish();
        let table = format!("{}\nPSNR {:.2} dB", result.report, result.psnr);
        print(&model, args.json, &result, table)
    } else {
        let report = evaluate::evaluate(&mut model.pipeline, &options, &mut advance)?;
        progress.finish();
        print(&model, args.json, &report, report.to_string())
    }
}

/// Prints the prompts that images are made of, named after their categories.
fn list_prompts(args: &EvaluateArgs) -> anyhow::Result<()> {
    let prompts = ScenePrompt::held_out_set(args.prompts, args.seed);
    let mut out = output();
    for (index, prompt) in prompts.iter().enumerate() {
        let category = serde_json::to_value(prompt.category())?;
        let category = category.as_str().unwrap_or_default().replace('_', "-");
        let line = json!({
            "prompt": prompt.canonical(),
            "name": format!("{category}-{}", index % args.prompts),
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
