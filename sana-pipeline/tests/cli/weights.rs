//! Weight files as people have them: `sana inspect`, `sana convert`, variants.

use std::fs;
use std::path::Path;

use sana_linear_attn::Weights;
use sana_linear_attn::parity::write_original;
use serde_json::Value;

use crate::support::{Workplace, checkpoint, lora};

const TRANSFORMER: &str = "transformer/diffusion_pytorch_model.safetensors";

/// Changes the header of a safetensors file in place, to a text of the same length.
fn edit_header(path: &Path, from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let mut bytes = fs::read(path).unwrap();
    let mut found = 0;
    for at in 0..bytes.len() - from.len() {
        if bytes[at..].starts_with(from.as_bytes()) {
            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
            found += 1;
        }
    }
    assert!(found > 0, "{from} in {}", path.display());
    fs::write(path, bytes).unwrap();
}

/// `inspect`, `inspect --check` and `generate` say the same, before any work.
#[test]
fn what_does_not_fit_is_said_by_all_commands() {
    let here = Workplace::new();
    let folder = here.copied_checkpoint("mine");
    edit_header(&folder.join(TRANSFORMER), ".attn2.to_q.", ".attn2.to_x.");
    let names = "transformer_blocks.1.attn2.to_q.weight";
    let inspected = here.sana(&["inspect", "mine"]);
    assert!(
        inspected.stdout.contains("transformer   does not fit: "),
        "{}",
        inspected.stdout
    );
    assert!(inspected.stdout.contains(names), "{}", inspected.stdout);
    inspected.fails(1, &["mine does not fit: transformer"]);
    let json = here.sana(&["inspect", "mine", "--json"]);
    json.fails(1, &[]);
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["misfits"][0]["part"], "transformer");
    let reason = json["misfits"][0]["reason"].as_str().unwrap();

    let checked = here.sana(&["inspect", "mine", "--check"]);
    assert!(checked.stdout.contains(reason), "{}", checked.stdout);
    checked.fails(1, &["mine does not fit: transformer"]);

    let refused = here.sana_on(&folder, &["generate", "a", "--verbose"]);
    refused.fails(1, &["does not fit the model; missing "]);
    assert_eq!(
        refused.stderr,
        format!("error: {}\n", absolute(reason, &folder))
    );
    let short = here.sana_on(&folder, &["generate", "a"]);
    short.fails(1, &[" more; unexpected ", "--verbose"]);
    assert!(short.stderr.len() < refused.stderr.len());
    assert_eq!(here.files(), ["mine"]);
}

/// The reason with the path of the folder that `generate` was given.
fn absolute(reason: &str, folder: &Path) -> String {
    reason.replacen("mine", folder.to_str().unwrap(), 1)
}

#[test]
fn a_lora_is_inspected_with_its_model() {
    let here = Workplace::new();
    let model = checkpoint();
    let model = model.to_str().unwrap();
    let lora = lora();
    here.sana(&["inspect", model, "--lora", &lora])
        .quiet_success();
    let said = here
        .sana(&["inspect", model, "--check", "--lora", &lora])
        .quiet_success();
    assert!(said.contains("\nlora "), "{said}");
    fs::copy(&lora, here.path("other.safetensors")).unwrap();
    edit_header(&here.path("other.safetensors"), "_blocks.0.", "_blocks.7.");
    for check in [&[][..], &["--check"]] {
        let arguments = ["inspect", model, "--lora", "other.safetensors"];
        let outcome = here.sana(&[&arguments, check].concat());
        let stdout = &outcome.stdout;
        assert!(stdout.contains("lora          does not fit: "), "{stdout}");
        assert!(stdout.contains("transformer_blocks.7."), "{stdout}");
        outcome.fails(1, &["does not fit: lora"]);
    }
}

