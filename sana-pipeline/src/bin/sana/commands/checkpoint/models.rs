//! `sana models`: the checkpoints of the Hub in the cache.

use std::io::Write;

use anyhow::bail;
use clap::{Args, Subcommand};
use indicatif::DecimalBytes;
use sana_pipeline::hub::{self, CachedRepo, CachedRevision, HubOptions, HubRepo};
use serde_json::{Value, json};

use crate::model::hub::snapshot;
use crate::terminal::{Lines, output};

const EXAMPLES: &str = "\
Examples:
  sana models pull Efficient-Large-Model/Sana_600M_512px_diffusers --variant fp16
  sana models list --check
  sana models du
  sana models rm Efficient-Large-Model/Sana_600M_512px_diffusers

The cache is that of other programs for the Hub: HF_HUB_CACHE, else HF_HOME/hub.";

/// Characters of a commit that are shown.
const SHOWN: usize = 12;

/// List, download and remove models of the Hugging Face Hub
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ModelsArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    List(ListArgs),
    Pull(PullArgs),
    Rm(RemoveArgs),
    Du(DuArgs),
}

/// List the models in the cache, one line for each revision
#[derive(Debug, Args)]
struct ListArgs {
    /// Everything in the cache, not only checkpoints that `--model` could open
    #[arg(long)]
    all: bool,
    /// Read all files and compare them with their hashes (SHA-256 of weights, git's of small files); the
    /// exit status is 1 if one is damaged
    #[arg(long)]
    check: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Download a model, or what of it is absent or damaged: files in the cache are compared with their hashes
#[derive(Debug, Args)]
struct PullArgs {
    /// Name of the model, OWNER/NAME
    model: String,
    /// Branch, tag or commit [default: main]
    #[arg(long, value_name = "REV")]
    revision: Option<String>,
    /// Weight files of this variant, such as fp16
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
}

/// Remove a model from the cache; files that other revisions of it have too are kept
#[derive(Debug, Args)]
struct RemoveArgs {
    /// Name of the model, OWNER/NAME
    model: String,
    /// Only this branch, tag or commit, of which the first 7 characters suffice
    #[arg(long, value_name = "REV")]
    revision: Option<String>,
}

/// Show what takes space in the cache
#[derive(Debug, Args)]
struct DuArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs `sana models`.
pub fn run(args: &ModelsArgs) -> anyhow::Result<()> {
    match &args.what {
        What::List(args) => list(args),
        What::Pull(args) => pull(args),
        What::Rm(args) => remove(args),
        What::Du(args) => used(args),
    }
}

fn list(args: &ListArgs) -> anyhow::Result<()> {
    let cache = HubOptions::from_env()?.cache;
    let mut repos = hub::cached(&cache)?;
    if !args.all {
        for repo in &mut repos {
            repo.revisions.retain(|revision| revision.is_checkpoint);
        }
        repos.retain(|repo| !repo.revisions.is_empty());
    }
    let mut damaged = Vec::new();
    if args.check {
        for repo in &repos {
            let files = hub::damaged(&cache, &repo.id)?.into_iter();
            damaged.extend(files.map(|file| format!("{}: {}", repo.id, file.display())));
        }
    }
    let mut out = output();
    if args.json {
        let repos: Vec<Value> = repos.iter().map(described).collect();
        out.json(
            &json!({"cache": cache.display().to_string(), "models": repos, "damaged": damaged}),
        )?;
    } else {
        for repo in &repos {
            for revision in &repo.revisions {
                out.line(line(repo, revision))?;
            }
        }
        if repos.is_empty() {
            out.line(format_args!("no model in {}", cache.display()))?;
        }
    }
    out.flush()?;
    if damaged.is_empty() {
        return Ok(());
    }
    let advice = "sana models pull OWNER/NAME downloads them again".to_owned();
    bail!(Lines::new(
        "files that are not what they should be",
        damaged.into_iter().chain([advice])
    ))
}

/// A revision, for people.
fn line(repo: &CachedRepo, revision: &CachedRevision) -> String {
    let commit = revision.commit.get(..SHOWN).unwrap_or(&revision.commit);
    let refs = match revision.refs.is_empty() {
        true => String::new(),
        false => format!(" ({})", revision.refs.join(", ")),
    };
    let absent = match revision.absent {
        0 => String::new(),
        absent => format!(", {absent} absent"),
    };
    format!(
        "{}  {commit}{refs}  {} in {} files{absent}",
        repo.id,
        DecimalBytes(revision.bytes),
        revision.files
    )
}

/// A repository, for programs.
fn described(repo: &CachedRepo) -> Value {
    let revision = |revision: &CachedRevision| {
        json!({
            "commit": revision.commit,
            "refs": revision.refs,
            "files": revision.files,
            "absent": revision.absent,
            "bytes": revision.bytes,
            "own_bytes": revision.own_bytes,
            "checkpoint": revision.is_checkpoint,
        })
    };
    json!({
        "model": repo.id,
        "folder": repo.folder.display().to_string(),
        "bytes": repo.bytes,
        "unused_bytes": repo.unused_bytes,
        "incomplete_bytes": repo.incomplete_bytes,
        "revisions": repo.revisions.iter().map(revision).collect::<Vec<_>>(),
    })
}

fn pull(args: &PullArgs) -> anyhow::Result<()> {
    let (revision, variant) = (args.revision.as_deref(), args.variant.as_deref());
    let snapshot = snapshot(&args.model, revision, variant, true)?;
    let mut out = output();
    out.line(format_args!(
        "{} at {}: {}",
        args.model,
        snapshot.commit,
        snapshot.folder.display()
    ))?;
    Ok(out.flush()?)
}

fn remove(args: &RemoveArgs) -> anyhow::Result<()> {
    // That the name could be one of a model; old ones have no owner.
    if args.model.contains('/') {
        HubRepo::new(&args.model)?;
    }
    let cache = HubOptions::from_env()?.cache;
    let removed = hub::remove(&cache, &args.model, args.revision.as_deref())?;
    let mut out = output();
    for commit in &removed.commits {
        out.line(format_args!("removed {} at {commit}", args.model))?;
    }
    out.line(format_args!(
        "{} are free again",
        DecimalBytes(removed.bytes)
    ))?;
    Ok(out.flush()?)
}

fn used(args: &DuArgs) -> anyhow::Result<()> {
    let cache = HubOptions::from_env()?.cache;
    let mut repos = hub::cached(&cache)?;
    repos.sort_by_key(|repo| std::cmp::Reverse(repo.bytes + repo.incomplete_bytes));
    let total = repos.iter().map(|repo| repo.bytes + repo.incomplete_bytes);
    let total: u64 = total.sum();
    let mut out = output();
    if args.json {
        let repos: Vec<Value> = repos.iter().map(described).collect();
        let cache = cache.display().to_string();
        out.json(&json!({"cache": cache, "bytes": total, "models": repos}))?;
        return Ok(out.flush()?);
    }
    for repo in &repos {
        let mut text = format!("{:>10}  {}", DecimalBytes(repo.bytes).to_string(), repo.id);
        if repo.incomplete_bytes > 0 {
            text += &format!(", and {} not whole", DecimalBytes(repo.incomplete_bytes));
        }
        if repo.unused_bytes > 0 {
            text += &format!(", {} of it in no revision", DecimalBytes(repo.unused_bytes));
        }
        out.line(text)?;
        for revision in repo.revisions.iter().filter(|_| repo.revisions.len() > 1) {
            let commit = revision.commit.get(..SHOWN).unwrap_or(&revision.commit);
            let own = DecimalBytes(revision.own_bytes).to_string();
            out.line(format_args!("{own:>10}    {commit} alone"))?;
        }
    }
    out.line(format_args!(
        "{:>10}  {}",
        DecimalBytes(total).to_string(),
        cache.display()
    ))?;
    Ok(out.flush()?)
}
