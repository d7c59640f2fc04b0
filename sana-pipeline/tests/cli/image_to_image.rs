//! Images that start from images.

use sana_pipeline::image::{RgbImage, save_png};

use crate::support::{Workplace, sprint_checkpoint};

fn hole(x: u32, y: u32) -> bool {
    (40..56).contains(&x) && (10..30).contains(&y)
}

/// `old image.png` of 96x64, and `mask.png` with a hole.
fn workplace() -> Workplace {
    let here = Workplace::new();
    let old = RgbImage::from_fn(96, 64, |x, y| [x as u8, 2 * y as u8, 90].into());
    save_png(&here.path("old image.png"), &old, &[]).unwrap();
    let mask = |x, y| if hole(x, y) { [255; 3] } else { [0; 3] };
    let mask = RgbImage::from_fn(96, 64, |x, y| mask(x, y).into());
    save_png(&here.path("mask.png"), &mask, &[]).unwrap();
    here
}

const IMAGE: [&str; 2] = ["--image", "old image.png"];
const MASK: [&str; 2] = ["--mask", "mask.png"];

fn generate(here: &Workplace, options: &[&str]) -> crate::support::Outcome {
    let usual = ["generate", "a red circle", "--steps", "4", "--seed", "3"];
    here.sana_on_fixture(&[&usual[..], options].concat())
}

/// The command that `sana inspect` prints makes the image again, with the checkpoint's folder in
/// place of its name.
fn repeats(here: &Workplace, checkpoint: &std::path::Path) {
    let said = here.sana(&["inspect", "sana.png"]).quiet_success();
    let command = said.lines().last().unwrap();
    let made = here.image("sana.png");
    let command = command
        .strip_prefix("sana generate 'a red circle' ")
        .expect(command)
        .replace("'old image.png'", "old-image.png");
    std::fs::copy(here.path("old image.png"), here.path("old-image.png")).unwrap();
    let mut words: Vec<&str> = command.split(' ').collect();
    for option in ["--model", "--device"] {
        let at = words.iter().position(|word| *word == option).unwrap();
        words.drain(at..at + 2);
    }
    let start = ["generate", "a red circle", "--out", "again.png"];
    here.sana_on(checkpoint, &[&start[..], &words].concat())
        .quiet_success();
    assert_eq!(here.image("again.png"), made, "{command}");
}

#[test]
fn an_image_from_an_image() {
    let here = workplace();
    let said = generate(&here, &IMAGE).quiet_success();
    assert!(said.contains("encode "), "{said}");
    assert_eq!(here.image("sana.png").dimensions(), (96, 64));
    let expected = [
        ("steps", "4"),
        ("size", "96x64"),
        ("image", "old image.png"),
        ("strength", "0.6"),
    ];
    for (key, value) in expected {
        assert_eq!(here.text("sana.png", key).as_deref(), Some(value));
    }
    assert_eq!(here.text("sana.png", "mask"), None);
    repeats(&here, &crate::support::checkpoint());

    let default = here.image("sana.png");
    let strength = |strength| {
        let options = [&IMAGE[..], &["--strength", strength]].concat();
        generate(&here, &options).quiet_success();
        here.image("sana.png")
    };
    // Two of four steps either way.
    assert_eq!(strength("0.5"), default);
    assert_ne!(strength("0.75"), default);
    let options = [&IMAGE[..], &["--low-memory", "--strength", "0.75"]].concat();
    let kept = here.image("sana.png");
    generate(&here, &options).quiet_success();
    assert_eq!(here.image("sana.png"), kept);
}

#[test]
fn inpainting_keeps_what_is_black() {
    let here = workplace();
    let options = [&IMAGE[..], &MASK].concat();
    generate(&here, &options).quiet_success();
    let old = here.image("old image.png");
    let hard = here.image("sana.png");
    for (x, y, pixel) in hard.enumerate_pixels().filter(|(x, y, _)| !hole(*x, *y)) {
        assert_eq!(pixel, old.get_pixel(x, y), "at {x}, {y}");
    }
    assert_ne!(hard, old);
    assert_eq!(here.text("sana.png", "strength").unwrap(), "1");

    let soft = ["--mask-feather", "4", "--strength", "0.75"];
    generate(&here, &[&options[..], &soft].concat()).quiet_success();
    assert_ne!(here.image("sana.png"), hard);
    assert_eq!(here.text("sana.png", "mask").unwrap(), "mask.png");
    assert_eq!(here.text("sana.png", "mask-feather").unwrap(), "4");
    repeats(&here, &crate::support::checkpoint());
}

