use std::fs;

use super::{draw, sheet, write_sheet};
use crate::sprites::SpriteSheet;

#[test]
fn things_and_their_boxes() {
    let sheet = sheet();
    let names: Vec<&str> = sheet.things().iter().map(|thing| &*thing.name).collect();
    assert_eq!(names, ["disc", "bar", "ring", "drops"]);
    assert!(sheet.things()[1].mirrors && !sheet.things()[0].mirrors);
    assert_eq!(sheet.things()[3].plural, None);
    // 0.9 of 32 pixels to each side, and 0.3.
    let (width, height) = sheet.sprite(1).extent;
    assert!((width - 58.0).abs() <= 1.0, "{width}");
    assert!((height - 19.0).abs() <= 1.0, "{height}");
}

#[test]
fn the_middle_of_every_size_is_the_thing() {
    let sheet = sheet();
    let sprite = sheet.sprite(0);
    for scale in [1.0, 0.4, 0.2, 0.01] {
        let (level, _) = sprite.level_for(scale);
        let [r, g, b, alpha] = sprite.sample(level, 0.0, 0.0);
        assert!((alpha - 1.0).abs() < 1e-3, "{scale} {alpha}");
        assert!(r > 0.6 && g < 0.05 && b < 0.05, "{scale} {r} {g} {b}");
        assert_eq!(sprite.sample(level, 100.0, 0.0), [0.0; 4]);
    }
}

/// The share of an image that a thing covers does not change with its size.
#[test]
fn halving_keeps_the_area() {
    let sheet = sheet();
    for thing in 0..4 {
        let sprite = sheet.sprite(thing);
        let area = |scale: f32| {
            let (level, length) = sprite.level_for(scale);
            let mut sum = 0.0;
            for y in -40..40 {
                for x in -40..40 {
                    sum += sprite.sample(level, x as f32 + 0.5, y as f32 + 0.5)[3];
                }
            }
            sum * length * length
        };
        let whole = area(1.0);
        for scale in [0.5, 0.25] {
            assert!((area(scale) / whole - 1.0).abs() < 0.01, "{thing} {scale}");
        }
    }
}

#[test]
fn folders_that_cannot_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let refused = || SpriteSheet::open(folder.path()).unwrap_err().to_string();
    assert!(
        refused().contains("docs/tools/sprites/fetch"),
        "{}",
        refused()
    );
    write_sheet(folder.path());
    assert!(SpriteSheet::open(folder.path()).is_ok());

    let list = folder.path().join("sprites.json");
    for (text, expected) in [
        ("[]", "it lists no things"),
        ("{}", "invalid type"),
        (
            r#"[{"file": "bar.png", "name": "a"}, {"file": "bar.png", "name": "a"}]"#,
            "\"a\" is listed twice",
        ),
        (r#"[{"file": "none.png", "name": "a"}]"#, "none.png"),
        (
            r#"[{"file": "sprites.json", "name": "a"}]"#,
            "neither a PNG nor a WebP",
        ),
        (
            r#"[{"file": "../bar.png", "name": "a"}]"#,
            "not inside the folder",
        ),
        (
            r#"[{"file": "/dev/zero", "name": "a"}]"#,
            "not inside the folder",
        ),
        (
            r#"[{"file": "bar.png", "name": "a", "article": "the"}]"#,
            "the article of \"a\" is \"the\"",
        ),
        (
            r#"[{"file": "bar.png", "name": "a", "plural": " "}]"#,
            "has the word \" \"",
        ),
        (
            r#"[{"file": "bar.png", "name": "a"}, {"file": "disc.png", "name": "b", "synonyms": ["a"]}]"#,
            "\"a\" is listed twice",
        ),
        (
            r#"[{"file": "bar.png", "name": "Red  box"}, {"file": "disc.png", "name": "red box"}]"#,
            "\"red box\" is listed twice",
        ),
        (
            r#"[{"file": "bar.png", "name": "a", "plural": "c"}, {"file": "disc.png", "name": "b", "plural": "C"}]"#,
            "the plural \"C\" is listed twice",
        ),
    ] {
        fs::write(&list, text).unwrap();
        assert!(refused().contains(expected), "{text}: {}", refused());
    }
    let large = image::RgbaImage::new(1025, 1);
    large.save(folder.path().join("large.png")).unwrap();
    fs::write(&list, r#"[{"file": "large.png", "name": "a"}]"#).unwrap();
    assert!(refused().contains("1025 x 1 pixels"), "{}", refused());
    draw(&folder.path().join("empty.png"), [0; 3], |_, _| false);
    fs::write(&list, r#"[{"file": "empty.png", "name": "a"}]"#).unwrap();
    assert!(
        refused().contains("transparent everywhere"),
        "{}",
        refused()
    );
}

#[test]
fn another_image_is_another_sheet() {
    let folder = tempfile::tempdir().unwrap();
    write_sheet(folder.path());
    let hash = || SpriteSheet::open(folder.path()).unwrap().stable_hash();
    let before = hash();
    assert_eq!(hash(), before);
    draw(&folder.path().join("bar.png"), [1, 2, 3], |_, _| true);
    assert_ne!(hash(), before);
}
