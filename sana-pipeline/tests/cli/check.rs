//! `sana inspect --check`.

use std::path::Path;

use sana_linear_attn::parity::edit_tensor_file;
use serde_json::Value;

use crate::support::Workplace;

/// Replaces the first two elements of a tensor of f32 by NaN and infinity.
fn spoil(path: &Path, tensor: &str) {
    edit_tensor_file(path, tensor, |index, value| match index {
        0 => f32::NAN,
        1 => f32::INFINITY,
        _ => value,
    });
}

#[test]
fn weights_that_are_not_finite_are_listed() {
    let here = Workplace::new();
    let folder = here.copied_checkpoint("mine");
    let said = here.sana(&["inspect", "mine", "--check"]).quiet_success();
    for part in ["text_encoder", "transformer", "vae", "all finite"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert!(!said.contains("NaN"), "{said}");

    let tensor = "transformer_blocks.1.ff.conv_depth.weight";
    let file = "transformer/diffusion_pytorch_model.safetensors";
    spoil(&folder.join(file), tensor);
    let outcome = here.sana(&["inspect", "mine", "--check"]);
    let line = format!("{tensor} (f32): 1 NaN and 1 infinite of ");
    assert!(outcome.stdout.contains(&line), "{}", outcome.stdout);
    outcome.fails(1, &["1 tensors of mine hold NaN or infinity"]);

    let outcome = here.sana(&["inspect", "mine", "--check", "--json"]);
    let json: Value = serde_json::from_str(&outcome.stdout).unwrap();
    outcome.fails(1, &["mine"]);
    let parts = json["parts"].as_array().unwrap();
    assert_eq!(parts.len(), 3);
    assert_eq!(parts[1]["part"], "transformer");
    assert_eq!(parts[1]["not_finite"][0]["name"], tensor);
    assert_eq!(parts[1]["not_finite"][0]["nan"], 1);
    assert!(parts[2]["not_finite"].as_array().unwrap().is_empty());
}

#[test]
fn only_checkpoints_are_checked() {
    let here = Workplace::new();
    std::fs::write(here.path("a.png"), "").unwrap();
    here.sana(&["inspect", "a.png", "--check"])
        .fails(1, &["checkpoint folder", "a.png is a file"]);
    here.sana(&["inspect", "none", "--check"])
        .fails(1, &["no folder none"]);
    // A component without files of the variant has its plain ones checked.
    let folder = here.copied_checkpoint("mine");
    let plain = folder.join("vae/diffusion_pytorch_model.safetensors");
    let named = folder.join("vae/diffusion_pytorch_model.fp16.safetensors");
    std::fs::copy(plain, named).unwrap();
    here.sana(&["inspect", "mine", "--variant", "fp16", "--check"])
        .quiet_success();
}
