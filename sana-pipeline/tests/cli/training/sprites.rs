//! Scenes of little things, of a folder of sprites.

use super::*;

const LIST: &str = r#"[
    {"file": "disc.png", "name": "disc", "article": "a", "plural": "discs"},
    {"file": "block.png", "name": "block", "article": "a", "plural": "blocks"}
]"#;

fn sprites(here: &Workplace) {
    let folder = here.path("things");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("sprites.json"), LIST).unwrap();
    for (name, is_disc) in [("disc.png", true), ("block.png", false)] {
        let image = image::RgbaImage::from_fn(32, 32, |x, y| {
            let [x, y] = [x, y].map(|at| (at as f32 - 15.5) / 15.0);
            let inside = if is_disc {
                x.hypot(y) < 1.0
            } else {
                y.abs() < 0.8
            };
            image::Rgba([200, 40, 40, if inside { 255 } else { 0 }])
        });
        image.save(folder.join(name)).unwrap();
    }
}

/// The architectures are those of the sprites model, and captions name the things.
#[test]
fn a_model_of_sprites() {
    let here = Workplace::new();
    sprites(&here);
    let data = ["--data", "sprites:things", "--batch", "1", "--steps", "1"];
    let common = ["--device", "flex", "--size", "32"];
    let start = ["train", "autoencoder", "--out", "ae"];
    here.sana(&[&start, &common[..], &data, &["--edges", "0.5"]].concat())
        .quiet_success();
    let start = [
        "train",
        "transformer",
        "--out",
        "model",
        "--autoencoder",
        "ae",
    ];
    let pool = ["--pool", "2"];
    here.sana(&[&start, &common[..], &data, &pool].concat())
        .quiet_success();

    let json =
        |file: &str| -> serde_json::Value { serde_json::from_slice(&here.bytes(file)).unwrap() };
    let content = json("model/state.json")["settings"]["data"].clone();
    let content = content.as_str().unwrap();
    assert!(content.starts_with("sprites, 2 things, "), "{content}");
    assert_eq!(json("ae/state.json")["settings"]["edges"], 0.5);
    assert_eq!(
        json("model/model_index.json")["_sana"]["variant"],
        "sprites"
    );
    assert_eq!(json("model/transformer/config.json")["num_layers"], 8);
    assert_eq!(
        json("model/vae/config.json")["encoder_block_out_channels"][5],
        128
    );
    let vocab = json("model/tokenizer/tokenizer.json")["model"]["vocab"].clone();
    let tokens = vocab.as_object().unwrap();
    assert!(
        tokens.keys().any(|token| token.contains("meadow")),
        "{tokens:?}"
    );

    // Other things are other data.
    let mirrored = LIST.replace("\"discs\"", "\"discs\", \"mirrors\": true");
    std::fs::write(here.path("things/sprites.json"), mirrored).unwrap();
    here.sana(&[&start, &common[..], &data, &pool].concat())
        .fails(1, &["data is"]);
    std::fs::remove_file(here.path("things/disc.png")).unwrap();
    here.sana(&[&start, &common[..], &data, &pool].concat())
        .fails(1, &["disc.png"]);
    let elsewhere = ["--data", "sprites:nowhere", "--batch", "1", "--steps", "1"];
    here.sana(&[&start, &common[..], &elsewhere, &pool].concat())
        .fails(1, &["sprites.json", "docs/tools/sprites/fetch"]);
}
