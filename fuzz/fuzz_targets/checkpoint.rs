//! A safetensors file as weights and as a LoRA, or, where the bytes begin with `{`, a list of
//! shards in a folder that holds none.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

#[allow(dead_code)]
#[path = "../../sana-pipeline/tests/pipeline/hostile/entry.rs"]
mod entry;

static FOLDER: LazyLock<TempDir> =
    LazyLock::new(|| tempfile::tempdir().expect("a temporary folder"));

fuzz_target!(|bytes: &[u8]| {
    if bytes.first() == Some(&b'{') {
        let found = entry::index(FOLDER.path(), bytes);
        assert_eq!(found, None, "there is nothing in the folder to find");
    } else {
        entry::safetensors(bytes);
    }
});
