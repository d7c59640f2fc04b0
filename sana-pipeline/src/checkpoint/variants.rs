//! The released models of the family: their configs, and recognising them.

use sana_dcae::DcAeConfig;
use sana_linear_attn::SanaTransformerConfig;
use sana_sampler::{DpmSolverOptions, SigmaData};
use sana_text::Gemma2Config;

use crate::checkpoint::Scheduler;
use crate::error::CheckpointError;

/// A released model.
#[derive(Debug, Clone, Copy)]
pub struct Variant {
    /// Its name here and on the command line, such as `sana-1600m-512px`.
    pub name: &'static str,
    transformer: fn() -> SanaTransformerConfig,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Flow shift 3.
    Flow,
    /// Flow shift 6.
    Flow4k,
    Sprint,
}

const VARIANTS: [Variant; 10] = [
    flow("sana-600m-512px", SanaTransformerConfig::sana_600m_512px),
    flow("sana-600m-1024px", SanaTransformerConfig::sana_600m_1024px),
    flow("sana-1600m-512px", SanaTransformerConfig::sana_1600m_512px),
    flow(
        "sana-1600m-1024px",
        SanaTransformerConfig::sana_1600m_1024px,
    ),
    flow("sana-1600m-2kpx", SanaTransformerConfig::sana_1600m_2kpx),
    Variant {
        name: "sana-1600m-4kpx",
        transformer: SanaTransformerConfig::sana_1600m_4kpx,
        kind: Kind::Flow4k,
    },
    flow("sana-1.5-1.6b", SanaTransformerConfig::sana_1_5_1600m),
    flow("sana-1.5-4.8b", SanaTransformerConfig::sana_1_5_4800m),
    sprint("sana-sprint-0.6b", SanaTransformerConfig::sana_sprint_600m),
    sprint("sana-sprint-1.6b", SanaTransformerConfig::sana_sprint_1600m),
];

const fn flow(name: &'static str, transformer: fn() -> SanaTransformerConfig) -> Variant {
    Variant {
        name,
        transformer,
        kind: Kind::Flow,
    }
}

const fn sprint(name: &'static str, transformer: fn() -> SanaTransformerConfig) -> Variant {
    Variant {
        name,
        transformer,
        kind: Kind::Sprint,
    }
}

impl Variant {
    /// Config of its transformer.
    pub fn transformer(&self) -> SanaTransformerConfig {
        (self.transformer)()
    }

    /// Whether it was published in f16 too, and so was trained with its limit on self-attention.
    pub fn is_of_f16(&self) -> bool {
        let names = [
            "sana-600m-512px",
            "sana-600m-1024px",
            "sana-1600m-512px",
            "sana-1600m-1024px",
        ];
        names.contains(&self.name)
    }

    /// Config of its autoencoder: DC-AE f32c32 sana-1.1.
    pub fn autoencoder(&self) -> DcAeConfig {
        DcAeConfig::f32c32_sana_1_1()
    }

    /// Config of its text encoder: Gemma-2 2B.
    pub fn text_encoder(&self) -> Gemma2Config {
        Gemma2Config::gemma_2_2b()
    }

    /// Its scheduler.
    pub fn scheduler(&self) -> Scheduler {
        let options = DpmSolverOptions::default();
        match self.kind {
            Kind::Flow => Scheduler::FlowDpm {
                options,
                shift: 3.0,
            },
            Kind::Flow4k => Scheduler::FlowDpm {
                options,
                shift: 6.0,
            },
            Kind::Sprint => Scheduler::Scm {
                sigma_data: SigmaData::default(),
            },
        }
    }
}

/// All released variants.
pub fn all() -> &'static [Variant] {
    &VARIANTS
}

/// Their names.
pub fn names() -> Vec<&'static str> {
    VARIANTS.iter().map(|variant| variant.name).collect()
}

/// The variant of a name.
///
/// # Errors
/// [`CheckpointError::UnknownVariant`], which lists the names there are.
pub fn find(name: &str) -> Result<&'static Variant, CheckpointError> {
    VARIANTS
        .iter()
        .find(|variant| variant.name == name)
        .ok_or_else(|| CheckpointError::UnknownVariant {
            found: name.to_owned(),
            known: names(),
        })
}

/// The released variant with this transformer, if there is one.
pub fn recognize(config: &SanaTransformerConfig) -> Option<&'static Variant> {
    let essential = |config: &SanaTransformerConfig| SanaTransformerConfig {
        out_channels: Some(config.output_channels()),
        guidance_embeds_scale: if config.guidance_embeds {
            config.guidance_embeds_scale
        } else {
            0.0
        },
        ..config.clone()
    };
    VARIANTS
        .iter()
        .find(|variant| essential(&variant.transformer()) == essential(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variant_is_found_and_recognized() {
        assert_eq!(names().len(), 10);
        for variant in all() {
            assert_eq!(find(variant.name).unwrap().name, variant.name);
            assert_eq!(
                recognize(&variant.transformer()).unwrap().name,
                variant.name
            );
            variant.transformer().validate().unwrap();
        }
        assert_eq!(
            find("sana-1600m-4kpx").unwrap().scheduler().shift(),
            Some(6.0)
        );
        assert_eq!(find("sana-sprint-0.6b").unwrap().scheduler().shift(), None);
    }

    #[test]
    fn keys_without_effect_do_not_matter() {
        let config = SanaTransformerConfig {
            out_channels: None,
            guidance_embeds_scale: 1.0,
            ..SanaTransformerConfig::sana_1600m_512px()
        };
        assert_eq!(recognize(&config).unwrap().name, "sana-1600m-512px");
        let config = SanaTransformerConfig {
            num_layers: 3,
            ..config
        };
        assert!(recognize(&config).is_none());
    }

    #[test]
    fn unknown_names_list_the_known_ones() {
        let error = find("sana-9b").unwrap_err();
        assert!(matches!(error, CheckpointError::UnknownVariant { .. }));
        assert!(error.to_string().contains("sana-1.5-4.8b"), "{error}");
    }
}
