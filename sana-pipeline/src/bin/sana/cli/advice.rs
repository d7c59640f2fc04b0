//! What to do about an error, in options of the command.

use sana_pipeline::PipelineError;
use sana_pipeline::error::{CheckpointError, RequestError};
#[cfg(feature = "hub")]
use sana_pipeline::hub::HubError;
use sana_pipeline::memory::MemoryAdvice;
use sana_pipeline::transformer::WeightError;

/// The options that help, of those that the command has, if the error is one that options help with.
pub fn advice(error: &anyhow::Error, has: &[String]) -> Option<String> {
    #[cfg(feature = "hub")]
    if let Some(error) = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<HubError>())
    {
        return match error {
            HubError::NoVariant { found, .. } => without_or(found),
            HubError::NoWeights { variants, .. } => choose(variants),
            _ => None,
        };
    }
    // Nested errors are causes of those that nest them.
    error.chain().find_map(|cause| {
        if let Some(error) = cause.downcast_ref() {
            return about_pipeline(error, has);
        }
        if let Some(error) = cause.downcast_ref() {
            return about_request(error);
        }
        if let Some(error) = cause.downcast_ref() {
            return about_checkpoint(error);
        }
        about_weights(cause.downcast_ref()?)
    })
}

fn about_pipeline(error: &PipelineError, has: &[String]) -> Option<String> {
    match error {
        PipelineError::Memory { advice, .. } => {
            let options: Vec<String> = advice.iter().filter_map(options).collect();
            let options = known(options, has);
            (!options.is_empty()).then(|| format!("try {}", options.join(" or ")))
        }
        PipelineError::StepNotFinite { .. } | PipelineError::NotFinite { .. } => {
            let dtype = known(vec!["try another --dtype".to_owned()], has);
            let check = "look for such weights with sana inspect --check".to_owned();
            Some([dtype, vec![check]].concat().join(", and "))
        }
        PipelineError::Scales { .. } => {
            let scales = [
                "--guidance",
                "--pag",
                "--control-scale",
                "the scale of --lora",
            ];
            let scales = known(scales.map(str::to_owned).to_vec(), has);
            Some(format!("usual numbers are below 20: {}", scales.join(", ")))
        }
        _ => None,
    }
}

fn about_request(error: &RequestError) -> Option<String> {
    match error {
        RequestError::NoControlNet => {
            Some("name the folder of a ControlNet with --controlnet DIR".to_owned())
        }
        RequestError::NoControlImage { .. } => {
            Some("give a control image with --control IMG".to_owned())
        }
        _ => None,
    }
}

fn about_checkpoint(error: &CheckpointError) -> Option<String> {
    match error {
        CheckpointError::NoVariant { found, .. } => without_or(found),
        _ => None,
    }
}

fn about_weights(error: &WeightError) -> Option<String> {
    match error {
        WeightError::NoWeights { variants, .. } => choose(variants),
        WeightError::Corrupt { .. } => Some(
            "download it again; sana inspect OWNER/NAME --check does so for a model from the Hub"
                .to_owned(),
        ),
        _ => None,
    }
}

/// The text of an error that leaves names out, and with all of them.
pub fn all_names(error: &anyhow::Error) -> Option<(String, String)> {
    error.chain().find_map(|cause| {
        let error = cause.downcast_ref::<PipelineError>()?;
        Some((error.to_string(), error.all_names()?))
    })
}

/// What to do about a variant that is not there, where these are.
fn without_or(found: &[String]) -> Option<String> {
    match found {
        [] => Some("leave out --variant".to_owned()),
        found => Some(format!("{}, or leave it out", choose(found)?)),
    }
}

/// What chooses one of these variants.
fn choose(variants: &[String]) -> Option<String> {
    let options: Vec<String> = variants
        .iter()
        .map(|variant| format!("--variant {variant}"))
        .collect();
    (!options.is_empty()).then(|| format!("choose one with {}", options.join(" or ")))
}

fn options(advice: &MemoryAdvice) -> Option<String> {
    Some(match advice {
        MemoryAdvice::LowMemory => "--low-memory".to_owned(),
        MemoryAdvice::Bf16 => "--dtype bf16".to_owned(),
        MemoryAdvice::Bf16LowMemory => "--dtype bf16 with --low-memory".to_owned(),
        MemoryAdvice::FewerImages => "--count 1".to_owned(),
        MemoryAdvice::FewerPrompts { prompts } => format!("--batch {prompts}"),
        MemoryAdvice::Size { width, height } => format!("--size {width}x{height}"),
        _ => return None,
    })
}

/// Those whose options the command has.
fn known(mut texts: Vec<String>, has: &[String]) -> Vec<String> {
    texts.retain(|text| {
        let words = text.split(' ');
        let mut options = words.filter_map(|word| word.strip_prefix("--"));
        options.all(|option| has.iter().any(|known| known == option))
    });
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_help() {
        let size = MemoryAdvice::Size {
            width: 512,
            height: 512,
        };
        let error = |advice| PipelineError::Memory {
            needs: 2,
            free: 1,
            single_tensor: false,
            advice,
        };
        let all = [
            "dtype",
            "low-memory",
            "count",
            "size",
            "batch",
            "controlnet",
            "guidance",
        ];
        let all = all.map(str::to_owned);
        let of = |error: PipelineError, has: &[String]| {
            advice(&anyhow::Error::new(error).context("here"), has)
        };
        let advised = |error| of(error, &all);
        assert_eq!(advised(error(vec![])), None);
        assert_eq!(
            advised(error(vec![
                MemoryAdvice::Bf16LowMemory,
                MemoryAdvice::FewerImages,
                size
            ]))
            .as_deref(),
            Some("try --dtype bf16 with --low-memory or --count 1 or --size 512x512")
        );
        let batch = MemoryAdvice::FewerPrompts { prompts: 7 };
        let several = vec![MemoryAdvice::Bf16, batch, size];
        assert_eq!(
            of(error(several.clone()), &all[..1]).as_deref(),
            Some("try --dtype bf16")
        );
        assert_eq!(of(error(several.clone()), &[]), None);
        assert_eq!(
            of(error(several), &all[3..5]).as_deref(),
            Some("try --batch 7 or --size 512x512")
        );
        let scales = PipelineError::Scales {
            what: "step 2 of 20".to_owned(),
            scales: "guidance of scale 1e30".to_owned(),
        };
        assert_eq!(
            of(scales, &all).as_deref(),
            Some("usual numbers are below 20: --guidance")
        );
        let error = advised(RequestError::NoControlNet.into()).unwrap();
        assert!(error.contains("--controlnet DIR"), "{error}");
    }
}
