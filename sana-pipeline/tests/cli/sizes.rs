//! Sizes and memory, as options of the command.

use sana_pipeline::image::{load, read_text};
use serde_json::Value;

use crate::support::{Workplace, checkpoint};

/// A copy of the checkpoint that is a model of 64 pixels.
fn small_model(here: &Workplace) -> std::path::PathBuf {
    let folder = here.copied_checkpoint("small");
    let config = folder.join("transformer/config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    let smaller = text.replace("\"sample_size\": 32", "\"sample_size\": 2");
    assert_ne!(smaller, text);
    std::fs::write(&config, smaller).unwrap();
    folder
}

#[test]
fn aspect_and_bucket() {
    let here = Workplace::new();
    let folder = small_model(&here);
    let generate = |options: &[&str]| {
        let usual = ["generate", "a red circle", "--steps", "1", "--seed", "4"];
        here.sana_on(&folder, &[&usual, options].concat())
    };
    let size = || load(&here.path("sana.png")).unwrap().dimensions();
    let text = |wanted: &str| {
        let text = read_text(&here.path("sana.png")).unwrap();
        let mut values = text.into_iter().filter(|(key, _)| key == wanted);
        values.next().map(|(_, value)| value)
    };

    // The buckets of 64 pixels are 128x32, 64x64 and 32x128.
    let said = generate(&["--aspect", "4:1"]).quiet_success();
    assert!(said.contains("\nbucket 128x32\n"), "{said}");
    assert_eq!(size(), (128, 32));
    assert_eq!(text("size").as_deref(), Some("128x32"));
    assert_eq!(text("bucket"), None);
    generate(&["--aspect", "9:16"]).quiet_success();
    assert_eq!(size(), (64, 64));

    let said = generate(&["--size", "61x57", "--bucket"]).quiet_success();
    assert!(said.contains("\nbucket 64x64\n"), "{said}");
    assert_eq!(size(), (61, 57));
    assert_eq!(text("size").as_deref(), Some("61x57"));
    let shown = here.sana(&["inspect", "sana.png"]).quiet_success();
    assert!(shown.contains("--size 61x57 --bucket "), "{shown}");

    let said = generate(&["--size", "128x96"]).quiet_success();
    assert!(said.contains("note: 128x96 has 3.0 times more"), "{said}");
    generate(&["--size", "61x57"]).fails(1, &["61x57", "multiples of 32"]);
    generate(&["--bucket"]).fails(2, &["--size"]);
    generate(&["--aspect", "4:1", "--size", "64"]).fails(2, &["cannot be used with"]);
    generate(&["--aspect", "0:1"]).fails(2, &["16:9"]);
}

#[test]
fn memory_that_is_short() {
    let here = Workplace::new();
    here.generate(&["--memory-limit", "1MB"])
        .fails(1, &["needs ", "1.00 MB free: nothing makes it fit"]);
    assert!(here.files().is_empty());
    here.generate(&["--memory-limit", "100GB"]).quiet_success();
    let tried = here.generate(&["--memory-limit", "1MB", "--ignore-memory"]);
    assert_eq!(tried.code, Some(0), "{}", tried.stderr);
    assert!(
        tried.stderr.starts_with("note: memory: needs "),
        "{}",
        tried.stderr
    );
    here.generate(&["--memory-limit", "much"])
        .fails(2, &["such as 6GB"]);
}

#[test]
fn inspect_estimates_memory() {
    let here = Workplace::new();
    let folder = checkpoint();
    let folder = folder.to_str().unwrap();
    let said = here.sana(&["inspect", folder]).quiet_success();
    for part in [
        "image of 1024x1024 on the CPU",
        "weights in f32",
        "weights in bf16",
        "decode in tiles",
        "one stage at a time",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let json = |options: &[&str]| {
        let arguments = [&["inspect", folder, "--json"], options].concat();
        let said = here.sana(&arguments).quiet_success();
        serde_json::from_str::<Value>(&said).unwrap()["memory_for_images"].clone()
    };
    let (own, small) = (json(&[]), json(&["--size", "512x64"]));
    assert_eq!(
        (&own["width"], &small["width"]),
        (&1024.into(), &512.into())
    );
    let bytes =
        |memory: &Value, dtype: usize, key: &str| memory["by_dtype"][dtype][key].as_u64().unwrap();
    assert_eq!(own["by_dtype"][0]["dtype"], "f32");
    for key in ["all_components", "one_stage", "one_stage_in_tiles"] {
        assert!(bytes(&own, 0, key) >= bytes(&small, 0, key));
        assert!(bytes(&own, 0, "all_components") > bytes(&own, 0, key) || key == "all_components");
    }
}
