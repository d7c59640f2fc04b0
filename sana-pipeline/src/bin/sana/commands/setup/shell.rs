//! What shells and readers of manuals take from the definition of the command line.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;
use sana_linear_attn::weights::replace_file;

use crate::terminal::output;

const COMPLETIONS: &str = "\
Examples:
  sana completions bash > ~/.local/share/bash-completion/completions/sana
  sana completions zsh > ~/.zfunc/_sana
  sana completions fish > ~/.config/fish/completions/sana.fish";

const PAGES: &str = "\
Examples:
  sana man ~/.local/share/man/man1
  man sana-generate";

/// Print the script by which a shell completes commands, options and their values
#[derive(Debug, Args)]
#[command(after_help = COMPLETIONS)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Write manual pages: one of the command and one of each subcommand
#[derive(Debug, Args)]
#[command(after_help = PAGES)]
pub struct ManArgs {
    /// Folder of the pages, sana.1, sana-generate.1 and so on
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Prints the script for a shell.
pub fn completions(args: &CompletionsArgs, mut command: Command) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "sana", &mut script);
    let mut out = output();
    out.write_all(&script)?;
    Ok(out.flush()?)
}

/// Writes the manual pages.
pub fn man(args: &ManArgs, command: Command) -> anyhow::Result<()> {
    let folder = &args.folder;
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot create the folder {}", folder.display()))?;
    let mut out = output();
    for (name, page) in pages(command)? {
        let path = folder.join(name);
        replace_file(&path, |file| file.write_all(&page))
            .with_context(|| format!("cannot write {}", path.display()))?;
        out.line(format_args!("wrote {}", path.display()))?;
    }
    Ok(())
}

/// Names and contents of the pages of a command and of those below it that are not hidden.
fn pages(command: Command) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    fn add(command: &Command, pages: &mut Vec<(String, Vec<u8>)>) -> anyhow::Result<()> {
        let page = Man::new(command.clone()).manual("sana-rs");
        let mut text = Vec::new();
        page.render(&mut text)?;
        pages.push((page.get_filename(), text));
        let below = command.get_subcommands();
        below
            .filter(|below| !below.is_hide_set())
            .try_for_each(|below| add(below, pages))
    }

    let mut command = command.disable_help_subcommand(true);
    command.build();
    let mut found = Vec::new();
    add(&command, &mut found)?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    #[test]
    fn hidden_commands_have_no_page() {
        let command = Command::new("sana").version("1").subcommands([
            Command::new("draw")
                .about("Draws")
                .subcommand(Command::new("twice")),
            Command::new("try")
                .hide(true)
                .arg(Arg::new("what").long("what")),
        ]);
        let pages = pages(command).unwrap();
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["sana.1", "sana-draw.1", "sana-draw-twice.1"]);
        let first = String::from_utf8(pages[0].1.clone()).unwrap();
        assert!(first.contains("draw") && !first.contains("try"), "{first}");
    }
}
