//! A GGUF file, with every tensor in it.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code)]
#[path = "../../sana-pipeline/tests/pipeline/hostile/entry.rs"]
mod entry;

fuzz_target!(|bytes: &[u8]| {
    // Anything else is another target's.
    if bytes.starts_with(b"GGUF") {
        entry::gguf(bytes);
    }
});
