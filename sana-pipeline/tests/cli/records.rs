//! What changes pixels is recorded, and holds when an image is made again.

use sana_pipeline::{Request, SanaPipeline};

use crate::support::{Workplace, checkpoint};

#[test]
fn how_bf16_is_multiplied() {
    let here = Workplace::new();
    here.generate(&["--dtype=bf16", "--widen-bf16", "--seed=3"])
        .quiet_success();
    assert_eq!(here.text("sana.png", "widen-bf16").as_deref(), Some("yes"));
    let said = here.sana(&["inspect", "sana.png"]).quiet_success();
    assert!(said.contains(" --widen-bf16"), "{said}");
    let said = here
        .sana(&["generate", "--from-image=sana.png"])
        .quiet_success();
    assert!(said.contains("--widen-bf16"), "{said}");
    assert_eq!(here.bytes("sana-again.png"), here.bytes("sana.png"));
    here.sana(&["generate", "--from-image=sana.png", "--without=widen-bf16"])
        .quiet_success();
    assert_eq!(here.text("sana-again.png", "widen-bf16"), None);
    here.generate(&["--dtype=bf16"]).quiet_success();
    assert_eq!(here.text("sana.png", "widen-bf16"), None);
}

/// Tiles that were chosen because memory was short are there again where it is not.
#[test]
fn decoding_in_tiles() {
    let here = Workplace::new();
    let pipeline = SanaPipeline::load(&checkpoint(), &burn::tensor::Device::flex()).unwrap();
    let request = Request::new("a red circle").size(1024, 768).steps(1);
    let request = request.instruction(sana_pipeline::request::InstructionChoice::None);
    let need = pipeline.memory_estimate(&request).unwrap();
    let limit = need
        .one_stage_at_a_time(true)
        .midpoint(need.one_stage_at_a_time(false));
    assert!(limit > need.one_stage_at_a_time(true));
    let generate = |options: &[&str]| {
        let usual = [
            "generate",
            "a red circle",
            "--size=1024x768",
            "--steps=1",
            "--seed=5",
            "--no-instruction",
        ];
        here.sana_on_fixture(&[&usual, options].concat())
    };
    let short = generate(&["--memory-limit", &limit.to_string()]);
    assert_eq!(short.code, Some(0), "{}", short.stderr);
    assert!(
        short.stderr.contains("decoding in tiles"),
        "{}",
        short.stderr
    );
    assert_eq!(here.text("sana.png", "low-memory").as_deref(), Some("yes"));
    here.sana(&["generate", "--from-image=sana.png", "--memory-limit=100GB"])
        .quiet_success();
    assert_eq!(here.bytes("sana-again.png"), here.bytes("sana.png"));
    generate(&["--memory-limit=100GB"]).quiet_success();
    assert_eq!(here.text("sana.png", "low-memory"), None);
}
