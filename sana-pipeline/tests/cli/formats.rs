//! Images as JPEG and WebP, with what they record.

use sana_pipeline::image::{RgbImage, psnr, save};

use crate::support::Workplace;

#[test]
fn jpeg_and_webp_hold_what_png_holds() {
    let here = Workplace::new();
    let options = ["--seed=3", "--negative=\u{fc}ber alles 'x'"];
    for out in ["a.png", "a.jpg", "a.jpeg", "a.WEBP"] {
        let out = format!("--out={out}");
        here.generate(&[&options[..], &[&out]].concat())
            .quiet_success();
    }
    let inspected = |name: &str| here.sana(&["inspect", name]).quiet_success();
    let expected = inspected("a.png");
    assert!(expected.contains("sana generate 'a red circle' --"));
    for name in ["a.jpg", "a.jpeg", "a.WEBP"] {
        assert_eq!(inspected(name), expected, "{name}");
    }
    assert_eq!(here.image("a.WEBP"), here.image("a.png"));
    let decibels = psnr(&here.image("a.jpg"), &here.image("a.png")).unwrap();
    assert!(decibels > 30.0, "{decibels}");

    // Each makes itself again, to the last byte.
    for (name, again) in [("a.jpg", "a-again.jpg"), ("a.WEBP", "a-again.WEBP")] {
        here.sana(&["generate", "--from-image", name])
            .quiet_success();
        assert!(here.bytes(again) == here.bytes(name), "{name}");
    }
    let other = ["generate", "--from-image=a.jpg", "--out=b.png"];
    here.sana(&other).quiet_success();
    assert!(here.bytes("b.png") == here.bytes("a.png"));
}

#[test]
fn several_images_grids_and_latents() {
    let here = Workplace::new();
    here.generate(&["--seed=0", "--count=2", "--out=a.jpg", "--grid"])
        .quiet_success();
    assert_eq!(here.files(), ["a-0.jpg", "a-1.jpg", "a-grid.jpg"]);
    assert_eq!(here.text("a-1.jpg", "seed").as_deref(), Some("1"));
    assert!(here.bytes("a-grid.jpg").starts_with(b"\xff\xd8"));

    let image = RgbImage::from_fn(64, 32, |x, y| image::Rgb([x as u8, y as u8, 90]));
    save(&here.path("p.webp"), &image, &[]).unwrap();
    here.sana_on_fixture(&["encode", "p.webp"]).quiet_success();
    let decode = ["decode", "latents.safetensors", "--out=d.webp"];
    here.sana_on_fixture(&decode).quiet_success();
    assert!(here.bytes("d.webp").starts_with(b"RIFF"));
    for out in ["d.gif", "d", "d.avif"] {
        let decode = ["decode", "latents.safetensors", "--model=none", "--out"];
        here.sana(&[&decode[..], &[out]].concat())
            .fails(1, &[".png, .jpg, .jpeg or .webp", out]);
    }
}

#[test]
fn a_folder_of_one_format() {
    let here = Workplace::new();
    std::fs::write(here.path("p.txt"), "a red circle\na blue square").unwrap();
    let run = |options: &[&str]| {
        let usual = ["generate", "--prompts=p.txt", "--size=64", "--steps=2"];
        here.sana_on_fixture(&[&usual[..], options].concat())
    };
    let webp = ["--format=webp", "--grid=g.jpeg"];
    run(&webp).quiet_success();
    let names = ["0001-a-red-circle.webp", "0002-a-blue-square.webp"];
    let found = here.files_in("images");
    assert_eq!(found, names);
    assert!(here.bytes("g.jpeg").starts_with(b"\xff\xd8"));
    assert!(
        here.bytes("images/0001-a-red-circle.webp")
            .starts_with(b"RIFF")
    );
    assert!(
        run(&webp)
            .quiet_success()
            .contains("skipped 2 that existed")
    );
    let other = run(&["--format=webp", "--guidance=3"]);
    let warning = format!("images/{} was made with another guidance", names[0]);
    assert!(other.stderr.contains(&warning), "{}", other.stderr);
    run(&["--out=x.jpg"]).fails(1, &["--out is a folder", "x.jpg"]);
    here.sana(&["generate", "a", "--format=jpeg"])
        .fails(2, &["--format"]);
}

#[cfg(feature = "scenes-model")]
#[test]
fn options_without_effect_are_said() {
    let here = Workplace::new();
    let usual = ["generate", "a", "--seed=1", "--steps=1", "--device=flex"];
    let run = |options: &[&str]| here.sana(&[&usual[..], options].concat()).quiet_success();
    let said = run(&["--background=black", "--negative=b", "--guidance=1"]);
    for note in [
        "note: --background has no effect",
        "note: the negative prompt has no effect: a guidance scale of 1 is no guidance",
    ] {
        assert!(said.contains(note), "no {note:?} in {said}");
    }
    let said = run(&["--negative=b"]);
    let note = "note: the built-in model was not trained with negative prompts";
    assert!(said.contains(note), "{said}");
    assert!(!run(&[]).contains("note:"));
}

/// The EXIF of a JPEG has 64 KiB: said before the model is read.
#[test]
fn a_record_that_does_not_fit() {
    let here = Workplace::new();
    let long = "a ".repeat(40_000);
    let run = |out: &str, options: &[&str]| {
        let usual = ["generate", &long, "--steps=1", "--size=64", "--out", out];
        here.sana_on_fixture(&[&usual[..], options].concat())
    };
    run("a.jpg", &[]).fails(1, &["bytes of text do not fit", "65527"]);
    assert!(here.files().is_empty());
    std::fs::write(here.path("p.txt"), format!("a\n{long}")).unwrap();
    let prompts = ["generate", "--prompts=p.txt", "--steps=1", "--size=64"];
    here.sana_on_fixture(&[&prompts[..], &["--format=jpeg"]].concat())
        .fails(1, &["line 2", "65527"]);
    assert!(here.files_in("images").is_empty());
}
