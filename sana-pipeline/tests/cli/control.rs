use std::path::PathBuf;

use sana_linear_attn::parity::built_in_fixture_path;
use sana_pipeline::image::{Canny, edges};
use sana_pipeline::image::{RgbImage, fit, read_text, save_png};
use serde_json::Value;

use crate::support::{Workplace, checkpoint, sprint_checkpoint};

/// The ControlNet of the crate's own fixtures, for [`checkpoint`].
fn controlnet() -> String {
    let folder: PathBuf =
        built_in_fixture_path(env!("CARGO_MANIFEST_DIR"), "pipeline/controlnet/controlnet");
    folder.into_os_string().into_string().unwrap()
}

/// A workplace with `photo.png`, a bright square on dark, larger than the images to be made.
fn workplace() -> Workplace {
    let here = Workplace::new();
    let photo = RgbImage::from_fn(240, 160, |x, y| {
        let inside = (60..150).contains(&x) && (40..110).contains(&y);
        if inside { [230, 200, 40] } else { [20, 30, 60] }.into()
    });
    save_png(&here.path("photo.png"), &photo, &[]).unwrap();
    here
}

#[test]
fn control_changes_the_image_and_is_repeated() {
    let here = workplace();
    let folder = controlnet();
    here.generate(&["--seed", "1", "--out", "plain.png"])
        .quiet_success();
    let control = ["--control", "photo.png", "--controlnet", &folder];
    let with = |options: &[&str]| {
        let all = [&["--seed", "1"][..], &control, options].concat();
        let said = here.generate(&all).quiet_success();
        (here.image("sana.png"), said)
    };
    let plain = here.image("plain.png");
    let (made, said) = with(&[]);
    assert!(said.contains("\ncontrol "), "{said}");
    assert_ne!(made, plain);
    assert_ne!(with(&["--control-scale", "0.5"]).0, made);
    assert_ne!(with(&["--control-interval", "0..0.5"]).0, made);
    assert_eq!(with(&["--low-memory"]).0, made);
    let (none, said) = with(&["--control-scale", "0"]);
    assert_eq!(none, plain);
    assert!(!said.contains("\ncontrol "), "{said}");

    let save = ["--control-from", "edges", "--control-save", "lines.png"];
    let more = ["--control-scale", "0.8", "--control-interval", "0..0.5"];
    let (made, said) = with(&[&save[..], &more].concat());
    assert!(said.contains("wrote lines.png\nwrote sana.png"), "{said}");
    let fitted = fit(&here.image("photo.png"), 96, 64);
    let lines = edges(&fitted, &Canny::default());
    assert_eq!(here.image("lines.png"), lines);
    assert!(lines.pixels().any(|pixel| pixel.0 == [255; 3]));
    // The kept image is the control image.
    let kept = [
        "--control",
        "lines.png",
        "--controlnet",
        &folder,
        "--seed",
        "1",
    ];
    let kept = [&kept[..], &more, &["--out", "kept.png"]].concat();
    here.generate(&kept).quiet_success();
    assert_eq!(here.image("kept.png"), made);

    let text = read_text(&here.path("sana.png")).unwrap();
    let recorded = |key: &str| {
        let mut found = text.iter().filter(|(found, _)| found == key);
        found.next().map(|(_, value)| value.as_str())
    };
    assert_eq!(recorded("control"), Some("photo.png"));
    assert_eq!(recorded("controlnet"), Some(folder.as_str()));
    assert_eq!(recorded("control-save"), None);
    let said = here.sana(&["inspect", "sana.png"]).quiet_success();
    let command = said.lines().last().unwrap();
    let expected = "--control-scale 0.8 --control-interval 0..0.5 --control-from edges";
    assert!(command.contains(expected), "{command}");
    for part in [" --control photo.png ", " --controlnet "] {
        assert!(command.contains(part), "{command}");
    }

    here.generate(&["--out", "plain.png"]).quiet_success();
    let text = read_text(&here.path("plain.png")).unwrap();
    assert!(!text.iter().any(|(key, _)| key.starts_with("control")));
}

