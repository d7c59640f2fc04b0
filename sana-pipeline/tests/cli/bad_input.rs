use std::path::Path;

use crate::support::{Workplace, lora, sprint_checkpoint};

#[test]
fn folders_that_are_not_checkpoints() {
    let here = Workplace::new();
    let generate = |folder: &Path| here.sana_on(folder, &["generate", "a"]);
    generate(&here.path("none")).fails(1, &["no folder", "none"]);
    std::fs::create_dir(here.path("empty")).unwrap();
    generate(&here.path("empty")).fails(
        1,
        &[
            "empty",
            "not a checkpoint folder",
            "model_index.json",
            "text_encoder",
            "vae",
        ],
    );
    let folder = here.copied_checkpoint("torn");
    std::fs::remove_file(folder.join("vae/config.json")).unwrap();
    std::fs::remove_file(folder.join("tokenizer/tokenizer.json")).unwrap();
    generate(&folder).fails(1, &["torn", "vae/config.json", "tokenizer/tokenizer.json"]);
}

#[test]
fn weights_that_are_damaged() {
    let here = Workplace::new();
    let folder = here.copied_checkpoint("torn");
    let generate = || {
        here.sana_on(
            &folder,
            &["generate", "a", "--size", "32x32", "--steps", "1"],
        )
    };
    for file in [
        "text_encoder/model.safetensors",
        "transformer/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    ] {
        let path = folder.join(file);
        let bytes = std::fs::read(&path).unwrap();
        for cut in [bytes.len() - 1, 100, 0] {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            generate().fails(1, &[file, "not a valid safetensors file"]);
        }
        std::fs::remove_file(&path).unwrap();
        let (component, _) = file.split_once('/').unwrap();
        generate().fails(1, &["no weights in", component, "looked for"]);
        std::fs::write(&path, &bytes).unwrap();
    }
    generate().quiet_success();
    assert_eq!(here.files(), ["sana.png", "torn"]);
}

#[test]
fn weights_of_another_model() {
    let here = Workplace::new();
    let folder = here.copied_checkpoint("mixed");
    let config = folder.join("transformer/config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    let layers = |count: usize| {
        let changed = text.replace("\"num_layers\": 3", &format!("\"num_layers\": {count}"));
        assert_ne!(changed, text);
        std::fs::write(&config, changed).unwrap();
        here.sana_on(
            &folder,
            &["generate", "a", "--size", "32x32", "--steps", "1"],
        )
    };
    layers(4).fails(1, &["missing", "transformer_blocks.3.attn1.to_q.weight"]);
    layers(2).fails(1, &["unexpected", "transformer_blocks.2.attn1.to_q.weight"]);
    assert_eq!(here.files(), ["mixed"]);
}

#[test]
fn an_unknown_scheduler() {
    let here = Workplace::new();
    let folder = here.copied_checkpoint("other");
    let config = folder.join("scheduler/scheduler_config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        text.replace("DPMSolverMultistepScheduler", "DDIMScheduler"),
    )
    .unwrap();
    here.sana_on(&folder, &["generate", "a"]).fails(
        1,
        &[
            "DDIMScheduler",
            "DPMSolverMultistepScheduler",
            "SCMScheduler",
        ],
    );
}

#[test]
fn numbers_out_of_range() {
    let here = Workplace::new();
    let generate = |options: &[&str]| here.sana_on_fixture(&[&["generate", "a"], options].concat());
    generate(&["--size", "100x100"]).fails(1, &["100x100", "multiples of 32", "96x96"]);
    generate(&["--size", "0x0"]).fails(1, &["0x0", "multiples of 32", "32x32"]);
    generate(&["--size", "64x"]).fails(2, &["64x", "WIDTHxHEIGHT"]);
    generate(&["--size", "99999999999x32"]).fails(1, &["99999999999x32", "16384"]);
    generate(&["--steps", "0"]).fails(2, &["0", "--steps", "1..=10000"]);
    generate(&["--steps", "99999999999"]).fails(2, &["--steps", "1..=10000"]);
    generate(&["--steps", "many"]).fails(2, &["many", "--steps"]);
    generate(&["--guidance", "NaN"]).fails(1, &["guidance", "NaN"]);
    generate(&["--guidance", "inf"]).fails(1, &["guidance", "inf"]);
    generate(&["--guidance", "-1"]).fails(1, &["guidance", "-1"]);
    generate(&["--guidance-interval", "0.9..0.2"]).fails(2, &["--guidance-interval", "0.9"]);
    generate(&["--guidance-interval", "0.9"]).fails(2, &["--guidance-interval", "FROM..TO"]);
    generate(&["--pag", "NaN"]).fails(1, &["perturbed attention", "NaN"]);
    generate(&["--pag", "-1"]).fails(1, &["perturbed attention", "-1"]);
    generate(&["--pag", "2", "--pag-layers", "1,3"]).fails(1, &["block 3", "has 3, 0 to 2"]);
    generate(&["--pag", "2", "--pag-layers", ""]).fails(2, &["--pag-layers"]);
    generate(&["--pag-layers", "1"]).fails(2, &["--pag <SCALE>"]);
    generate(&["--apg", "--apg-eta", "-1"]).fails(1, &["eta", "-1"]);
    generate(&["--apg", "--apg-norm", "0"]).fails(1, &["norm", "0"]);
    generate(&["--apg", "--apg-momentum", "1"]).fails(1, &["momentum", "1"]);
    generate(&["--apg-eta", "1"]).fails(2, &["--apg"]);
    generate(&["--seed", "-1"]).fails(2, &["--seed"]);
    generate(&["--count", "0"]).fails(2, &["0", "--count", "1..=10000"]);
    generate(&["--solver", "ddim"]).fails(2, &["ddim", "flow-dpm, flow-euler, scm"]);
    generate(&["--solver", "scm"]).fails(1, &["scm", "flow-dpm or flow-euler"]);
    assert!(here.files().is_empty());
}

