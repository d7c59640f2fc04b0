//! Weights, LoRAs and lists of shards.

use std::fs;

use burn::tensor::{DType, TensorData};
use proptest::prelude::*;
use sana_linear_attn::parity::device;
use sana_linear_attn::transformer::Lora;
use sana_linear_attn::weights::write_tensors;
use sana_linear_attn::{SanaTransformerConfig, Weights};
use serde_json::{Value, json};

use super::allocations::peak_of;
use super::mutations::{edited, edits, json_edited, json_edits};
use super::{cases, entry, fixture};

/// Memory that a header may need for each of its bytes, in addition to the copy that the bytes are in.
const PER_BYTE: usize = 16;
const CONSTANT: usize = 64 << 10;

fn bounded(bytes: &[u8]) -> bool {
    let (accepted, peak) = peak_of(|| entry::safetensors(bytes));
    let bound = PER_BYTE * bytes.len() + CONSTANT;
    assert!(peak <= bound, "{peak} bytes for a file of {}", bytes.len());
    accepted
}

fn tensors(names: &[&str]) -> Vec<(String, TensorData)> {
    let data = |name: &&str| {
        let data = TensorData::new(vec![1f32, -2.0, 0.5, 4.0, 0.0, 6.0], [2, 3]);
        ((*name).to_owned(), data.convert_dtype(DType::BF16))
    };
    names.iter().map(data).collect()
}

fn written(tensors: Vec<(String, TensorData)>) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    write_tensors(&path, tensors).unwrap();
    fs::read(path).unwrap()
}

fn small_file() -> Vec<u8> {
    let mut all = tensors(&["proj_out.weight", "a.lora_A.weight", "a.lora_B.weight"]);
    all.push(("a.alpha".to_owned(), TensorData::new(vec![2f32], [1])));
    all.push(("steps".to_owned(), TensorData::new(vec![3i64], [1])));
    written(all)
}

/// A header and data as a file.
fn file_of(header: &str, data: &[u8]) -> Vec<u8> {
    let length = (header.len() as u64).to_le_bytes();
    [&length[..], header.as_bytes(), data].concat()
}

/// Header and data of a file.
fn parts_of(file: &[u8]) -> (Value, Vec<u8>) {
    let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let json = serde_json::from_slice(&file[8..8 + header]).unwrap();
    (json, file[8 + header..].to_vec())
}

#[test]
fn the_files_that_are_changed_are_right() {
    assert!(bounded(&small_file()));
    let (header, data) = parts_of(&small_file());
    assert!(bounded(&file_of(&header.to_string(), &data)));
    assert!(bounded(
        &fs::read(fixture("vae/diffusion_pytorch_model.safetensors")).unwrap()
    ));
}

proptest! {
    #![proptest_config(cases(1500))]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        bounded(&bytes);
    }

    #[test]
    fn any_header(text in "[\\[\\]{}\":,a-z0-9 ]{0,200}", data in 0usize..40) {
        bounded(&file_of(&text, &vec![0; data]));
    }

    #[test]
    fn changed_bytes(edits in edits()) {
        bounded(&edited(&small_file(), &edits));
    }

    #[test]
    fn changed_headers(edits in json_edits()) {
        let (header, data) = parts_of(&small_file());
        bounded(&file_of(&json_edited(&header, &edits), &data));
    }
}

