//! What a prompt becomes before it is used: a style around it, and its wildcards replaced.

mod wildcards;

use std::cell::OnceCell;

use super::args::ImageArgs;
use super::profile::{self, Config, Style};
use wildcards::{Chooser, literal};

/// Prompts as they are typed become prompts as they are used.
#[derive(Debug, Default)]
pub struct Templates {
    /// Read once it is needed: without styles, no file of settings has a say.
    config: OnceCell<Config>,
}

impl Templates {
    /// The options of an image with its prompts as they are used: those of this seed.
    ///
    /// # Errors
    /// When there is no such style, or a wildcard cannot be replaced.
    pub fn resolved(&self, args: &ImageArgs, seed: u64) -> Result<ImageArgs, String> {
        let (mut prompt, mut negative) = (args.prompt().to_owned(), args.negative().to_owned());
        for name in &args.style {
            let Style {
                prompt: around,
                negative: against,
            } = self.config()?.style(name)?;
            prompt = within(around, &prompt);
            if let Some(against) = against {
                negative = within(against, &negative);
            }
        }
        let needs_files = [&prompt, &negative].iter().any(|text| text.contains("__"));
        let folder = match needs_files {
            true => profile::wildcards(),
            false => None,
        };
        let mut chooser = Chooser::new(seed, folder.as_deref());
        let (used, avoided) = (chooser.resolve(&prompt)?, chooser.resolve(&negative)?);
        Ok(ImageArgs {
            template: (used != prompt).then_some(prompt),
            prompt: args.prompt.as_ref().map(|_| used),
            negative: (args.negative.is_some() || !avoided.is_empty()).then_some(avoided),
            style: Vec::new(),
            ..args.clone()
        })
    }

    fn config(&self) -> Result<&Config, String> {
        if let Some(config) = self.config.get() {
            return Ok(config);
        }
        let config = Config::read().map_err(|error| format!("{error:#}"))?;
        Ok(self.config.get_or_init(|| config))
    }
}

impl ImageArgs {
    /// With prompts that are what they are to the letter, as an image records them: resolved again they
    /// are the same.
    pub fn literal(self) -> Self {
        let literally = |text: Option<String>| text.map(|text| literal(&text));
        Self {
            prompt: literally(self.prompt),
            negative: literally(self.negative),
            ..self
        }
    }
}

/// The text in the place of `{prompt}`, or before the style where it has none.
fn within(style: &str, text: &str) -> String {
    const PLACE: &str = "{prompt}";
    match style.contains(PLACE) {
        true => style.replace(PLACE, text),
        false if text.is_empty() => style.to_owned(),
        false => format!("{text}, {style}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn templates(config: &str) -> Templates {
        let config = Config::parse(config).unwrap();
        Templates {
            config: config.into(),
        }
    }

    fn args(prompt: &str, negative: Option<&str>, style: &[&str]) -> ImageArgs {
        ImageArgs {
            prompt: Some(prompt.to_owned()),
            negative: negative.map(str::to_owned),
            style: style.iter().map(|name| (*name).to_owned()).collect(),
            ..ImageArgs::default()
        }
    }

    #[test]
    fn styles_around_prompts() {
        let templates = templates(
            "[styles]\nink = 'an ink drawing of {prompt}, {fine|bold} lines'\nplain = 'plain'\n\
             [styles.photo]\nprompt = 'a photograph of {prompt}'\nnegative = '{prompt}, drawing'\n",
        );
        let resolved = |prompt, negative, style: &[&str]| {
            let made = templates
                .resolved(&args(prompt, negative, style), 1)
                .unwrap();
            assert!(made.style.is_empty());
            (made.prompt.unwrap(), made.negative, made.template)
        };
        let (prompt, negative, template) = resolved("{a|a} cat", None, &["ink"]);
        assert!(
            ["fine", "bold"]
                .iter()
                .any(|lines| prompt == format!("an ink drawing of a cat, {lines} lines")),
            "{prompt}"
        );
        let expected = "an ink drawing of {a|a} cat, {fine|bold} lines";
        assert_eq!((negative, template.as_deref()), (None, Some(expected)));
        let (prompt, negative, template) = resolved("a cat", Some("blur"), &["photo", "plain"]);
        assert_eq!(prompt, "a photograph of a cat, plain");
        assert_eq!(
            (negative.as_deref(), template),
            (Some("blur, drawing"), None)
        );
        let error = templates
            .resolved(&args("a", None, &["fhoto"]), 0)
            .unwrap_err();
        assert!(
            error.contains("no style fhoto") && error.contains("photo"),
            "{error}"
        );
    }

    #[test]
    fn plain_prompts_need_no_settings() {
        // Were it read, the settings of whoever runs the tests would count.
        let templates = Templates::default();
        let plain = args("a cat", Some(""), &[]);
        assert_eq!(templates.resolved(&plain, 7).unwrap(), plain);
        assert!(templates.config.get().is_none());
    }
}
