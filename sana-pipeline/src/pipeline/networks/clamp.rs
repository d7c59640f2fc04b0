//! The limit on self-attention of models that were trained in f16.

use burn::tensor::DType;
use sana_linear_attn::SanaTransformerConfig;
use sana_linear_attn::transformer::F16Clamp;

use crate::checkpoint::variants;

/// A note where nothing says whether a released model was trained in f16, and so needs its limit in
/// any dtype: those without qk norm were, except for those published in bf16.
pub(super) fn clamp_note(
    config: &SanaTransformerConfig,
    clamp: F16Clamp,
    stored: DType,
) -> Option<String> {
    let unknown = clamp == F16Clamp::Auto && config.qk_norm.is_none() && stored == DType::F32;
    let released = || variants::recognize(config).is_some_and(|variant| variant.is_of_f16());
    (unknown && released()).then(|| {
        "the f32 weights of the transformer do not say that it was trained in f16, as this released \
         model was: the limit on its self-attention is off. Files of the variant fp16 next to them, \
         or LoadOptions::clamp, switch it on"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_that_do_not_say_what_they_were_trained_in() {
        let noted = |name: &str, clamp, stored| {
            let config = variants::find(name).unwrap().transformer();
            clamp_note(&config, clamp, stored).is_some()
        };
        let auto = F16Clamp::Auto;
        assert!(noted("sana-1600m-1024px", auto, DType::F32));
        assert!(noted("sana-600m-512px", auto, DType::F32));
        // Published in bf16, with the limit in place, of other models, and said by the caller.
        assert!(!noted("sana-1600m-1024px", auto, DType::BF16));
        assert!(!noted("sana-1600m-1024px", auto, DType::F16));
        assert!(!noted("sana-1600m-2kpx", auto, DType::F32));
        assert!(!noted("sana-1.5-1.6b", auto, DType::F32));
        assert!(!noted("sana-1600m-1024px", F16Clamp::On, DType::F32));
        assert!(!noted("sana-1600m-1024px", F16Clamp::Off, DType::F32));
        let own = SanaTransformerConfig::default();
        let own = SanaTransformerConfig {
            num_layers: 3,
            ..own
        };
        assert_eq!(clamp_note(&own, auto, DType::F32), None);
    }
}
