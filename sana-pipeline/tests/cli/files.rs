//! What happens to files that exist, are links, or are written by two processes.

use std::fs;

use sana_pipeline::FolderLock;
use sana_pipeline::image::{RgbImage, save_png};

use crate::support::Workplace;

fn draw(here: &Workplace, name: &str) -> Vec<u8> {
    let image = RgbImage::from_fn(96, 64, |x, y| image::Rgb([x as u8, y as u8, 90]));
    save_png(&here.path(name), &image, &[]).unwrap();
    here.bytes(name)
}

#[test]
fn an_output_is_no_input_and_no_other_output() {
    let here = Workplace::new();
    let before = draw(&here, "p.png");
    draw(&here, "m.png");
    fs::create_dir(here.path("sub")).unwrap();
    let image = ["--image=p.png", "--mask=m.png"];
    let control = ["--control=p.png", "--controlnet=none"];
    for (options, expected) in [
        (
            [&image[..], &["--out=p.png"]].concat(),
            "--out names the file of the image of --image",
        ),
        (
            [&image[..], &["--out=./p.png"]].concat(),
            "--out names the file of the image of",
        ),
        (
            [&image[..], &["--out=sub/../m.png"]].concat(),
            "--out names the file of the mask",
        ),
        (
            [&control[..], &["--out=p.png"]].concat(),
            "--out names the file of the control image",
        ),
        (
            [&control[..], &["--control-save=./p.png"]].concat(),
            "--control-save names the file of the control image",
        ),
        (
            [&control[..], &["--control-save=./g.png", "--out=g.png"]].concat(),
            "--control-save names the file of an image",
        ),
        (
            [&control[..], &["--control-save=g.png", "--grid=./g.png"]].concat(),
            "--grid names the file of the control image that is kept",
        ),
        (
            vec!["--grid=./g.png", "--out=g.png"],
            "--grid names the file of an image",
        ),
        (
            vec!["--lora=p.png", "--out=p.png"],
            "--out names the file of a LoRA",
        ),
    ] {
        // No model is opened before this is said.
        let start = ["generate", "a", "--model=none"];
        here.sana(&[&start[..], &options].concat())
            .fails(1, &[expected]);
    }
    here.sana_on_fixture(&["encode", "p.png", "--out=./p.png"])
        .fails(1, &["--out names the file of the image"]);
    here.sana(&["generate", "--from-image=p.png", "--out=p.png"])
        .fails(1, &["p.png"]);
    assert_eq!(here.bytes("p.png"), before);
    assert_eq!(here.files(), ["m.png", "p.png", "sub"]);
}

#[test]
fn the_weights_of_the_model_are_not_replaced() {
    let here = Workplace::new();
    let folder = here.copied_checkpoint("model");
    draw(&here, "p.png");
    let weights = "model/vae/diffusion_pytorch_model.safetensors";
    let before = here.bytes(weights);
    here.sana_on(&folder, &["encode", "p.png", "--out", weights])
        .fails(1, &["--out names the file of the model"]);
    assert_eq!(here.bytes(weights), before);
}

/// By no name that leads to them, and images next to them are nobody's.
#[cfg(unix)]
#[test]
fn links_to_weights_are_no_outputs() {
    use std::os::unix::fs::symlink;

    let here = Workplace::new();
    draw(&here, "p.png");
    for (folder, options, expected) in [
        ("model", &["--model=model"][..], "the model"),
        ("lora", &["--lora=lora"], "a LoRA"),
        (
            "control",
            &["--control=p.png", "--controlnet=control"],
            "the ControlNet",
        ),
    ] {
        fs::create_dir(here.path(folder)).unwrap();
        let weights = format!("{folder}/model.safetensors");
        fs::write(here.path(&weights), "weights").unwrap();
        symlink(&weights, here.path("l.png")).unwrap();
        let start = ["generate", "a", "--out=l.png"];
        let expected = format!("--out names the file of {expected}");
        here.sana(&[&start[..], options].concat())
            .fails(1, &[&expected]);
        assert_eq!(here.bytes(&weights), b"weights");
        fs::remove_file(here.path("l.png")).unwrap();
    }
    let folder = here.copied_checkpoint("m");
    draw(&here, "m/p.png");
    let again = ["generate", "a", "--size=64", "--steps=1", "--out=m/p.png"];
    here.sana_on(&folder, &again).quiet_success();
}

