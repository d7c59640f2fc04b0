//! Files that may be anything. Whatever the bytes: no panic, no memory out of proportion to the
//! file, and an error that names it. docs/hostile-input.md lists the limits.
//!
//! The cases are drawn from a fixed seed, so a run repeats the one before; PROPTEST_RNG_SEED and
//! PROPTEST_CASES do not apply.

mod allocations;
mod checkpoints;
mod configs;
mod entry;
mod gguf;
mod images;
mod mutations;
mod tokenizers;

use std::path::PathBuf;

use proptest::test_runner::{Config, RngSeed};
use sana_linear_attn::parity::built_in_fixture_path;

/// A file of the crate's own checkpoint.
fn fixture(file: &str) -> PathBuf {
    built_in_fixture_path(env!("CARGO_MANIFEST_DIR"), "pipeline/sana").join(file)
}

/// The same cases in every run, and no files of failures.
fn cases(cases: u32) -> Config {
    Config {
        cases,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(0x5a4a),
        ..Config::default()
    }
}
