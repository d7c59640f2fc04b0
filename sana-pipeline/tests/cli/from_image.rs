//! `sana generate --from-image`.

use sana_linear_attn::parity::built_in_fixture_path;
use sana_pipeline::image::{PARAMETERS, RgbImage, psnr, read_text, save_png};

use crate::support::{Workplace, checkpoint, lora, sprint_checkpoint};

/// The text of an image, without one key and without what repeats all of them for others.
fn text_without(here: &Workplace, name: &str, key: &str) -> Vec<(String, String)> {
    let mut text = read_text(&here.path(name)).unwrap();
    text.retain(|(own, _)| own != key && own != PARAMETERS);
    text
}

/// An image with this text.
fn with_text(here: &Workplace, name: &str, text: &[(&str, &str)]) {
    save_png(&here.path(name), &RgbImage::new(2, 2), text).unwrap();
}

/// The same file to the last byte, whatever options it was made with.
#[test]
fn an_image_repeated_is_the_image() {
    let here = Workplace::new();
    let two_loras = [
        "--lora",
        &lora(),
        "--lora",
        &format!("{}:0.5", lora()),
        "--lora-unmerged",
    ];
    let cases: [&[&str]; 6] = [
        &[],
        &[
            "--seed",
            "3",
            "--negative=-blue\n 'and' \"green\"",
            "--guidance",
            "3.25",
        ],
        &[
            "--pag",
            "2",
            "--pag-layers",
            "2,0",
            "--guidance-interval",
            "0.25..1",
        ],
        &["--apg", "--apg-momentum", "-0.75", "--apg-norm", "inf"],
        &[
            "--solver",
            "flow-euler",
            "--no-instruction",
            "--low-memory",
            "--dtype",
            "f32",
        ],
        &two_loras,
    ];
    for options in cases {
        here.generate(options).quiet_success();
        let said = here
            .sana(&["generate", "--from-image", "sana.png"])
            .quiet_success();
        assert!(said.starts_with("options of sana.png: --"), "{said}");
        assert!(said.contains("wrote sana-again.png"), "{said}");
        assert!(
            here.bytes("sana-again.png") == here.bytes("sana.png"),
            "{options:?}: {said}"
        );
    }
}

#[test]
fn an_image_of_sprint_or_of_a_batch_too() {
    let here = Workplace::new();
    let model = sprint_checkpoint();
    let model = ["--model", model.to_str().unwrap(), "--device", "flex"];
    let options = ["--size=64x32", "--count=2", "--steps=3", "--", "-- a cat"];
    here.sana(&[&["generate"], &model[..], &options].concat())
        .quiet_success();
    let said = here
        .sana(&[
            "generate",
            "--from-image",
            "sana-1.png",
            "--out",
            "again.png",
        ])
        .quiet_success();
    assert!(
        said.starts_with("note: sana-1.png was generated as one of 2 images at a time: "),
        "{said}"
    );
    assert_eq!(here.image("again.png"), here.image("sana-1.png"));
    // The record is the same but for that.
    let mut expected = read_text(&here.path("sana-1.png")).unwrap();
    expected.retain(|(key, value)| (key.as_str(), value.as_str()) != ("images-at-a-time", "2"));
    let again = read_text(&here.path("again.png")).unwrap();
    assert_eq!(again, expected);
    let text = |name: &str| here.text(name, "images-at-a-time");
    assert_eq!(text("sana-1.png").as_deref(), Some("2"));
}

#[cfg(feature = "scenes-model")]
#[test]
fn an_image_of_the_model_of_the_build() {
    let here = Workplace::new();
    let arguments = [
        "generate",
        "a red circle",
        "--steps",
        "2",
        "--device",
        "flex",
    ];
    here.sana(&arguments).quiet_success();
    here.sana(&["generate", "--from-image", "sana.png"])
        .quiet_success();
    assert_eq!(here.bytes("sana-again.png"), here.bytes("sana.png"));
}

