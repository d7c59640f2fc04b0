//! What is refused before the work: memory, lengths and scales.

use std::io::Write;

use burn::tensor::Device;
use sana_pipeline::image::{LARGEST_TEXT, RgbImage, save_png};
use sana_pipeline::memory::MemoryEstimate;
use sana_pipeline::{Request, SanaPipeline};

use crate::support::{Outcome, Workplace, checkpoint, lora};

fn estimate(request: &Request) -> MemoryEstimate {
    let pipeline = SanaPipeline::load(&checkpoint(), &Device::flex()).unwrap();
    pipeline.memory_estimate(request).unwrap()
}

#[test]
fn sizes_after_a_bucket_count() {
    let here = Workplace::new();
    let huge = estimate(&Request::new("a").bucketed_size(16384, 16384));
    // The image in bytes, and the tensor that it is made of.
    let pixels = 16384 * 16384 * 3;
    assert!(huge.one_stage_at_a_time(true) > 5 * pixels);
    let options = ["--bucket", "--size=16384", "--memory-limit=2GB"];
    let arguments = [&["generate", "a"], &options[..]].concat();
    here.sana_on_fixture(&arguments)
        .fails(1, &["needs ", "2.00 GB free"]);
    assert!(here.files().is_empty());
}

#[test]
fn encoding_is_refused_before_the_work() {
    let here = Workplace::new();
    save_png(&here.path("in.png"), &RgbImage::new(1024, 1024), &[]).unwrap();
    for command in [
        &["encode", "in.png"][..],
        &["encode", "in.png", "--low-memory"],
    ] {
        let arguments = [command, &["--memory-limit=70MB"]].concat();
        let outcome = here.sana_on_fixture(&arguments);
        outcome.fails(1, &["needs ", "70.00 MB free"]);
        for other in ["--size", "--count", "--batch", "a size of"] {
            assert!(
                !outcome.stderr.contains(other),
                "{other} in {}",
                outcome.stderr
            );
        }
    }
    assert_eq!(here.files(), ["in.png"]);
    here.sana_on_fixture(&["encode", "in.png"]).quiet_success();
    let outcome = here.sana_on_fixture(&["decode", "latents.safetensors", "--memory-limit=70MB"]);
    outcome.fails(1, &["needs ", "70.00 MB free"]);
    assert!(!outcome.stderr.contains("--size"), "{}", outcome.stderr);
}

/// A record may come from anybody, and says which size and which images.
#[test]
fn sizes_of_records_are_refused_before_images_are_fitted() {
    let here = Workplace::new();
    save_png(&here.path("a.png"), &RgbImage::new(32, 32), &[]).unwrap();
    let record = [
        ("prompt", "a"),
        ("size", "16384x16384"),
        ("image", "a.png"),
        ("mask", "a.png"),
        ("Software", "sana 0.1.0"),
    ];
    save_png(&here.path("b.png"), &RgbImage::new(32, 32), &record).unwrap();
    here.sana_on_fixture(&["generate", "--from-image=b.png", "--memory-limit=1GB"])
        .fails(1, &["needs ", "1.00 GB free"]);
    // So may the header of an image: 13 bytes that claim 16384 by 16384.
    let mut png = here.bytes("a.png");
    png[16..24].copy_from_slice(&[0, 0, 64, 0, 0, 0, 64, 0]);
    let checksum = crc(&png[12..29]);
    png[29..33].copy_from_slice(&checksum.to_be_bytes());
    std::fs::write(here.path("claims.png"), png).unwrap();
    for arguments in [
        &["generate", "a", "--image=claims.png"][..],
        &["encode", "claims.png"],
    ] {
        here.sana_on_fixture(arguments)
            .fails(1, &["claims.png", "16384x16384 pixels; at most"]);
    }
}

/// CRC-32 as PNG has it.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[test]
#[cfg(feature = "scenes-model")]
fn evaluation_says_which_batch_fits() {
    let here = Workplace::new();
    let pipeline = SanaPipeline::built_in(&Device::flex()).unwrap();
    let need = |prompts: usize| {
        let request = Request::batch(vec!["a red circle"; prompts]).steps(1);
        let estimate = pipeline.memory_estimate(&request).unwrap();
        estimate.one_stage_at_a_time(true)
    };
    let limit = need(20) + (need(21) - need(20)) / 2;
    let outcome = here.sana(&[
        "evaluate",
        "--prompts=10",
        "--batch=60",
        "--steps=1",
        "--device=flex",
        "--memory-limit",
        &limit.to_string(),
    ]);
    outcome.fails(1, &["needs ", "it fits with", "--batch 20"]);
    for other in ["--count", "--size"] {
        assert!(
            !outcome.stderr.contains(other),
            "{other} in {}",
            outcome.stderr
        );
    }
}

