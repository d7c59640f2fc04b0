//! The files of a checkpoint folder that are not weights.

use sana_linear_attn::SanaTransformerConfig;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::checkpoint::component::Component;
use crate::checkpoint::contents::weight_files::F16_CLAMP;
use crate::checkpoint::keys::SanaKeys;
use crate::checkpoint::scheduler::Scheduler;

/// The `config.json` of a component: its class and its config.
pub(crate) fn config_json(component: Component, config: &impl Serialize) -> String {
    let class = component.classes().first().copied().unwrap_or_default();
    let mut keys = Map::from_iter([("_class_name".to_owned(), Value::from(class))]);
    if let Ok(Value::Object(config)) = serde_json::to_value(config) {
        keys.extend(config);
    }
    text(&Value::Object(keys))
}

/// The `config.json` of a transformer. With `f16_clamp` it has the key that has the limit on
/// self-attention outputs loaded, whatever the weights are stored in.
pub(crate) fn transformer_json(config: &SanaTransformerConfig, f16_clamp: bool) -> String {
    let json = config_json(Component::Transformer, config);
    if !f16_clamp {
        return json;
    }
    let mut keys: Map<String, Value> = serde_json::from_str(&json).unwrap_or_default();
    let [outer, clamp] = F16_CLAMP;
    keys.insert(outer.to_owned(), json!({ clamp: true }));
    text(&Value::Object(keys))
}

/// `model_index.json`. It is written last: a folder without it is not taken for a checkpoint.
pub(crate) fn index_json(scheduler: &Scheduler, tokenizer_class: &str, keys: &SanaKeys) -> String {
    let sprint = matches!(scheduler, Scheduler::Scm { .. });
    text(&json!({
        "_class_name": if sprint { "SanaSprintPipeline" } else { "SanaPipeline" },
        "_sana": keys,
        "scheduler": ["diffusers", scheduler.class_name()],
        "text_encoder": ["transformers", "Gemma2Model"],
        "tokenizer": ["transformers", tokenizer_class],
        "transformer": ["diffusers", "SanaTransformer2DModel"],
        "vae": ["diffusers", "AutoencoderDC"],
    }))
}

/// JSON as these files have it.
pub(crate) fn text(value: &Value) -> String {
    format!("{value:#}\n")
}