#[test]
fn guidance_that_sprint_does_not_have() {
    let here = Workplace::new();
    let cases: [&[&str]; 3] = [
        &["--pag", "2"],
        &["--apg"],
        &["--guidance-interval", "0..0.5"],
    ];
    for options in cases {
        here.sana_on(
            &sprint_checkpoint(),
            &[&["generate", "a"], options].concat(),
        )
        .fails(1, &["guidance", "Sana-Sprint"]);
    }
}

#[test]
fn loras_that_do_not_fit() {
    let here = Workplace::new();
    let generate = |options: &[&str]| here.sana_on_fixture(&[&["generate", "a"], options].concat());
    generate(&["--lora", "no/style.safetensors:0.5"])
        .fails(1, &["cannot access no/style.safetensors:"]);
    generate(&["--lora", &format!("{}:inf", lora())]).fails(2, &["--lora", "finite", "inf"]);
    generate(&["--lora-unmerged"]).fails(2, &["--lora"]);
    let weights = "transformer/diffusion_pytorch_model.safetensors";
    let weights = sprint_checkpoint().join(weights);
    generate(&["--verbose", "--lora", weights.to_str().unwrap()]).fails(
        1,
        &[
            "does not fit the transformer",
            "unexpected",
            "proj_out.weight",
        ],
    );
    here.sana_on_fixture(&["evaluate", "--lora", "no/style.safetensors"])
        .fails(1, &["cannot access no/style.safetensors"]);
    here.sana_on_fixture(&["evaluate", "--autoencoder", "--lora", "a"])
        .fails(2, &["--autoencoder", "--lora"]);
    assert!(here.files().is_empty());
}

#[test]
fn prompts_that_are_empty() {
    let here = Workplace::new();
    for prompt in ["", "  \n"] {
        here.sana_on_fixture(&["generate", prompt])
            .fails(1, &["the prompt is empty"]);
    }
    here.sana_on_fixture(&["generate"]).fails(2, &["PROMPT"]);
}

/// The path is checked before the model, which here is not even there.
#[test]
fn output_that_cannot_be_written() {
    let here = Workplace::new();
    let none = here.path("no-model");
    let with_out =
        |command: &[&str], out: &str| here.sana_on(&none, &[command, &["--out", out]].concat());
    let generate = ["generate", "a"];
    with_out(&generate, "no/folder/a.png").fails(1, &["cannot write", "no/folder/a.png"]);
    with_out(&generate, "a.gif").fails(1, &["must end in .png", "a.gif"]);
    with_out(&[&generate[..], &["--count", "2"]].concat(), "no/a.png")
        .fails(1, &["cannot write", "no/a-0.png"]);
    with_out(&["encode", "a.png"], "no/a.safetensors")
        .fails(1, &["cannot write", "no/a.safetensors"]);
    std::fs::create_dir(here.path("folder.png")).unwrap();
    with_out(&generate, "folder.png").fails(1, &["cannot write", "folder.png"]);
    assert_eq!(here.files(), ["folder.png"]);
}

#[test]
fn no_command_or_an_unknown_one() {
    let here = Workplace::new();
    let outcome = here.sana(&[]);
    assert_eq!(outcome.code, Some(2));
    assert!(outcome.stderr.contains("Usage: sana"), "{}", outcome.stderr);
    here.sana(&["draw"]).fails(2, &["draw", "Usage"]);
    here.sana(&["generate", "a", "--colour"])
        .fails(2, &["--colour", "Usage"]);
}

#[cfg(not(feature = "scenes-model"))]
#[test]
fn a_build_without_a_model() {
    let here = Workplace::new();
    here.sana(&["generate", "a"])
        .fails(1, &["--model", "cargo feature scenes-model"]);
}
