//! What to do about an error, in options of the command.

#[cfg(feature = "hub")]
use sana_pipeline::hub::HubError;
use sana_pipeline::memory::MemoryAdvice;
use sana_pipeline::transformer::WeightError;
use sana_pipeline::{CheckpointError, PipelineError, RequestError};

/// The options that help, if the error is one that options help with.
pub fn advice(error: &anyhow::Error) -> Option<String> {
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
    let error = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<PipelineError>())?;
    match error {
        PipelineError::Memory { advice, .. } => {
            let options: Vec<String> = advice.iter().map(options).collect();
            (!options.is_empty()).then(|| format!("try {}", options.join(" or ")))
        }
        PipelineError::StepNotFinite { .. } | PipelineError::NotFinite { .. } => Some(
            "try another --dtype, and look for such weights with sana inspect --check".to_owned(),
        ),
        PipelineError::Request(RequestError::NoControlNet) => {
            Some("name the folder of a ControlNet with --controlnet DIR".to_owned())
        }
        PipelineError::Request(RequestError::NoControlImage { .. }) => {
            Some("give a control image with --control IMG".to_owned())
        }
        PipelineError::Checkpoint(CheckpointError::Weights(WeightError::NoWeights {
            variants,
            ..
        })) => choose(variants),
        PipelineError::Checkpoint(CheckpointError::Weights(WeightError::Corrupt { .. })) => Some(
            "download it again; sana inspect OWNER/NAME --check does so for a model from the Hub"
                .to_owned(),
        ),
        PipelineError::Checkpoint(CheckpointError::NoVariant { found, .. }) => without_or(found),
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

fn options(advice: &MemoryAdvice) -> String {
    match advice {
        MemoryAdvice::LowMemory => "--low-memory".to_owned(),
        MemoryAdvice::Bf16 => "--dtype bf16".to_owned(),
        MemoryAdvice::Bf16LowMemory => "--dtype bf16 with --low-memory".to_owned(),
        MemoryAdvice::FewerImages => "--count 1".to_owned(),
        MemoryAdvice::Size { width, height } => format!("--size {width}x{height}"),
        other => other.to_string(),
    }
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
            advice,
        };
        let advised = |error: PipelineError| advice(&anyhow::Error::new(error).context("here"));
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
        let error = advised(RequestError::NoControlNet.into()).unwrap();
        assert!(error.contains("--controlnet DIR"), "{error}");
    }
}