#[test]
#[cfg(target_os = "linux")]
fn address_space_is_memory() {
    let here = Workplace::new();
    let script = "ulimit -v 1200000 && exec \"$0\" \"$@\"";
    let output = std::process::Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_sana")])
        .args(["generate", "a", "--size=16384", "--device=flex", "--model"])
        .arg(checkpoint())
        .current_dir(here.path(""))
        .output()
        .unwrap();
    let outcome = Outcome::from(output);
    outcome.fails(1, &["needs ", " MB free"]);
    assert!(here.files().is_empty());
}

#[test]
fn scales_are_not_blamed_on_the_dtype() {
    let here = Workplace::new();
    let lora = format!("{}:1e38", lora());
    for (options, scale) in [
        (&["--guidance=1e38"][..], "guidance of scale 1e38"),
        (
            &["--pag=1e38"],
            "perturbed attention guidance of scale 1e38",
        ),
        (&["--lora", &lora], "of scale 1e38"),
    ] {
        let outcome = here.generate(options);
        outcome.fails(
            1,
            &[
                "not finite, with ",
                scale,
                "take a smaller scale",
                "below 20",
            ],
        );
        assert!(!outcome.stderr.contains("dtype"), "{}", outcome.stderr);
    }
    assert!(here.files().is_empty());
}

#[test]
fn prompts_have_one_limit() {
    let here = Workplace::new();
    let prompt = |bytes: usize| {
        let words = "a red circle, ".repeat(bytes / 14 + 1);
        format!("{}.", &words[..bytes - 1])
    };
    let draw = |text: &str| {
        std::fs::write(here.path("prompts.txt"), text).unwrap();
        let options = ["--prompts=prompts.txt", "--size=32", "--steps=1"];
        here.sana_on_fixture(&[&["generate"], &options[..]].concat())
    };
    let too_long = format!("a\n{}\n", prompt(LARGEST_TEXT + 1));
    draw(&too_long).fails(
        1,
        &["line 2: the prompt has 1048577 bytes; at most 1048576"],
    );
    assert_eq!(here.files(), ["prompts.txt"]);

    let longest = prompt(LARGEST_TEXT);
    let outcome = draw(&longest);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let name = &here.files_in("images")[0];
    let image = format!("images/{name}");
    assert_eq!(here.text(&image, "prompt"), Some(longest));
    here.sana(&["inspect", &image]).quiet_success();
    // It is skipped the next time, and made again from its record.
    let outcome = draw(&prompt(LARGEST_TEXT));
    assert!(outcome.stdout.contains("skipped 1"), "{}", outcome.stdout);
    let again = here.sana(&["generate", "--from-image", &image, "--out=again.png"]);
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert_eq!(here.bytes("again.png"), here.bytes(&image));

    let text = "a".repeat(LARGEST_TEXT + 1);
    let error = save_png(
        &here.path("c.png"),
        &RgbImage::new(1, 1),
        &[("prompt", &text)],
    );
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("holds 1048576 at most")
    );
}

/// What this user may not look into is neither "not there" nor "not a checkpoint".
#[test]
#[cfg(unix)]
fn folders_that_may_not_be_read() {
    use std::os::unix::fs::PermissionsExt;

    let here = Workplace::new();
    let folder = here.copied_checkpoint("mine");
    let permit = |mode| {
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    permit(0o000);
    if std::fs::read_dir(&folder).is_err() {
        for arguments in [
            &["inspect", "mine"][..],
            &["generate", "a", "--model=mine", "--device=flex"],
            &["init", "--controlnet-from=mine", "--out=new"],
        ] {
            let outcome = here.sana(arguments);
            outcome.fails(1, &["cannot access mine", "ermission denied"]);
            assert!(
                !outcome.stderr.contains("not a checkpoint"),
                "{}",
                outcome.stderr
            );
        }
    } else {
        // Past the harness, which shows nothing of tests that pass.
        let _ = writeln!(
            std::io::stderr(),
            "folders_that_may_not_be_read is skipped: this user may read everything"
        );
    }
    permit(0o755);
}