#[test]
fn what_is_given_again_replaces_what_is_recorded() {
    let here = Workplace::new();
    here.generate(&["--seed", "7", "--apg", "--apg-eta", "1", "--no-instruction"])
        .quiet_success();
    let again = |options: &[&str]| {
        let start = ["generate", "--from-image", "sana.png", "--out", "again.png"];
        here.sana(&[&start[..], options].concat()).quiet_success();
    };
    again(&["--steps", "3"]);
    let steps = text_without(&here, "again.png", "steps");
    assert_eq!(steps, text_without(&here, "sana.png", "steps"));
    let text = read_text(&here.path("again.png")).unwrap();
    assert!(text.contains(&("steps".to_owned(), "3".to_owned())));
    assert_ne!(here.image("again.png"), here.image("sana.png"));

    again(&["a blue square"]);
    let prompt = text_without(&here, "again.png", "prompt");
    assert_eq!(prompt, text_without(&here, "sana.png", "prompt"));
    let text = read_text(&here.path("again.png")).unwrap();
    assert!(text.contains(&("prompt".to_owned(), "a blue square".to_owned())));

    // What excludes a recorded option replaces it; flags can be left out.
    again(&["--instruction", "none", "--without", "apg", "--seed", "8"]);
    let text = read_text(&here.path("again.png")).unwrap();
    assert!(
        !text
            .iter()
            .any(|(key, _)| key == "no-instruction" || key.starts_with("apg"))
    );
    here.generate(&["--seed", "8", "--no-instruction", "--out", "plain.png"])
        .quiet_success();
    assert_eq!(here.image("again.png"), here.image("plain.png"));
}

/// Two options had other names when some images were made.
#[test]
fn records_with_earlier_names() {
    let here = Workplace::new();
    let lora = lora();
    here.generate(&["--seed", "3", "--lora", &lora, "--lora-unmerged"])
        .quiet_success();
    let text = read_text(&here.path("sana.png")).unwrap();
    let earlier = |key: &str| match key {
        "lora-unmerged" => "lora-apart".to_owned(),
        key => key.to_owned(),
    };
    let old: Vec<_> = text
        .iter()
        .map(|(key, value)| (earlier(key), value))
        .collect();
    assert!(old.iter().any(|(key, _)| key == "lora-apart"));
    let old: Vec<_> = old
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    with_text(&here, "old.png", &old);
    here.sana(&["generate", "--from-image", "old.png"])
        .quiet_success();
    assert_eq!(here.bytes("old-again.png"), here.bytes("sana.png"));

    let sprint = [
        ("prompt", "a red circle"),
        ("schedule", "paper"),
        ("Software", "sana 0.1.0"),
    ];
    with_text(&here, "old.png", &sprint);
    let said = here.sana(&["inspect", "old.png"]).quiet_success();
    let command = "sana generate 'a red circle' --timesteps paper\n";
    assert!(said.ends_with(command), "{said}");
}

#[test]
fn images_that_say_nothing() {
    let here = Workplace::new();
    let from = |name: &str| here.sana(&["generate", "--from-image", name]);
    from("none.png").fails(
        1,
        &[
            "--from-image none.png: expected an image",
            "cannot read none.png",
        ],
    );
    std::fs::write(here.path("a.jpg"), b"\xff\xd8\xff\xe0 no PNG").unwrap();
    from("a.jpg").fails(1, &["expected an image that `sana generate` made", "a.jpg"]);
    with_text(&here, "bare.png", &[]);
    from("bare.png").fails(1, &["bare.png holds no record of `sana generate`"]);
    let foreign = [("prompt", "a cat"), ("seed", "1"), ("Software", "GIMP")];
    with_text(&here, "foreign.png", &foreign);
    from("foreign.png").fails(1, &["holds no record", "another program"]);
    assert_eq!(here.files(), ["a.jpg", "bare.png", "foreign.png"]);
}

#[test]
fn models_that_are_not_here() {
    let here = Workplace::new();
    let text = [
        ("prompt", "a red circle"),
        ("seed", "1"),
        ("steps", "1"),
        ("size", "64x32"),
        ("model", "./gone/away"),
        ("Software", "sana 0.1.0"),
    ];
    with_text(&here, "a.png", &text);
    let from =
        |options: &[&str]| here.sana(&[&["generate", "--from-image", "a.png"], options].concat());
    let refused = from(&[]);
    refused.fails(
        1,
        &[
            "made with the model ./gone/away",
            "--model",
            "no folder ./gone/away",
        ],
    );
    assert!(
        refused.stdout.contains("--model=./gone/away"),
        "{}",
        refused.stdout
    );
    let model = checkpoint();
    from(&["--device", "flex", "--model", model.to_str().unwrap()]).quiet_success();
    assert_eq!(here.files(), ["a-again.png", "a.png"]);
}

