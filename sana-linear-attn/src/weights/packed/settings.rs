//! Settings of SDNQ, of which some change how the tensors are read.

use serde_json::{Map, Value, json};

use crate::quantization::Quantization;

/// The release whose folders are written. Those of its series are read; only this one was compared.
pub(super) const VERSION: &str = "0.2.8";
const SERIES: &str = "0.2.";

/// Settings that describe how weights were quantized, or how they are to be computed with: the tensors
/// are read in the same way whatever they are.
const WITHOUT_EFFECT: [&str; 25] = [
    "add_skip_keys",
    "codebook_steps",
    "dequantize_fp32",
    "dynamic_loss_threshold",
    "group_size",
    "hadamard_group_size",
    "is_integer",
    "is_unsigned",
    "minimum_allowed_channel_size",
    "minimum_allowed_numel",
    "modules_to_not_convert",
    "modules_to_not_use_matmul",
    "non_blocking",
    "quant_conv",
    "quant_method",
    "quantization_device",
    "quantized_matmul_dtype",
    "return_device",
    "svd_rank",
    "svd_steps",
    "use_dynamic_quantization",
    "use_grad_ckpt",
    "use_static_quantization",
    "use_stochastic_rounding",
    "use_svd",
];

/// Settings that must be off.
const OFF: [&str; 9] = [
    "is_training",
    "quant_embedding",
    "scale_dtype",
    "use_codebook",
    "use_codebook_scale",
    "use_hadamard",
    "use_quantized_matmul",
    "use_quantized_matmul_conv",
    "zero_point_dtype",
];

/// What of a `quantization_config` is not supported, by name.
pub(super) fn check(config: &Value) -> Result<(), String> {
    let empty = Map::new();
    for (name, value) in config.as_object().unwrap_or(&empty) {
        match name.as_str() {
            name if WITHOUT_EFFECT.contains(&name) => {}
            name if OFF.contains(&name) => {
                let off = value.is_null() || *value == false || *value == "none";
                if !off {
                    return Err(format!("{name} is {value}: save it with {name} off"));
                }
            }
            "weights_dtype" => check_form(name, value.as_str().unwrap_or_default())?,
            "modules_dtype_dict" => {
                for form in value.as_object().unwrap_or(&empty).keys() {
                    check_form(name, form)?;
                }
            }
            "modules_quant_config" => {
                for settings in value.as_object().unwrap_or(&empty).values() {
                    check(settings)?;
                }
            }
            "sdnq_version" => {
                let version = value.as_str().unwrap_or_default();
                if !version.starts_with(SERIES) {
                    return Err(format!("sdnq_version {version:?}, expected {SERIES}x"));
                }
            }
            _ => return Err(format!("an unknown setting {name}, {value}")),
        }
    }
    Ok(())
}

fn check_form(name: &str, form: &str) -> Result<(), String> {
    match form {
        "int8" | "uint4" => Ok(()),
        _ => Err(format!("{name} {form:?}, expected int8 or uint4")),
    }
}

/// The `quantization_config` of weights in a form, `None` in `exceptions` for those that are not
/// quantized, by name.
pub(super) fn written<'a>(
    to: Quantization,
    rank: Option<usize>,
    exceptions: impl Iterator<Item = (&'a str, Option<Quantization>)>,
) -> Value {
    let group_size = |form| match form {
        Quantization::Int8 => -1,
        Quantization::Uint4 => 64,
    };
    let (mut dense, mut other) = (Vec::new(), Map::new());
    for (name, form) in exceptions {
        match form {
            None => dense.push(name),
            Some(form) => {
                let settings = json!({
                    "weights_dtype": form.name(),
                    "group_size": group_size(form),
                });
                other.insert(name.to_owned(), settings);
            }
        }
    }
    json!({
        "quant_method": "sdnq",
        "sdnq_version": VERSION,
        "weights_dtype": to.name(),
        "group_size": group_size(to),
        "quant_conv": true,
        "quant_embedding": false,
        "use_quantized_matmul": false,
        "use_quantized_matmul_conv": false,
        "dequantize_fp32": true,
        "use_svd": rank.is_some(),
        "svd_rank": rank.unwrap_or(32),
        "use_hadamard": false,
        "use_codebook": false,
        "add_skip_keys": false,
        "modules_to_not_convert": dense,
        "modules_quant_config": other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_the_tensors_is_refused_by_name() {
        let own = written(
            Quantization::Uint4,
            Some(8),
            [
                ("proj_out.weight", None),
                ("odd.weight", Some(Quantization::Int8)),
            ]
            .into_iter(),
        );
        assert_eq!(own["modules_to_not_convert"], json!(["proj_out.weight"]));
        assert_eq!(own["modules_quant_config"]["odd.weight"]["group_size"], -1);
        assert_eq!(check(&own), Ok(()));
        for (name, value, said) in [
            ("weights_dtype", json!("int6"), "weights_dtype \"int6\""),
            ("use_hadamard", json!(true), "use_hadamard is true"),
            (
                "use_quantized_matmul",
                json!(true),
                "use_quantized_matmul off",
            ),
            ("scale_dtype", json!("uint8"), "scale_dtype is \"uint8\""),
            ("sdnq_version", json!("0.3.0"), "expected 0.2.x"),
            ("modules_dtype_dict", json!({ "int5": ["a"] }), "\"int5\""),
            ("rotation", json!(3), "unknown setting rotation, 3"),
        ] {
            let mut config = own.clone();
            config[name] = value.clone();
            let error = check(&config).unwrap_err();
            assert!(error.contains(said), "{error}");
            let mut config = own.clone();
            config["modules_quant_config"]["odd.weight"][name] = value;
            assert_eq!(check(&config), Err(error));
        }
    }
}
