//! `sana generate --prompts` and `--grid`.

use std::fs;

use sana_pipeline::image::{RgbImage, psnr, save_png};

use crate::support::{Outcome, Workplace};

const LINES: &str = "\
# shapes
a red circle
two green triangles and more of them

a blue square
";

const FILES: [&str; 3] = [
    "0001-a-red-circle.png",
    "0002-two-green-triangles-and-more-of-them.png",
    "0003-a-blue-square.png",
];

/// `sana generate --prompts FILE` on the fixtures' checkpoint, 96x64 in 2 steps.
fn draw(here: &Workplace, file: &str, options: &[&str]) -> Outcome {
    let usual = [
        "generate",
        "--prompts",
        file,
        "--size",
        "96x64",
        "--steps",
        "2",
    ];
    here.sana_on_fixture(&[&usual, options].concat())
}

#[test]
fn an_image_for_each_line() {
    let here = Workplace::new();
    fs::write(here.path("prompts.txt"), LINES).unwrap();
    let said = draw(&here, "prompts.txt", &[]).quiet_success();
    for part in [
        "device flex, 3 images of 3 prompts, 0 of them exist\n",
        "denoise ",
        "made 3 images in ",
        " a minute\nwrote images\n",
    ] {
        assert!(said.contains(part), "{part:?} in {said}");
    }
    assert_eq!(here.files_in("images"), FILES);
    // Each is the image of its prompt and seed made alone.
    for (seed, (file, prompt)) in FILES
        .iter()
        .zip([
            "a red circle",
            "two green triangles and more of them",
            "a blue square",
        ])
        .enumerate()
    {
        let file = format!("images/{file}");
        assert_eq!(here.text(&file, "prompt").unwrap(), prompt);
        let seed = seed.to_string();
        assert_eq!(here.text(&file, "seed").unwrap(), seed);
        let arguments = [
            "generate",
            prompt,
            "--size=96x64",
            "--steps=2",
            "--seed",
            &seed,
        ];
        here.sana_on_fixture(&arguments).quiet_success();
        assert_eq!(
            fs::read(here.path("sana.png")).unwrap(),
            fs::read(here.path(&file)).unwrap()
        );
    }
}

/// Texts of several lengths are padded to the longest of a batch, and images stay as they are but
/// for the order of sums: a single value that is another by one level is 90.8 dB in such an image,
/// and was seen; 60 dB is one value in 15.
#[test]
fn the_batch_changes_no_image() {
    let here = Workplace::new();
    let lines = [
        r#"{"prompt": "a red circle", "count": 2}"#,
        r#"{"prompt": "two green triangles and more of them", "negative": "blue"}"#,
        r#"{"prompt": "a blue square", "steps": 1, "seed": 11}"#,
        r#"{"prompt": "three", "guidance": 1, "size": [64, 32]}"#,
    ];
    fs::write(here.path("prompts.jsonl"), lines.join("\n")).unwrap();
    for batch in ["1", "2", "10"] {
        draw(
            &here,
            "prompts.jsonl",
            &["--batch", batch, "--out", batch, "--seed", "5"],
        )
        .quiet_success();
    }
    let names = here.files_in("1");
    assert_eq!(names.len(), 5);
    let seeds = names
        .iter()
        .map(|name| here.text(&format!("1/{name}"), "seed").unwrap());
    // `-2` sorts before the ending: the second image of the first prompt comes first.
    assert_eq!(names[0], "0001-a-red-circle-2.png");
    assert_eq!(seeds.collect::<Vec<_>>(), ["6", "5", "6", "11", "8"]);
    for name in &names {
        let alone = here.image(&format!("1/{name}"));
        for batch in ["2", "10"] {
            let decibels = psnr(&here.image(&format!("{batch}/{name}")), &alone).unwrap();
            assert!(decibels >= 60.0, "{name}, {batch}: {decibels:.1} dB");
        }
    }
    assert_eq!(here.image("1/0004-three.png").dimensions(), (64, 32));
    assert_eq!(here.text("1/0003-a-blue-square.png", "steps").unwrap(), "1");
}

