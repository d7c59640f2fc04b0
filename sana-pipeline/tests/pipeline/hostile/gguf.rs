//! GGUF files.

use std::fs;

use proptest::prelude::*;
use sana_linear_attn::parity::built_in_fixture_path;

use super::allocations::peak_of;
use super::mutations::{edited, edits};
use super::{cases, entry};

/// Memory for each byte of a file: the copy that it is in, and f32 for at most four elements, before and after they are
/// put in their place.
const PER_BYTE: usize = 36;
const CONSTANT: usize = 64 << 10;

fn bounded(bytes: &[u8]) -> bool {
    let (accepted, peak) = peak_of(|| entry::gguf(bytes));
    let bound = PER_BYTE * bytes.len() + CONSTANT;
    assert!(peak <= bound, "{peak} bytes for a file of {}", bytes.len());
    accepted
}

fn file() -> Vec<u8> {
    let path = built_in_fixture_path(env!("CARGO_MANIFEST_DIR"), "quantized/gguf.gguf");
    fs::read(path).unwrap()
}

#[test]
fn the_file_that_is_changed_is_right() {
    assert!(bounded(&file()));
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        bounded(&[b"GGUF\x03\0\0\0", &bytes[..]].concat());
    }

    #[test]
    fn a_file_with_changes(edits in edits()) {
        let bytes = edited(&file(), &edits);
        if bytes.starts_with(b"GGUF") {
            bounded(&bytes);
        }
    }
}
