//! `sana generate --from-png`: the options that a picture records.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, bail};
use sana_pipeline::image;

use super::args::GenerateArgs;
use super::metadata::Record;
use super::options::{self, FLAGS, OPTIONS, Options};
use crate::model;
use crate::terminal::output;

/// The arguments with those that the picture of `--from-png` records, and both as text. `words` is
/// the command line from the subcommand on.
///
/// What a picture says is read by clap as if it had been typed, option by option, and never goes
/// through a shell. Only the options of a [`Record`] can come from it, and none of them names a file
/// to be written. They are shown before anything else is done.
///
/// # Errors
/// When the file is no picture of ours, its record cannot be used, or the model that it names
/// cannot be opened.
pub fn complete(
    args: GenerateArgs,
    words: impl IntoIterator<Item = OsString>,
) -> anyhow::Result<(GenerateArgs, Options)> {
    let refused = |error: clap::Error| Error::msg(options::told(&error));
    let typed = Options::typed(words).map_err(refused)?;
    let Some(picture) = args.from_png.from_png.clone() else {
        return Ok((args, typed));
    };
    let mut recorded = recorded(&picture, &args.from_png.without)?;
    let named_here = typed.has("model");
    writeln!(output(), "options of {}: {recorded}", picture.display())?;
    if !typed.has("out") && !typed.has("prompts") {
        recorded.push("out", Some(again(&picture).into_os_string()));
    }
    let mut definition = options::definition();
    let merged = typed.over(&recorded, &definition);
    let args = merged.read(&mut definition).map_err(refused)?;
    if let (false, Some(named)) = (named_here, &args.model.model) {
        let (revision, variant) = (&args.model.revision, &args.model.variant);
        model::find(Some(named), revision.as_deref(), variant.as_deref()).with_context(|| {
            format!(
                "{} was made with the model {}, which cannot be opened here: name one with \
                 --model, or use the built-in one with --without model",
                picture.display(),
                named.display()
            )
        })?;
    }
    Ok((args, merged))
}

/// The options of a picture's record, all of which can be read, without those to leave out.
fn recorded(picture: &Path, without: &[String]) -> anyhow::Result<Options> {
    let text = image::read_png_text(picture).with_context(|| {
        format!(
            "--from-png {}: expected a PNG that `sana generate` made",
            picture.display()
        )
    })?;
    let unusable = || format!("the record of {} cannot be used", picture.display());
    let Some(mut options) = Record(text).options().with_context(unusable)? else {
        bail!(
            "{} holds no record of `sana generate`: another program made it, or its text chunks \
             were removed on the way",
            picture.display()
        );
    };
    options
        .read(&mut options::definition())
        .map_err(|error| Error::msg(options::told(&error)))
        .with_context(unusable)?;
    for name in without {
        if !OPTIONS.contains(&name.as_str()) && !FLAGS.contains(&name.as_str()) {
            bail!(
                "--without {name}: pictures record no such option, but {}, {}",
                OPTIONS.join(", "),
                FLAGS.join(", ")
            );
        }
        options.leave_out(name);
    }
    Ok(options)
}

/// `NAME-again.png` in the working folder.
fn again(picture: &Path) -> PathBuf {
    let mut name = picture.file_stem().unwrap_or_default().to_owned();
    name.push("-again.png");
    name.into()
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    /// Every recorded option is one of `sana generate`, with a value or without as the record has
    /// it. Those that name a file to be written have the value name PATH, and none is recorded.
    #[test]
    fn records_hold_options_that_only_read() {
        let definition = options::definition();
        let named = |name: &str| {
            let mut arguments = definition.get_arguments();
            let found = arguments.find(|argument| argument.get_long() == Some(name));
            found.unwrap_or_else(|| panic!("no option --{name}"))
        };
        let writes = |argument: &Arg| {
            let names = argument.get_value_names().unwrap_or_default();
            names.iter().any(|name| name.as_str() == "PATH")
        };
        for key in OPTIONS {
            assert!(named(key).get_action().takes_values(), "{key}");
            assert!(!writes(named(key)), "--{key} names a file to be written");
        }
        for key in FLAGS {
            assert!(!named(key).get_action().takes_values(), "{key}");
        }
        for key in ["out", "grid"] {
            assert!(writes(named(key)), "{key}");
        }
        for key in ["from-png", "prompts"] {
            assert!(!OPTIONS.contains(&key), "{key}");
        }
    }

    #[test]
    fn the_picture_is_not_replaced() {
        assert_eq!(again(Path::new("a/sana.png")), Path::new("sana-again.png"));
        assert_eq!(again(Path::new("x.y.PNG")), Path::new("x.y-again.png"));
    }
}
