//! `sana config`: the file of profiles and styles.

use std::io::Write;

use anyhow::Context;
use clap::{Args, Subcommand};

use crate::generate::{options, profile};
use crate::terminal::output;

const EXAMPLES: &str = "\
Examples:
  sana config path
  sana config show
  sana generate \"a cat\" --profile fast --style ink

In the file:
  [profiles.fast]
  model = \"Efficient-Large-Model/Sana_Sprint_0.6B_1024px_diffusers\"
  steps = 2

  [styles]
  ink = \"an ink drawing of {prompt}, {fine|bold} lines\"";

/// Show where profiles and styles are kept, and what they are
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ConfigArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum What {
    /// Print the path of the file, whether it is there or not
    Path,
    /// Print profiles and styles, all of which are checked
    Show,
}

/// Runs `sana config`.
pub fn run(args: &ConfigArgs) -> anyhow::Result<()> {
    let mut out = output();
    match args.what {
        What::Path => out.line(profile::path()?.display())?,
        What::Show => {
            let config = profile::Config::read()?;
            let path = config.path().display();
            for (name, options) in config.profiles() {
                let place = || format!("{path}: profiles.{name}");
                profile::read(options).with_context(place)?;
                out.line(format_args!("profile {name}: {}", options::typed(options)))?;
            }
            for (name, style) in config.styles() {
                out.line(format_args!("style {name}: {}", style.prompt))?;
                if let Some(negative) = &style.negative {
                    out.line(format_args!("style {name}, negative: {negative}"))?;
                }
            }
            if let Some(folder) = profile::wildcards() {
                out.line(format_args!("wildcards: {}", folder.display()))?;
            }
            if config.profiles().is_empty() && config.styles().is_empty() {
                out.line(format_args!("{path} has no profile and no style"))?;
            }
        }
    }
    Ok(out.flush()?)
}
