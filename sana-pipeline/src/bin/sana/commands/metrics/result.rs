//! The result of a measure as JSON: the same keys for each, so that results can be collected.

use serde_json::{Map, Value, json};

/// What was measured and how, so that it can be measured again: `metric`, `resize`, `dtype`,
/// `version`, `commit`, and the inputs of the measure.
pub fn description(
    metric: &str,
    resize: Option<String>,
    dtype: Option<String>,
    inputs: Value,
) -> Value {
    let common = json!({
        "metric": metric,
        // How images become pixels of the measure's network, where it has one.
        "resize": resize,
        // What its network computes in; of images that another program looks at, what they were made in.
        "dtype": dtype,
        "version": env!("CARGO_PKG_VERSION"),
        // The commit that the program was built from, where the build was given it.
        "commit": option_env!("SANA_COMMIT"),
    });
    merged(inputs, common)
}

/// A description with its result: `value`, `count`, the number of images, and `seeds`, what each of
/// them records, in their order.
pub fn result(
    description: Value,
    value: Option<f64>,
    count: Option<u64>,
    seeds: Option<Vec<Option<String>>>,
) -> Value {
    merged(
        description,
        json!({ "value": value, "count": count, "seeds": seeds }),
    )
}

/// An object with the keys of both; those of the second win.
fn merged(one: Value, other: Value) -> Value {
    let keys = [one, other].into_iter().flat_map(|value| match value {
        Value::Object(map) => map,
        _ => Map::new(),
    });
    Value::Object(keys.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_results_have_the_same_keys() {
        let inputs = json!({ "images": "generated", "value": "an input of this name" });
        let described = description(
            "fid",
            Some("299".to_owned()),
            Some("f32".to_owned()),
            inputs,
        );
        let found = result(described, Some(1.5), Some(1), Some(vec![None]));
        let keys: Vec<&str> = found
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let expected = [
            "commit", "count", "dtype", "images", "metric", "resize", "seeds", "value", "version",
        ];
        assert_eq!(keys, expected);
        assert_eq!(found["value"], 1.5);
        assert_eq!(found["seeds"], json!([null]));
    }
}