#[test]
fn the_times_of_sprint_by_name() {
    let here = workplace();
    let sprint = |options: &[&str]| {
        let usual = ["generate", "a red circle", "--size", "96x64", "--seed", "3"];
        here.sana_on(&sprint_checkpoint(), &[&usual[..], options].concat())
    };
    let with = |options: &[&str]| {
        sprint(options).quiet_success();
        here.image("sana.png")
    };
    let plain = with(&["--steps", "4"]);
    assert_eq!(here.text("sana.png", "timesteps"), None);
    let named = ["--steps", "4", "--timesteps", "reference"];
    assert_eq!(with(&named), plain);
    let paper = with(&["--steps", "4", "--timesteps", "paper"]);
    assert_ne!(paper, plain);
    assert_eq!(here.text("sana.png", "timesteps").unwrap(), "paper");
    repeats(&here, &sprint_checkpoint());
    let three = ["--steps", "3", "--timesteps", "paper"];
    sprint(&three).fails(1, &["1, 2 and 4 steps", "found 3"]);
    sprint(&["--timesteps", "linear"]).fails(2, &["linear", "reference and paper"]);
    let options = ["--timesteps", "paper"];
    generate(&here, &options).fails(1, &["Sana-Sprint", "reference"]);
}

#[test]
fn images_and_options_that_do_not_work() {
    let here = workplace();
    let black = RgbImage::new(96, 64);
    save_png(&here.path("black.png"), &black, &[]).unwrap();
    save_png(&here.path("small.png"), &RgbImage::new(64, 64), &[]).unwrap();
    std::fs::write(here.path("torn.png"), "no image").unwrap();
    let files = here.files();
    let with = |options: &[&str]| generate(&here, &[&IMAGE[..], options].concat());

    generate(&here, &["--image", "none.png"]).fails(1, &["cannot read", "none.png"]);
    generate(&here, &["--image", "torn.png"]).fails(1, &["cannot read the image", "torn.png"]);
    with(&["--mask", "torn.png"]).fails(1, &["cannot read the image", "torn.png"]);
    with(&["--mask", "small.png"]).fails(1, &["64x64", "96x64", "the size of its image"]);
    with(&["--mask", "black.png"]).fails(1, &["no white pixel", "nothing to regenerate"]);
    for strength in ["0", "-0.5", "1.5", "nan"] {
        with(&["--strength", strength]).fails(1, &["strength", "above 0 and at most 1"]);
    }
    with(&["--strength", "0.1"]).fails(1, &["0.1", "none of 4 steps"]);
    with(&["--strength", "much"]).fails(2, &["--strength"]);
    generate(&here, &MASK).fails(2, &["--image"]);
    generate(&here, &["--strength", "0.5"]).fails(2, &["--image"]);
    with(&["--mask-feather", "4"]).fails(2, &["--mask"]);
    with(&[&MASK[..], &["--mask-feather", "-4"]].concat()).fails(2, &["-4"]);
    assert_eq!(here.files(), files);
}

/// White on nothing is the mask of white on black, and --background is what shows through.
#[test]
fn transparent_images() {
    let here = workplace();
    let mask = |x, y| {
        image::Rgba(if hole(x, y) {
            [255; 4]
        } else {
            [255, 255, 255, 0]
        })
    };
    let mask = image::RgbaImage::from_fn(96, 64, mask);
    mask.save(here.path("on nothing.png")).unwrap();
    let masked = |mask| {
        generate(&here, &[&IMAGE[..], &["--mask", mask]].concat()).quiet_success();
        here.image("sana.png")
    };
    assert_eq!(masked("on nothing.png"), masked("mask.png"));

    let glass = image::RgbaImage::from_pixel(96, 64, image::Rgba([1, 2, 3, 0]));
    glass.save(here.path("glass.png")).unwrap();
    for (name, color) in [("white", 255), ("gray", 128)] {
        let plain = RgbImage::from_pixel(96, 64, image::Rgb([color; 3]));
        save_png(&here.path(&format!("{name}.png")), &plain, &[]).unwrap();
    }
    let from = |options: &[&str]| {
        generate(&here, options).quiet_success();
        here.image("sana.png")
    };
    assert_eq!(
        from(&["--image", "glass.png"]),
        from(&["--image", "white.png"])
    );
    let gray = from(&["--image", "gray.png"]);
    assert_eq!(here.text("sana.png", "background"), None);
    let glass = ["--image", "glass.png", "--background", "808080"];
    assert_eq!(from(&glass), gray);
    assert_eq!(
        here.text("sana.png", "background").as_deref(),
        Some("808080")
    );
}