#[test]
fn sizes_are_refused_as_in_generate() {
    let here = Workplace::new();
    let inspected = here.sana(&["inspect", checkpoint().to_str().unwrap(), "--size", "33"]);
    let generated = here.sana_on_fixture(&["generate", "a", "--size", "33"]);
    inspected.fails(1, &["size 33x33: width and height must be multiples of 32"]);
    assert_eq!(inspected.stderr, generated.stderr);
}

#[test]
fn variants_are_named_with_their_flag() {
    let here = Workplace::new();
    let folder = here.copied_checkpoint("mine");
    let typo = ["generate", "a", "--variant", "typo"];
    here.sana_on(&folder, &typo)
        .fails(1, &["\"typo\"", "leave out --variant"]);
    let vae = |name: &str| folder.join(format!("vae/diffusion_pytorch_model{name}.safetensors"));
    fs::copy(vae(""), vae(".fp16")).unwrap();
    fs::rename(vae(""), vae(".bf16")).unwrap();
    here.sana_on(&folder, &["generate", "a"])
        .fails(1, &["bf16, fp16", "--variant bf16 or --variant fp16"]);
    here.sana(&["inspect", "mine", "--variant", "typo"])
        .fails(1, &["\"typo\"", "--variant bf16", "leave it out"]);
    here.sana(&["inspect", "mine", "--variant", "fp16"])
        .quiet_success();
}

#[test]
fn convert_there_and_back() {
    let here = Workplace::new();
    let model = checkpoint();
    let weights = Weights::open_file(&model.join(TRANSFORMER)).unwrap();
    write_original(&weights, &here.path("theirs.safetensors"), "state_dict.");
    let config = model.join("transformer/config.json");
    let to_folder = [
        "convert",
        "theirs.safetensors",
        "--out",
        "ours",
        "--config",
        config.to_str().unwrap(),
    ];
    let said = here.sana(&to_folder).quiet_success();
    assert_eq!(said, "wrote ours\n");
    assert_eq!(
        here.files_in("ours"),
        ["config.json", "diffusion_pytorch_model.safetensors"]
    );
    let converted = here.path("ours/diffusion_pytorch_model.safetensors");
    let converted = Weights::open_file(&converted).unwrap();
    assert!(converted.names().eq(weights.names()));
    for name in weights.names() {
        assert_eq!(converted.bytes(name), weights.bytes(name), "{name}");
    }
    here.sana(&to_folder).fails(1, &["ours exists already"]);

    let back = [
        "convert",
        "ours",
        "--to",
        "original",
        "--out",
        "again.safetensors",
    ];
    here.sana(&back).quiet_success();
    let [again, theirs] = ["again.safetensors", "theirs.safetensors"]
        .map(|name| Weights::open_file(&here.path(name)).unwrap());
    for name in again.names() {
        let stored = format!("state_dict.{name}");
        assert_eq!(again.bytes(name), theirs.bytes(&stored), "{name}");
    }
    here.sana(&back)
        .fails(1, &["again.safetensors exists already"]);

    let generate = |options: &[&str]| {
        let out = ["--seed", "1", "--out"];
        here.generate(&[&out, options].concat())
    };
    generate(&["a.png"]);
    generate(&["b.png", "--transformer", "ours"]);
    generate(&["c.png", "--transformer", "again.safetensors"]);
    assert_eq!(here.image("a.png"), here.image("b.png"));
    assert_eq!(here.image("a.png"), here.image("c.png"));
}

#[test]
fn convert_names_what_it_cannot_read() {
    let here = Workplace::new();
    fs::write(here.path("page.pth"), "<!DOCTYPE html><html>log in</html>").unwrap();
    let convert = |from: &str| here.sana(&["convert", from, "--out", "out"]);
    convert("page.pth").fails(1, &["page.pth is a web page"]);
    convert("none.pth").fails(1, &["none.pth"]);
    let vae = checkpoint().join("vae");
    convert(vae.to_str().unwrap()).fails(1, &["patch_embed"]);
    assert_eq!(here.files(), ["page.pth"]);
}
