//! The configs of the transformer, the autoencoder, the text encoder and the scheduler.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code)]
#[path = "../../sana-pipeline/tests/pipeline/hostile/entry.rs"]
mod entry;

fuzz_target!(|bytes: &[u8]| {
    entry::config(bytes);
});