#[test]
fn what_is_wrong_is_reported_before_the_work() {
    let here = workplace();
    let folder = controlnet();
    here.generate(&["--controlnet", &folder])
        .fails(2, &["--control <IMG>"]);
    for option in [
        ["--control-scale", "1"],
        ["--control-from", "edges"],
        ["--control-save", "a.png"],
        ["--control-interval", "0..1"],
    ] {
        here.generate(&option).fails(2, &["--control <IMG>"]);
    }
    let control = ["--control", "photo.png"];
    here.generate(&control)
        .fails(1, &["no ControlNet", "--controlnet DIR"]);
    let with = |options: &[&str]| {
        here.generate(&[&control[..], &["--controlnet", &folder], options].concat())
    };
    with(&["--control-scale", "-1"]).fails(1, &["control scale", "-1"]);
    with(&["--control-scale", "nan"]).fails(1, &["control scale", "NaN"]);
    with(&["--control-interval", "0.5..0.2"]).fails(1, &["0.5..0.2"]);
    with(&["--control-interval", "half"]).fails(2, &["FROM..TO"]);
    with(&["--control-from", "depth"]).fails(2, &["edges"]);
    with(&["--control-save", "lines.gif"])
        .fails(1, &["--control-save", "must end in .png", "lines.gif"]);
    with(&["--control-save", "none/lines.png"]).fails(1, &["none/lines.png"]);
    with(&["--control-save", "sana.png"]).fails(1, &["--control-save", "sana.png"]);
    let named =
        |image: &str, folder: &str| here.generate(&["--control", image, "--controlnet", folder]);
    named("none.png", &folder).fails(1, &["none.png"]);
    std::fs::write(here.path("text.png"), "no image").unwrap();
    named("text.png", &folder).fails(1, &["text.png"]);
    named("photo.png", "none").fails(1, &["no folder none"]);
    std::fs::create_dir(here.path("empty")).unwrap();
    named("photo.png", "empty").fails(1, &["empty holds no ControlNet"]);
    let sprint = [
        "generate",
        "a",
        "--control",
        "photo.png",
        "--controlnet",
        &folder,
    ];
    here.sana_on(&sprint_checkpoint(), &sprint)
        .fails(1, &["Sana-Sprint"]);
    assert_eq!(here.files(), ["empty", "photo.png", "text.png"]);
}

#[test]
fn a_controlnet_to_train() {
    let here = workplace();
    let model = checkpoint();
    let from = ["init", "--controlnet-from", model.to_str().unwrap()];
    let init = |options: &[&str]| here.sana(&[&from[..], options].concat());
    let said = init(&["--layers", "2", "--out", "new"]).quiet_success();
    assert!(
        said.contains("wrote new: a ControlNet of the first 2 blocks"),
        "{said}"
    );
    here.generate(&["--seed", "1", "--out", "plain.png"])
        .quiet_success();
    let control = ["--control", "photo.png", "--controlnet", "new"];
    here.generate(&[&["--seed", "1"][..], &control].concat())
        .quiet_success();
    assert_eq!(here.image("sana.png"), here.image("plain.png"));

    let said = here.sana(&["inspect", "new"]).quiet_success();
    for part in [
        "SanaControlNetModel",
        "2, of 40 channels",
        "--controlnet",
        "f32",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let json = here.sana(&["inspect", "new", "--json"]).quiet_success();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["class"], "SanaControlNetModel");
    assert_eq!(json["blocks"], 2);

    init(&["--layers", "2", "--out", "new"]).fails(1, &["new holds a checkpoint already"]);
    init(&["--out", "seven"]).fails(1, &["7 blocks", "of 3"]);
    init(&["--layers", "0", "--out", "none"]).fails(2, &["--layers"]);
    init(&["--out", "both", "--variant", "sana-600m-512px"]).fails(2, &["--variant"]);
    let here_too = ["init", "--controlnet-from", "new", "--out", "other"];
    here.sana(&here_too).fails(1, &["new is not a checkpoint"]);
}
