//! `sana generate --hires`.

use sana_pipeline::image::{fit, psnr};

use crate::support::{Workplace, sprint_checkpoint};

#[test]
fn a_second_pass_makes_it_larger() {
    let here = Workplace::new();
    here.generate(&["--seed=3", "--out=small.png"])
        .quiet_success();
    let said = here
        .generate(&[
            "--seed=3",
            "--hires=1.5",
            "--hires-strength=0.5",
            "--count=2",
        ])
        .quiet_success();
    for stage in ["denoise ", "encode 2", "denoise 2", "decode 2"] {
        assert!(said.contains(stage), "{stage} in {said}");
    }
    let large = here.image("sana-0.png");
    // 144 and 96, of which 144 is no multiple of 32: 160 is the nearest.
    assert_eq!(large.dimensions(), (160, 96));
    for (key, value) in [
        ("size", "96x64"),
        ("hires", "1.5"),
        ("hires-strength", "0.5"),
        ("steps", "2"),
    ] {
        assert_eq!(
            here.text("sana-0.png", key).as_deref(),
            Some(value),
            "{key}"
        );
    }
    let others = here.text("sana-0.png", "parameters").unwrap();
    let fields = "Size: 96x64, Model: sana, Denoising strength: 0.5, Hires upscale: 1.5, Version: ";
    assert!(others.contains(fields), "{others}");
    // It is image to image of the small one, enlarged, with the same seed.
    let options = [
        "--seed=3",
        "--image=small.png",
        "--strength=0.5",
        "--out=by-hand.png",
    ];
    let by_hand = [
        &["generate", "a red circle", "--size=160x96", "--steps=2"],
        &options[..],
    ]
    .concat();
    here.sana_on_fixture(&by_hand).quiet_success();
    let close = psnr(&large, &here.image("by-hand.png")).unwrap();
    // But for the order of sums of two images made together.
    assert!(close > 60.0, "{close}");
    let other = psnr(&large, &fit(&here.image("small.png"), 160, 96)).unwrap();
    assert!(other < 40.0, "{other}");
    // Made again from what it records.
    here.sana(&["generate", "--from-image=sana-1.png"])
        .quiet_success();
    let again = psnr(&here.image("sana-1-again.png"), &here.image("sana-1.png")).unwrap();
    assert!(again > 60.0, "{again}");
}

#[test]
fn where_there_is_no_second_pass() {
    let here = Workplace::new();
    for (options, code, expected) in [
        (&["--hires=1"][..], 1, "above 1 and at most 8, found 1"),
        (&["--hires=9"], 1, "at most 8"),
        (&["--hires=nan"], 1, "above 1"),
        (&["--hires=2", "--hires-strength=0"], 1, "strength"),
        (&["--hires-strength=0.5"], 2, "--hires"),
        (&["--hires=2", "--bucket"], 2, "--bucket"),
        (&["--hires=2", "--image=a.png", "--mask=b.png"], 2, "--mask"),
        (&["--hires=1.5", "--memory-limit=1MB"], 1, "memory"),
    ] {
        here.generate(options).fails(code, &[expected]);
    }
    assert!(here.files().is_empty(), "{:?}", here.files());
}

/// One of two steps is left to the second pass.
#[test]
fn of_a_consistency_model() {
    let here = Workplace::new();
    let arguments = [
        "generate",
        "a red circle",
        "--size=64",
        "--hires=1.5",
        "--json",
    ];
    let run = here.sana_on(&sprint_checkpoint(), &arguments);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let steps: Vec<&str> = run
        .stdout
        .lines()
        .filter(|line| line.contains("\"step\""))
        .collect();
    assert_eq!(steps.len(), 3, "{}", run.stdout);
    assert!(
        steps[2].contains("\"step\":1,\"steps\":1,\"pass\":2,\"passes\":2"),
        "{}",
        steps[2]
    );
    assert_eq!(here.image("sana.png").dimensions(), (96, 96));
}