#[test]
fn a_run_continues_where_it_stopped() {
    let here = Workplace::new();
    fs::write(here.path("prompts.txt"), LINES).unwrap();
    draw(&here, "prompts.txt", &["--out", "whole"]).quiet_success();
    // As if it had been stopped: one image is missing, and a file is unfinished.
    draw(&here, "prompts.txt", &["--out", "torn"]).quiet_success();
    let (first, second) = (
        here.path("torn").join(FILES[0]),
        here.path("torn").join(FILES[1]),
    );
    fs::remove_file(&second).unwrap();
    let unfinished = second.with_file_name(".sana-0123456789abcdef.part");
    fs::write(unfinished, "half").unwrap();
    let written = fs::metadata(&first).unwrap().modified().unwrap();
    fs::write(here.path("prompts.txt"), format!("{LINES}a small circle\n")).unwrap();
    let said = draw(&here, "prompts.txt", &["--out", "torn"]).quiet_success();
    assert!(
        said.contains("4 images of 4 prompts, 2 of them exist"),
        "{said}"
    );
    assert!(said.contains("made 2 images in "), "{said}");
    assert!(said.contains(", skipped 2 that existed\n"), "{said}");
    assert_eq!(fs::metadata(&first).unwrap().modified().unwrap(), written);
    assert_eq!(
        here.files_in("torn"),
        [&FILES[..], &["0004-a-small-circle.png"]].concat()
    );
    for file in FILES {
        let bytes = |folder: &str| fs::read(here.path(folder).join(file)).unwrap();
        assert_eq!(bytes("torn"), bytes("whole"), "{file}");
    }
    let said = draw(&here, "prompts.txt", &["--out", "torn"]).quiet_success();
    assert!(
        said.contains("made 0 images, skipped 4 that existed\n"),
        "{said}"
    );
    assert!(!said.contains("denoise"), "{said}");
}

#[test]
fn images_that_exist_are_not_lost() {
    let here = Workplace::new();
    fs::write(here.path("prompts.txt"), LINES).unwrap();
    draw(&here, "prompts.txt", &[]).quiet_success();
    let other = draw(&here, "prompts.txt", &["--guidance", "3"]);
    assert_eq!(other.code, Some(0), "{}", other.stderr);
    let warning = format!(
        "warning: images/{} was made with another guidance: remove it, and it is made again\n",
        FILES[0]
    );
    assert!(other.stderr.starts_with(&warning), "{}", other.stderr);
    assert_eq!(other.stderr.lines().count(), 3);
    fs::write(here.path("images").join(FILES[2]), "mine").unwrap();
    draw(&here, "prompts.txt", &[])
        .fails(1, &["0003-a-blue-square.png exists, but is not an image"]);
    assert_eq!(
        fs::read(here.path("images").join(FILES[2])).unwrap(),
        b"mine"
    );
}

/// All lines are checked against the model before the first image is begun.
#[test]
fn lines_that_cannot_be_used() {
    let here = Workplace::new();
    let lines = [
        r#"{"prompt": "a red circle"}"#,
        r#"{"prompt": "a", "size": [100, 100]}"#,
        r#"{"prompt": "a", "solver": "scm"}"#,
    ];
    fs::write(here.path("p.jsonl"), lines.join("\n")).unwrap();
    draw(&here, "p.jsonl", &[]).fails(
        1,
        &[
            "p.jsonl cannot be used",
            "line 2: size 100x100",
            "96x96",
            "line 3: ",
            "scm",
        ],
    );
    let lines = [
        r#"{"prompt": "a", "model": "x"}"#,
        r#"{"prompt": "a", "steps": 0}"#,
        r#"{"prompt": "a", "out": "x.png"}"#,
    ];
    fs::write(here.path("p.jsonl"), lines.join("\n")).unwrap();
    // Even without a model.
    here.sana(&["generate", "--prompts", "p.jsonl", "--model", "none"])
        .fails(
            1,
            &[
                "line 1: unknown key \"model\", known are",
                "line 2: ",
                "--steps",
                "line 3: unknown key",
            ],
        );
    fs::write(here.path("empty.txt"), "# nothing\n").unwrap();
    draw(&here, "empty.txt", &[]).fails(1, &["empty.txt holds no prompt"]);
    draw(&here, "none.txt", &[]).fails(1, &["cannot read none.txt"]);
    assert_eq!(here.files(), ["empty.txt", "p.jsonl"]);
}

