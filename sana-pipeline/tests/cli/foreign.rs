//! What is written for other programs, and read of them.

use std::io::Cursor;

use exif::{Field, In, Tag, Value};
use image::ImageEncoder;
use image::codecs::jpeg::JpegEncoder;
use sana_pipeline::image::{GrayImage, PARAMETERS, RgbImage, XMP, save_png};

use crate::support::Workplace;

/// As AUTOMATIC1111's web UI writes it.
const WEB_UI: &str = "a cat, <lora:x:0.5>\nNegative prompt: blurry\nSteps: 30, Sampler: DPM++ 2M, CFG scale: 7, \
                      Seed: 965400086, Size: 512x768, Model: v1-5-pruned-emaonly, Version: v1.10.1";

fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn images_carry_what_others_read() {
    let here = Workplace::new();
    let negative = ["--seed", "7", "--negative", "a square"];
    here.generate(&negative).quiet_success();
    let parameters = here.text("sana.png", PARAMETERS).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!(
        "a red circle\nNegative prompt: a square\nSteps: 2, Sampler: Flow DPM++ 2M, CFG scale: 4.5, Seed: 7, \
         Size: 96x64, Model: sana, Version: sana {version}"
    );
    assert_eq!(parameters, expected);
    let file = here.bytes("sana.png");
    // The kinds of chunks that readers look for.
    for part in [
        &b"tEXtparameters\0"[..],
        b"iTXtXML:com.adobe.xmp\0",
        b"sRGB\0",
    ] {
        assert!(has(&file, part), "{}", String::from_utf8_lossy(part));
    }
    let said = here.sana(&["inspect", "sana.png"]).quiet_success();
    let source = "source-type    trainedAlgorithmicMedia\n";
    assert!(said.contains(source) && !said.contains("Sampler"), "{said}");
    let json = here
        .sana(&["inspect", "sana.png", "--json"])
        .quiet_success();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["source-type"], "trainedAlgorithmicMedia");
    assert!(json[PARAMETERS].is_null() && json[XMP].is_null());

    for name in ["a.jpg", "a.webp"] {
        here.generate(&[&negative[..], &["--out", name]].concat())
            .quiet_success();
        assert_eq!(here.sana(&["inspect", name]).quiet_success(), said);
        assert_eq!(here.text(name, PARAMETERS), Some(expected.clone()));
    }
    assert!(has(
        &here.bytes("a.jpg"),
        b"http://ns.adobe.com/xap/1.0/\0<?xpacket"
    ));
    assert!(has(&here.bytes("a.webp"), b"XMP "));

    // A text chunk of Latin-1 cannot hold it.
    here.generate(&["--negative", "红色", "--no-mark"])
        .quiet_success();
    assert!(has(&here.bytes("sana.png"), b"iTXtparameters\0"));
    assert!(
        here.text("sana.png", PARAMETERS)
            .unwrap()
            .contains("\nNegative prompt: 红色\n")
    );
    assert_eq!(here.text("sana.png", XMP), None);
    let said = here.sana(&["inspect", "sana.png"]).quiet_success();
    assert!(!said.contains("source-type"), "{said}");
}

#[test]
fn a_part_of_another_image_is_said_to_be_kept() {
    let here = Workplace::new();
    save_png(&here.path("in.png"), &RgbImage::new(96, 64), &[]).unwrap();
    let mask = GrayImage::from_fn(96, 64, |x, _| image::Luma([if x < 48 { 255 } else { 0 }]));
    mask.save(here.path("mask.png")).unwrap();
    here.generate(&["--image", "in.png", "--mask", "mask.png"])
        .quiet_success();
    let said = here.sana(&["inspect", "sana.png"]).quiet_success();
    assert!(
        said.contains("compositeWithTrainedAlgorithmicMedia"),
        "{said}"
    );
    here.generate(&["--image", "in.png", "--strength", "0.5"])
        .quiet_success();
    let parameters = here.text("sana.png", PARAMETERS).unwrap();
    assert!(
        parameters.contains("Denoising strength: 0.5"),
        "{parameters}"
    );
}

#[test]
fn images_of_the_web_ui_are_inspected() {
    let here = Workplace::new();
    let pixels = RgbImage::new(8, 8);
    save_png(&here.path("a.png"), &pixels, &[(PARAMETERS, WEB_UI)]).unwrap();
    let units = WEB_UI.encode_utf16().flat_map(u16::to_be_bytes);
    let comment = b"UNICODE\0".iter().copied().chain(units).collect();
    let field = Field {
        tag: Tag::UserComment,
        ifd_num: In::PRIMARY,
        value: Value::Undefined(comment, 0),
    };
    let (mut writer, mut metadata) = (exif::experimental::Writer::new(), Cursor::new(Vec::new()));
    writer.push_field(&field);
    writer.write(&mut metadata, false).unwrap();
    let mut file = Vec::new();
    let mut encoder = JpegEncoder::new(&mut file);
    encoder.set_exif_metadata(metadata.into_inner()).unwrap();
    encoder
        .encode(&pixels, 8, 8, image::ExtendedColorType::Rgb8)
        .unwrap();
    std::fs::write(here.path("a.jpg"), file).unwrap();
    for name in ["a.png", "a.jpg"] {
        let said = here.sana(&["inspect", name]).quiet_success();
        assert!(
            said.starts_with("as AUTOMATIC1111's web UI writes it:\n"),
            "{said}"
        );
        for line in [
            "  prompt             a cat, <lora:x:0.5>\n",
            "  negative           blurry\n",
            "  Sampler            DPM++ 2M\n",
            "  Seed               965400086\n",
        ] {
            assert!(said.contains(line), "{line} in {said}");
        }
        let json = here.sana(&["inspect", name, "--json"]).quiet_success();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json[PARAMETERS]["Size"], "512x768");
        assert_eq!(json[PARAMETERS]["prompt"], "a cat, <lora:x:0.5>");
        // It is no record of ours.
        here.sana(&["generate", "--from-image", name])
            .fails(1, &["no record"]);
    }
    // What acts on a terminal is escaped here too.
    let hostile = "a\x1b[2J\nSteps: 1\x1b[1A, Seed: 2, Size: 3x4";
    save_png(&here.path("b.png"), &pixels, &[(PARAMETERS, hostile)]).unwrap();
    let said = here.sana(&["inspect", "b.png"]).quiet_success();
    assert!(said.contains("Steps") && !said.contains('\x1b'), "{said}");
}

#[test]
fn no_text_is_passed_over_in_silence() {
    let here = Workplace::new();
    let pixels = RgbImage::new(8, 8);
    // Under the keyword of the web UI, in another form.
    let other = "{\"prompt\": \"a cat\"}";
    save_png(&here.path("a.png"), &pixels, &[(PARAMETERS, other)]).unwrap();
    let said = here.sana(&["inspect", "a.png"]).quiet_success();
    assert!(
        said.contains("\"parameters\"") && said.contains(other),
        "{said}"
    );
    let json = here.sana(&["inspect", "a.png", "--json"]).quiet_success();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[PARAMETERS], other);
    // XMP that names no source.
    save_png(&here.path("b.png"), &pixels, &[(XMP, "<x:xmpmeta/>")]).unwrap();
    here.sana(&["inspect", "b.png"])
        .fails(1, &["does not say how it was made"]);
}
