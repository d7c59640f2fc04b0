//! A `tokenizer.json`, and texts through it.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code)]
#[path = "../../sana-pipeline/tests/pipeline/hostile/entry.rs"]
mod entry;

fuzz_target!(|bytes: &[u8]| {
    entry::tokenizer(bytes);
});