#[test]
fn options_that_exclude_each_other() {
    let here = Workplace::new();
    fs::write(here.path("p.txt"), "a\n").unwrap();
    here.sana(&["generate", "a", "--prompts", "p.txt"])
        .fails(2, &["--prompts", "cannot be used with"]);
    here.sana(&["generate", "a", "--batch", "2"])
        .fails(2, &["--prompts <FILE>|--best-of <N>"]);
    here.sana(&["generate", "--from-image", "a.png", "--batch", "2"])
        .fails(2, &["--prompts"]);
    here.sana(&["generate", "a", "--grid-columns", "2"])
        .fails(2, &["--grid"]);
    draw(&here, "p.txt", &["--out", "a.png"]).fails(1, &["--out is a folder", "a.png"]);
    draw(&here, "p.txt", &["--out", "p.txt"]).fails(1, &["--out is a folder", "p.txt"]);
    draw(&here, "p.txt", &["--grid=x.gif"])
        .fails(1, &["--grid x.gif", "must end in .png", "x.gif"]);
    draw(&here, "p.txt", &["--grid=images/0001-a.png"])
        .fails(1, &["--grid names the file of an image"]);
    draw(&here, "p.txt", &["--control=a.png", "--control-save=b.png"])
        .fails(1, &["--control-save keeps the control image of one prompt"]);
    draw(&here, "p.txt", &["--grid=no/x.png"]).fails(1, &["cannot write", "no/x.png"]);
    assert!(here.files_in("images").is_empty());
}