/// Offsets whose sum, and shapes whose product, leave the range of a number.
#[test]
fn headers_whose_numbers_overflow() {
    let long = |count: u64| {
        let step = (1u64 << 61) - 1;
        let tensor = |index: u64| {
            let name = format!("t{index}");
            let offsets = [index * step, (index + 1) * step];
            (
                name,
                json!({"dtype": "U8", "shape": [step], "data_offsets": offsets}),
            )
        };
        Value::from_iter((0..count).map(tensor))
    };
    let shaped =
        |shape: Value| json!({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, 4]}});
    for header in [
        long(8),
        long(1),
        shaped(json!([u64::MAX, u64::MAX])),
        shaped(json!([1u64 << 62, 4])),
        shaped(json!([1, 1, 1, 1, 1, 1, 1, 1, 1])),
        shaped(json!([-1])),
        shaped(json!([1.0])),
        json!({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}),
        json!({"a": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]},
               "b": {"dtype": "F32", "shape": [1], "data_offsets": [2, 6]}}),
    ] {
        let file = file_of(&header.to_string(), &[0; 4]);
        assert!(!bounded(&file), "{header}");
    }
    // Nothing, however long it would be.
    let empty =
        json!({"a": {"dtype": "F32", "shape": [0, u64::MAX, u64::MAX], "data_offsets": [0, 0]}});
    assert!(bounded(&file_of(&empty.to_string(), &[])));
    let text = r#"{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},
                   "a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    assert!(!bounded(&file_of(text, &[0; 4])), "one name twice");
}

