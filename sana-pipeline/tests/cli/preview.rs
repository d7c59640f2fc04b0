//! `--preview`: the image while it is made.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use sana_pipeline::image::{XMP, load};

use crate::support::Workplace;

#[test]
fn a_file_shows_the_steps() {
    let here = Workplace::new();
    // So few latents are decoded, so the last step is the image itself.
    here.generate(&["--seed", "3", "--preview", "p.png"])
        .quiet_success();
    assert_eq!(here.image("p.png"), here.image("sana.png"));
    assert!(
        here.text("p.png", XMP)
            .unwrap()
            .contains("trainedAlgorithmicMedia")
    );
    // Nothing unfinished next to it, and nothing of it changes the image.
    assert_eq!(here.files(), ["p.png", "sana.png"]);
    let with = here.image("sana.png");
    here.generate(&["--seed", "3"]).quiet_success();
    assert_eq!(here.image("sana.png"), with);

    // Several images share the file.
    let several = [
        "--seed",
        "3",
        "--count",
        "2",
        "--preview",
        "p.jpg",
        "--preview-every",
        "9",
        "--no-mark",
    ];
    here.generate(&several).quiet_success();
    assert_eq!(here.image("p.jpg").dimensions(), (2 * 96 + 4, 64));
    assert_eq!(here.text("p.jpg", XMP), None);
}

/// Images of more latents are shown by the colours of these: fitted for the run, or kept by
/// `sana latent-rgb`.
#[test]
fn larger_images_are_shown_by_the_colors_of_latents() {
    let here = Workplace::new();
    let mine = here.copied_checkpoint("mine");
    let generate = || {
        let usual = [
            "generate", "a", "--size", "96x768", "--steps", "1", "--seed", "3",
        ];
        here.sana_on(&mine, &[&usual[..], &["--preview", "p.png"]].concat())
    };
    let outcome = generate();
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("sana latent-rgb keeps them"),
        "{}",
        outcome.stderr
    );
    let fitted = here.image("p.png");
    // 3 x 24 latents, enlarged 16 times.
    assert_eq!(fitted.dimensions(), (48, 384));

    let said = here.sana_on(&mine, &["latent-rgb"]).quiet_success();
    assert!(
        said.contains("PSNR ") && said.contains("latent_rgb.json"),
        "{said}"
    );
    generate().quiet_success();
    assert_eq!(here.image("p.png"), fitted);

    // On images of one's own.
    fs::create_dir(here.path("photos")).unwrap();
    for name in ["a.png", "b.png", "c.png", "d.png"] {
        fitted.save(here.path("photos").join(name)).unwrap();
    }
    let own = ["latent-rgb", "--images", "photos", "--out", "own.json"];
    here.sana_on(&mine, &own).quiet_success();
    let text = String::from_utf8(here.bytes("own.json")).unwrap();
    assert!(text.contains("images of a folder"), "{text}");
    fs::remove_file(here.path("photos").join("d.png")).unwrap();
    here.sana_on(&mine, &own)
        .fails(1, &["on 3 images in photos", "fewer than four images"]);

    // What cannot be written is found before the work.
    let file = mine.join("vae/latent_rgb.json");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    here.sana_on(&mine, &["latent-rgb"])
        .fails(1, &["latent_rgb.json"]);
}

/// Whoever looks at the file finds a whole image, whenever they look.
#[test]
fn the_file_is_replaced_whole() {
    let here = Workplace::new();
    let (done, path) = (AtomicBool::new(false), here.path("p.png"));
    let looks = thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut looks = 0;
            while !done.load(Ordering::Relaxed) {
                if path.exists() {
                    load(&path).unwrap();
                    looks += 1;
                }
            }
            looks
        });
        let steps = [
            "generate",
            "a",
            "--size",
            "96x64",
            "--steps",
            "20",
            "--preview",
            "p.png",
        ];
        let outcome = here.sana_on_fixture(&steps);
        done.store(true, Ordering::Relaxed);
        outcome.quiet_success();
        looking.join().unwrap()
    });
    assert!(looks > 0);
    load(&path).unwrap();
}

#[test]
fn previews_that_cannot_be() {
    let here = Workplace::new();
    here.generate(&["--preview", "sana.png"])
        .fails(1, &["--preview", "an image"]);
    here.generate(&["--preview", "p.gif"]).fails(1, &["p.gif"]);
    here.generate(&["--preview", "none/p.png"])
        .fails(1, &["none/p.png"]);
    here.generate(&["--preview-every", "2"])
        .fails(2, &["--preview"]);
    here.generate(&["--preview-terminal"])
        .fails(1, &["not a terminal"]);
    // Events have standard output to themselves.
    here.generate(&["--preview-terminal", "--json"])
        .fails(2, &["--preview-terminal", "--json"]);
    here.sana(&["latent-rgb"]).fails(1, &["--out"]);
}

/// In a terminal each image takes the place of the one before, also in one that says nothing of what it
/// can.
#[cfg(unix)]
#[test]
fn a_terminal_shows_the_steps() {
    for graphics in ["--preview-terminal=blocks", "--preview-terminal"] {
        let here = Workplace::new();
        let sana = env!("CARGO_BIN_EXE_sana");
        let model = crate::support::checkpoint();
        let command = format!(
            "'{sana}' generate a --size 64x64 --steps 3 --device flex --model '{}' {graphics}",
            model.display()
        );
        // It has a terminal for what it runs; nothing answers there.
        let mut script = std::process::Command::new("script");
        script
            .args(["-qec", &command, "/dev/null"])
            .env("TERM", "xterm")
            .current_dir(here.path(""));
        let Ok(output) = script.stdin(std::process::Stdio::null()).output() else {
            eprintln!("skipped: no program `script`");
            return;
        };
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}");
        assert!(said.contains('\u{2584}'), "{said}");
        let ups = said.matches("A\u{1b}[").count() + said.matches("\r\u{1b}[").count();
        assert!(ups >= 2, "{said}");
        assert!(said.contains("wrote sana.png"), "{said}");
    }
}