#[test]
fn prompts_that_are_too_long_are_reported() {
    let here = Workplace::new();
    let long = "a red circle left of a blue square, ".repeat(400);
    let text = format!("a cat\n{long}\n{long}\nnow {long}\n");
    fs::write(here.path("p.txt"), text).unwrap();
    let outcome = draw(&here, "p.txt", &["--batch", "2", "--negative", &long]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let warnings: Vec<&str> = outcome.stderr.lines().collect();
    // A text that several lines share is reported once.
    let expected = [
        "prompt of line 2",
        "negative prompt of line 1",
        "prompt of line 4",
    ];
    assert_eq!(warnings.len(), expected.len(), "{warnings:?}");
    for (warning, expected) in warnings.iter().zip(expected) {
        let expected = format!("warning: the {expected} is too long, its last ");
        assert!(warning.starts_with(&expected), "{warnings:?}");
    }
}

#[test]
fn grids_of_all_images() {
    let here = Workplace::new();
    let json = r#"["a red circle", {"prompt": "b", "size": "32x64", "name": "Small one"}, "c"]"#;
    fs::write(here.path("p.json"), json).unwrap();
    draw(&here, "p.json", &[]).quiet_success();
    let skipped = draw(&here, "p.json", &["--grid"]).quiet_success();
    assert!(skipped.contains("made 0 images"), "{skipped}");
    assert!(skipped.ends_with("wrote images/grid.png\n"), "{skipped}");
    let names = [
        "0001-a-red-circle.png",
        "0003-c.png",
        "grid.png",
        "small-one.png",
    ];
    assert_eq!(here.files_in("images"), names);
    let grid = here.image("images/grid.png");
    assert_eq!(grid.dimensions(), (2 * 96 + 4, 2 * 64 + 4));
    let first = here.image("images/0001-a-red-circle.png");
    let small = here.image("images/small-one.png");
    for (x, y, pixel) in grid.enumerate_pixels() {
        let expected = match (x, y) {
            (..96, ..64) => first.get_pixel(x, y).0,
            (132..164, ..64) => small.get_pixel(x - 132, y).0,
            (..96, 68..) => continue,
            _ => [255; 3],
        };
        assert_eq!(pixel.0, expected, "at {x}, {y}");
    }

    let one_prompt = [
        "--count=3",
        "--seed=1",
        "--grid",
        "--grid-columns=3",
        "--out=x.png",
    ];
    let said = here.generate(&one_prompt).quiet_success();
    assert!(said.ends_with("wrote x-grid.png\n"), "{said}");
    assert_eq!(here.image("x-grid.png").dimensions(), (3 * 96 + 8, 64));
    here.generate(&["--grid=sana.png"])
        .fails(1, &["--grid names the file of an image"]);
}

/// The options of an image hold for every prompt of a file.
#[test]
fn the_settings_of_an_image_for_many_prompts() {
    let here = Workplace::new();
    here.generate(&["--seed", "20", "--guidance", "2", "--solver", "flow-euler"])
        .quiet_success();
    fs::write(here.path("p.txt"), "a red circle\na blue square\n").unwrap();
    here.sana(&["generate", "--from-image", "sana.png", "--prompts", "p.txt"])
        .quiet_success();
    let first = fs::read(here.path("images/0001-a-red-circle.png")).unwrap();
    assert_eq!(first, fs::read(here.path("sana.png")).unwrap());
    let second = "images/0002-a-blue-square.png";
    assert_eq!(here.text(second, "seed").unwrap(), "21");
    assert_eq!(here.text(second, "solver").unwrap(), "flow-euler");
}

/// A file that is not an image is not put on a grid, and nothing is made before that is reported.
#[test]
fn a_grid_needs_images() {
    let here = Workplace::new();
    fs::write(here.path("p.txt"), "a\nb\n").unwrap();
    fs::create_dir(here.path("images")).unwrap();
    let plain = RgbImage::new(3, 2);
    save_png(&here.path("images/0002-b.png"), &plain, &[]).unwrap();
    let outcome = draw(&here, "p.txt", &["--grid"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("made with another prompt"),
        "{}",
        outcome.stderr
    );
    assert_eq!(here.image("images/0002-b.png"), plain);
    fs::remove_file(here.path("images/0001-a.png")).unwrap();
    fs::write(here.path("images/0002-b.png"), "not an image").unwrap();
    draw(&here, "p.txt", &["--grid"]).fails(1, &["0002-b.png exists, but is not an image"]);
    assert!(!here.path("images/0001-a.png").exists());
}

/// What was made before an error stays, and the error says where the run ended.
#[test]
fn a_run_that_fails_keeps_what_it_made() {
    let here = Workplace::new();
    fs::write(here.path("prompts.txt"), LINES).unwrap();
    let folder = here.copied_checkpoint("spoilt");
    let arguments = [
        "generate",
        "--prompts=prompts.txt",
        "--size=96x64",
        "--steps=2",
    ];
    let run = || here.sana_on(&folder, &arguments);
    run().quiet_success();
    fs::remove_file(here.path("images").join(FILES[2])).unwrap();
    let weights = folder.join("transformer/diffusion_pytorch_model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let end = bytes.len() - 4;
    bytes[end..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&weights, bytes).unwrap();
    run().fails(
        1,
        &[
            "the images of line 5 were not made; 0 of 1 were, and the same command continues",
            "because: step 1 of 2 ",
            "not finite",
        ],
    );
    assert_eq!(here.files_in("images"), FILES[..2]);
}

#[test]
fn batches_that_do_not_fit_into_memory() {
    let here = Workplace::new();
    fs::write(here.path("prompts.txt"), LINES).unwrap();
    draw(&here, "prompts.txt", &["--memory-limit=1MB", "--batch=2"]).fails(
        1,
        &[
            "2 images at a time with the options of line 2; nothing was made",
            "because: ",
            "free",
        ],
    );
    assert!(here.files_in("images").is_empty());
}