/// The worst that a header of two megabytes can hold.
#[test]
fn large_headers_need_little_memory() {
    let length = 1 << 20;
    let tiny = |index: usize| {
        format!(
            r#""{index:x}":{{"dtype":"U8","shape":[],"data_offsets":[{index},{}]}}"#,
            index + 1
        )
    };
    let count = 30_000;
    let many: Vec<String> = (0..count).map(tiny).collect();
    let many = file_of(&format!("{{{}}}", many.join(",")), &vec![0; count]);
    assert!(bounded(&many));
    let texts: Vec<String> = (0..100_000)
        .map(|index| format!(r#""{index:x}":"""#))
        .collect();
    let texts = format!(r#"{{"__metadata__":{{{}}}}}"#, texts.join(","));
    assert!(bounded(&file_of(&texts, &[])));
    let entry = |shape: &str| format!(r#"{{"a":{{"dtype":"F32","shape":{shape}"#);
    for header in [
        entry(&format!("[{}", "1,".repeat(length))),
        entry(&"[".repeat(length)),
        format!("{{\"a\":{}", "[[],".repeat(length / 2)),
        format!("{{\"a\":{{\"b\":[{}", "0,".repeat(length)),
        "{\"a\":".repeat(length / 4),
        format!("{{\"{}", "a".repeat(length)),
    ] {
        assert!(!bounded(&file_of(&header, &[])));
    }
}

/// A LoRA that fits no layer says so, and allocates nothing for the layers that it names.
#[test]
fn changed_loras_are_checked_by_their_headers() {
    let device = device();
    let lora = super::built_in_fixture_path(
        env!("CARGO_MANIFEST_DIR"),
        "pipeline/lora/pytorch_lora_weights.safetensors",
    );
    let (header, data) = parts_of(&fs::read(lora).unwrap());
    let config = SanaTransformerConfig::from_file(&fixture("transformer/config.json")).unwrap();
    proptest!(cases(300), |(edits in json_edits())| {
        let file = file_of(&json_edited(&header, &edits), &data);
        let Ok(weights) = Weights::from_bytes(entry::NAME, file) else {
            return Ok(());
        };
        match Lora::from_weights(weights) {
            Ok(lora) => if let Err(error) = lora.check(&config, &device) {
                prop_assert!(error.to_string().contains(entry::NAME), "{}", error);
            }
            Err(error) => prop_assert!(error.to_string().contains(entry::NAME), "{}", error),
        }
    });
}

/// A folder `inside` with two shards, and a file next to the folder that must not be reached.
fn two_folders() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("inside");
    fs::create_dir_all(inside.join("deeper")).unwrap();
    for (file, name) in [
        ("inside/one.safetensors", "one"),
        ("inside/two.safetensors", "two"),
        ("inside/deeper/three.safetensors", "secret"),
        ("outside.safetensors", "secret"),
    ] {
        fs::write(folder.path().join(file), written(tensors(&[name]))).unwrap();
    }
    folder
}

#[test]
fn shards_do_not_leave_the_folder() {
    let folder = two_folders();
    let inside = folder.path().join("inside");
    let of = |name: &str| json!({"weight_map": {"one": "one.safetensors", "x": name}}).to_string();
    assert!(entry::index(&inside, of("two.safetensors").as_bytes()).is_some());
    let absolute = folder.path().join("outside.safetensors");
    let absolute = absolute.to_str().unwrap();
    for name in [
        "../outside.safetensors",
        "./one.safetensors",
        "deeper/three.safetensors",
        "deeper\\three.safetensors",
        "..\\outside.safetensors",
        "C:outside.safetensors",
        "C:\\outside.safetensors",
        "\\\\host\\share\\outside.safetensors",
        "one.safetensors:stream",
        "one.safetensors\0",
        "one\n.safetensors",
        "..",
        ".",
        "",
        "deeper",
        "%2e%2e/outside.safetensors",
        absolute,
    ] {
        assert_eq!(entry::index(&inside, of(name).as_bytes()), None, "{name:?}");
    }

    let piece = prop::sample::select(vec![
        "..",
        ".",
        "/",
        "\\",
        "inside",
        "deeper",
        "outside",
        "one",
        "three",
        ".safetensors",
        "C:",
        "%2f",
        "\u{2215}",
        "~",
        " ",
        "\0",
    ]);
    let name = prop::collection::vec(piece, 1..7).prop_map(|pieces| pieces.concat());
    proptest!(cases(300), |(name in name)| {
        let found = entry::index(&inside, of(&name).as_bytes()).unwrap_or_default();
        prop_assert!(!found.contains("secret"), "{:?} leads to {:?}", name, found);
    });
}

#[test]
fn changed_indices() {
    let folder = two_folders();
    let inside = folder.path().join("inside");
    let right = json!({
        "metadata": {"total_size": 24},
        "weight_map": {"one": "one.safetensors", "two": "two.safetensors"},
    });
    let bounded = |bytes: &[u8]| {
        let (found, peak) = peak_of(|| entry::index(&inside, bytes));
        assert!(
            peak <= PER_BYTE * bytes.len() + CONSTANT,
            "{peak} for {}",
            bytes.len()
        );
        found
    };
    assert_eq!(bounded(right.to_string().as_bytes()).unwrap().len(), 2);
    proptest!(cases(200), |(json in json_edits(), bytes in edits())| {
        bounded(json_edited(&right, &json).as_bytes());
        bounded(&edited(right.to_string().as_bytes(), &bytes));
    });
    let length = 1 << 20;
    for text in [
        "[".repeat(length),
        format!("{{\"weight_map\": {{\"a\": [{}", "0,".repeat(length)),
        format!(
            "{{\"metadata\": [{}0], \"weight_map\": 1}}",
            "0,".repeat(length)
        ),
    ] {
        assert_eq!(bounded(text.as_bytes()), None);
    }
}

/// The usual download caches hold the files elsewhere and link to them.
#[cfg(unix)]
#[test]
fn links_may_leave_the_folder() {
    use std::os::unix::fs::symlink;

    let folder = two_folders();
    let inside = folder.path().join("inside");
    symlink("../outside.safetensors", inside.join("linked.safetensors")).unwrap();
    let index = json!({"weight_map": {"x": "linked.safetensors"}}).to_string();
    let found = entry::index(&inside, index.as_bytes()).unwrap();
    assert!(found.contains("secret"));

    // What has no end is no file, and neither is a folder.
    for target in ["/dev/zero", "deeper"] {
        let link = inside.join("endless.safetensors");
        symlink(target, &link).unwrap();
        let index = json!({"weight_map": {"x": "endless.safetensors"}}).to_string();
        assert_eq!(entry::index(&inside, index.as_bytes()), None);
        fs::remove_file(&link).unwrap();
    }
}
