//! `sana generate --from-image`: the options that an image records.

use std::path::{Path, PathBuf};

use anyhow::{Context, Error, bail};
use sana_pipeline::image;

use super::metadata::Record;
use crate::files::paths;
use crate::generate::args::{GenerateArgs, RecordedArgs};
use crate::generate::events::Report;
use crate::generate::options;
use crate::model;

/// The arguments with those that the image of `--from-image` records.
///
/// What an image records is read by clap as if it had been typed, option by option, and never goes
/// through a shell. Only [`RecordedArgs`] can come from it, and none of them names a file to be
/// written. They are shown before anything else is done.
///
/// # Errors
/// When the file is not an image of ours, its record cannot be used, or the model that it names
/// cannot be opened.
pub fn complete(mut args: GenerateArgs, report: &mut Report) -> anyhow::Result<GenerateArgs> {
    let Some(image) = args.run.from_image.from_image.clone() else {
        return Ok(args);
    };
    let mut recorded = recorded(&image, &args.run.from_image.without, report)?;
    let shown = options::shell_words(&recorded, '=');
    report.line(format_args!("options of {}: {shown}", image.display()))?;
    recorded.image = recorded.image.literal();
    match args.run.batch.prompts {
        Some(_) => recorded.image.prompt = None,
        None => args.run.out = args.run.out.or_else(|| Some(again(&image))),
    }
    let named_here = args.recorded.loaded.model.model.is_some();
    args.recorded = args.recorded.or(recorded);
    options::check(&args.recorded).map_err(Error::msg)?;
    let model = &args.recorded.loaded.model;
    if let (false, Some(named)) = (named_here, &model.model) {
        let (revision, variant) = (&model.revision, &model.variant);
        model::find(Some(named), revision.as_deref(), variant.as_deref()).with_context(|| {
            format!(
                "{} was made with the model {}, which cannot be opened here: name one with \
                 --model, or use the built-in one with --without model",
                image.display(),
                named.display()
            )
        })?;
    }
    Ok(args)
}

/// The options of an image's record, all of which can be read, without those to leave out.
fn recorded(image: &Path, without: &[String], report: &mut Report) -> anyhow::Result<RecordedArgs> {
    let text = image::read_text(image).with_context(|| {
        format!(
            "--from-image {}: expected an image that `sana generate` made",
            image.display()
        )
    })?;
    let unusable = || format!("the record of {} cannot be used", image.display());
    let record = Record(text);
    let Some(mut recorded) = record.options().with_context(unusable)? else {
        bail!(
            "{} holds no record of `sana generate`: another program made it, or its metadata \
             was removed on the way",
            image.display()
        );
    };
    if let Some(together) = record.together() {
        report.notes([format!(
            "{} was generated as one of {together} images at a time: alone, a few values may \
             differ by one level of 255",
            image.display()
        )])?;
    }
    let names = options::names::<RecordedArgs>();
    for name in without {
        if !names.contains(name) {
            bail!(
                "--without {name}: images record no such option, but {}",
                names.join(", ")
            );
        }
        recorded = options::without(&recorded, name).map_err(Error::msg)?;
    }
    Ok(recorded)
}

/// `NAME-again.png` in the working folder, with the ending of the image.
fn again(image: &Path) -> PathBuf {
    let again = paths::suffixed(image, "-again");
    let again = PathBuf::from(again.file_name().unwrap_or_default());
    match image::FileFormat::of(&again) {
        Ok(_) => again,
        Err(_) => again.with_extension("png"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    /// Options that name a file to be written have the value name PATH, and none is recorded.
    #[test]
    fn records_hold_options_that_only_read() {
        let writes = |argument: &&Arg| {
            let names = argument.get_value_names().unwrap_or_default();
            names.iter().any(|name| name.as_str() == "PATH")
        };
        let all = options::definition::<GenerateArgs>();
        let written: Vec<_> = all
            .get_arguments()
            .filter(writes)
            .filter_map(Arg::get_long)
            .collect();
        assert_eq!(written, ["out", "control-save", "preview", "grid"]);
        let recorded = options::names::<RecordedArgs>();
        for key in written.into_iter().chain(["from-image", "prompts"]) {
            assert!(!recorded.contains(&key.to_owned()), "{key}");
        }
    }

    #[test]
    fn the_image_is_not_replaced() {
        assert_eq!(again(Path::new("a/sana.png")), Path::new("sana-again.png"));
        assert_eq!(again(Path::new("x.y.PNG")), Path::new("x.y-again.PNG"));
        assert_eq!(again(Path::new("a.jpg")), Path::new("a-again.jpg"));
        assert_eq!(again(Path::new("x/a")), Path::new("a-again.png"));
    }
}