/// Whatever an image says, it is a value of a known option that reads.
#[test]
fn hostile_images() {
    let here = Workplace::new();
    let software = ("Software", "sana 0.1.0");
    let model = checkpoint();
    let model = model.to_str().unwrap();
    let text = [
        ("prompt", "$(touch owned); --out=owned.png"),
        ("out", "owned.png"),
        ("grid", "owned.png"),
        ("prompts", "owned.txt"),
        ("from-image", "b.png"),
        ("--out", "owned.png"),
        ("steps --out", "owned.png"),
        ("steps", "1"),
        ("size", "64x32"),
        ("seed", "1"),
        ("negative", "--out=owned.png"),
        ("model", model),
        ("device", "flex"),
        software,
    ];
    with_text(&here, "a.png", &text);
    here.sana(&["generate", "--from-image", "a.png"])
        .quiet_success();
    assert_eq!(here.files(), ["a-again.png", "a.png"]);
    let made = read_text(&here.path("a-again.png")).unwrap();
    assert!(made.contains(&(text[0].0.to_owned(), text[0].1.to_owned())));

    let refused = |pair: (&str, &str), expected: &[&str]| {
        with_text(&here, "a.png", &[("prompt", "a"), pair, software]);
        here.sana(&["generate", "--from-image", "a.png"])
            .fails(1, &[&["a.png"], expected].concat());
    };
    refused(
        ("steps", "99999999"),
        &["cannot be used", "--steps", "1..=10000"],
    );
    refused(("steps", ""), &["cannot be used", "--steps"]);
    refused(("pag-layers", "1"), &["cannot be used", "--pag"]);
    refused(("model", "a\u{1b}[2J"), &["model holds control characters"]);
    refused(
        ("size", "64x--out=x.png"),
        &["cannot be used", "WIDTHxHEIGHT"],
    );
    with_text(&here, "a.png", &[("prompt", " "), software]);
    here.sana(&["generate", "--from-image", "a.png"])
        .fails(1, &["the prompt is empty"]);
    assert_eq!(here.files(), ["a-again.png", "a.png"]);
}

#[test]
fn options_that_need_it() {
    let here = Workplace::new();
    here.sana(&["generate", "a", "--without", "apg"])
        .fails(2, &["--from-image"]);
    with_text(
        &here,
        "a.png",
        &[("prompt", "a"), ("Software", "sana 0.1.0")],
    );
    here.sana(&["generate", "--from-image", "a.png", "--without", "out"])
        .fails(1, &["--without out", "negative, seed, steps"]);
}

/// Images that are followed or started from, for one prompt and for several together.
#[test]
fn images_made_of_images_too() {
    let here = Workplace::new();
    let photo = RgbImage::from_fn(96, 64, |x, _| [if x < 40 { 10 } else { 220 }; 3].into());
    save_png(&here.path("photo.png"), &photo, &[]).unwrap();
    std::fs::write(here.path("p.txt"), "a red circle\na blue cat\n").unwrap();
    let folder = "pipeline/controlnet/controlnet";
    let folder = built_in_fixture_path(env!("CARGO_MANIFEST_DIR"), folder);
    let controlnet = format!("--controlnet={}", folder.to_str().unwrap());
    let control = [
        "--control=photo.png",
        &controlnet,
        "--control-scale=0.75",
        "--control-interval=0..0.5",
        "--control-from=edges",
    ];
    let start = ["--image=photo.png", "--strength=0.5"];
    let mask = ["--image=photo.png", "--mask=photo.png", "--mask-feather=3"];
    for (index, options) in [&control[..], &start, &mask].into_iter().enumerate() {
        here.generate(&[options, &["--seed=5"]].concat())
            .quiet_success();
        here.sana(&["generate", "--from-image", "sana.png"])
            .quiet_success();
        assert!(
            here.bytes("sana-again.png") == here.bytes("sana.png"),
            "{options:?}"
        );

        let (one, two) = (format!("one-{index}"), format!("two-{index}"));
        for (folder, batch) in [(&one, "--batch=1"), (&two, "--batch=2")] {
            let from = ["generate", "--from-image=sana.png", "--prompts=p.txt"];
            here.sana(&[&from[..], &["--out", folder, batch]].concat())
                .quiet_success();
        }
        let first = "0001-a-red-circle.png";
        assert!(here.bytes(&format!("{one}/{first}")) == here.bytes("sana.png"));
        for name in [first, "0002-a-blue-cat.png"] {
            let alone = here.image(&format!("{one}/{name}"));
            let decibels = psnr(&here.image(&format!("{two}/{name}")), &alone).unwrap();
            assert!(decibels >= 60.0, "{options:?}, {name}: {decibels:.1} dB");
        }
    }
}