/// Nothing that lies at a name of a temporary file is opened, and nothing is left.
#[cfg(unix)]
#[test]
fn temporary_files_follow_no_link() {
    let here = Workplace::new();
    fs::write(here.path("precious"), "mine").unwrap();
    for name in ["a.png.part", "b.png.part"] {
        std::os::unix::fs::symlink("precious", here.path(name)).unwrap();
    }
    let fifo = std::process::Command::new("mkfifo")
        .arg(here.path("c.png.part"))
        .status();
    assert!(fifo.unwrap().success());
    // What a killed process left behind.
    fs::write(here.path(".sana-0123456789abcdef.part"), "half").unwrap();
    for out in ["a.png", "c.png"] {
        here.generate(&["--out", out]).quiet_success();
    }
    here.generate(&["--out=b.png", "--image=none.png"])
        .fails(1, &["none.png"]);
    assert_eq!(here.bytes("precious"), b"mine");
    let left = [
        "a.png",
        "a.png.part",
        "b.png.part",
        "c.png",
        "c.png.part",
        "precious",
    ];
    assert_eq!(here.files(), left);
}

#[cfg(unix)]
#[test]
fn outputs_that_are_links_or_not_to_be_written() {
    use std::os::unix::fs::{PermissionsExt, symlink};

    let here = Workplace::new();
    fs::create_dir(here.path("far")).unwrap();
    fs::write(here.path("far/old.png"), "old").unwrap();
    symlink("far/old.png", here.path("link.png")).unwrap();
    symlink("far/new.png", here.path("dangling.png")).unwrap();
    for (link, target) in [("link.png", "far/old.png"), ("dangling.png", "far/new.png")] {
        here.generate(&["--out", link]).quiet_success();
        assert!(here.path(link).is_symlink());
        assert!(!here.path(target).is_symlink());
        assert_eq!(here.image(target).dimensions(), (96, 64));
    }
    fs::write(here.path("fixed.png"), "old").unwrap();
    fs::set_permissions(here.path("fixed.png"), fs::Permissions::from_mode(0o444)).unwrap();
    here.generate(&["--out=fixed.png"])
        .fails(1, &["fixed.png", "the file there is read-only"]);
    assert_eq!(here.bytes("fixed.png"), b"old");
    let fifo = std::process::Command::new("mkfifo")
        .arg(here.path("pipe.png"))
        .status();
    assert!(fifo.unwrap().success());
    here.generate(&["--out=pipe.png"])
        .fails(1, &["pipe.png", "not a regular file"]);
    symlink("loop.png", here.path("loop.png")).unwrap();
    here.generate(&["--out=loop.png"]).fails(1, &["loop.png"]);
    here.generate(&["--out=none/a.png"])
        .fails(1, &["none/a.png"]);
}

/// Files have the mode that the process's mask gives them.
#[cfg(unix)]
#[test]
fn modes_are_those_of_any_new_file() {
    use std::os::unix::fs::PermissionsExt;

    let here = Workplace::new();
    draw(&here, "p.png");
    here.sana_on_fixture(&["encode", "p.png"]).quiet_success();
    fs::write(here.path("plain"), "").unwrap();
    let mode = |name: &str| fs::metadata(here.path(name)).unwrap().permissions().mode();
    assert_eq!(mode("latents.safetensors"), mode("plain"));
    assert_eq!(mode("p.png"), mode("plain"));
}

#[test]
fn one_process_at_a_time_writes_to_a_folder() {
    let here = Workplace::new();
    fs::write(here.path("p.txt"), "a\n").unwrap();
    fs::create_dir(here.path("images")).unwrap();
    let batch = ["generate", "--prompts=p.txt", "--size=96x64", "--steps=1"];
    let lock = FolderLock::take(&here.path("images")).unwrap();
    let owner = format!(
        "another sana, process {}, is writing there",
        std::process::id()
    );
    here.sana_on_fixture(&batch)
        .fails(1, &["cannot write to the folder images", &owner]);
    drop(lock);
    // Of a process that was killed.
    fs::write(here.path("images/.sana-lock"), "1\n").unwrap();
    here.sana_on_fixture(&batch).quiet_success();
    assert_eq!(here.files_in("images"), ["0001-a.png"]);
}

#[test]
fn checkpoints_are_made_in_folders_without_one() {
    let here = Workplace::new();
    for file in ["model_index.json", "config.json", "state.json"] {
        fs::create_dir(here.path("there")).unwrap();
        fs::write(here.path("there").join(file), "{}").unwrap();
        here.sana(&["init", "--variant=sana-600m-512px", "--out=there"])
            .fails(1, &["there holds a"]);
        assert_eq!(here.files_in("there"), [file]);
        fs::remove_dir_all(here.path("there")).unwrap();
    }
}
