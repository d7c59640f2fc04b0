//! Folders of images with captions.

use crate::train::{Data, TrainError};

#[test]
fn a_folder_of_images_is_read() {
    let folder = tempfile::tempdir().expect("folder");
    let field = image::RgbImage::from_pixel(40, 20, image::Rgb([255, 0, 0]));
    field.save(folder.path().join("a.png")).expect("image");
    std::fs::write(folder.path().join("a.txt"), " a red field \n").expect("caption");
    let check = || {
        let data = Data::open_folder(folder.path(), 8).expect("data");
        let sample = data.sample(&mut rand::rng()).expect("sample");
        assert_eq!(sample.caption, "a red field");
        assert_eq!(sample.pixels.len(), 3 * 8 * 8);
        assert!(sample.pixels[..64].iter().all(|&red| red == 1.0));
        assert!(sample.pixels[64..].iter().all(|&other| other == -1.0));
    };
    check();
    let line = r#"{"file_name": "a.png", "text": "a red field"}"#;
    std::fs::write(folder.path().join("metadata.jsonl"), line).expect("metadata");
    std::fs::remove_file(folder.path().join("a.txt")).expect("removed");
    check();
}

/// Transparent pixels are white, and EXIF turns what is stored on its side: the left half of the file
/// is the upper one of the image.
#[test]
fn images_are_read_as_they_are_shown() {
    use image::ImageEncoder;
    let folder = tempfile::tempdir().expect("folder");
    let field = image::RgbaImage::from_fn(8, 8, |x, _| {
        image::Rgba([255, 0, 0, if x < 4 { 0 } else { 255 }])
    });
    let mut file = Vec::new();
    let mut encoder = image::codecs::png::PngEncoder::new(&mut file);
    let mut exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    exif.extend_from_slice(&[6, 0, 0, 0, 0, 0, 0, 0]);
    encoder.set_exif_metadata(exif).expect("EXIF");
    field.write_with_encoder(encoder).expect("image");
    std::fs::write(folder.path().join("a.png"), file).expect("file");
    std::fs::write(folder.path().join("a.txt"), "a red field").expect("caption");
    let data = Data::open_folder(folder.path(), 8).expect("data");
    let pixels = data.sample(&mut rand::rng()).expect("sample").pixels;
    let green = &pixels[64..128];
    assert_eq!(green[..32], [1.0; 32]);
    assert_eq!(green[32..], [-1.0; 32]);
}

#[test]
fn a_folder_that_holds_no_data_is_refused() {
    let folder = tempfile::tempdir().expect("folder");
    let refused = || {
        Data::open_folder(folder.path(), 8)
            .expect_err("refused")
            .to_string()
    };
    assert!(
        refused().contains("expected NAME.png with NAME.txt"),
        "{}",
        refused()
    );
    let metadata = folder.path().join("metadata.jsonl");
    std::fs::write(&metadata, "{\"file_name\": \"../a.png\", \"text\": \"\"}").expect("metadata");
    assert!(
        refused().contains("line 1: \"../a.png\" leaves the folder"),
        "{}",
        refused()
    );
    std::fs::write(&metadata, "\n{\"file_name\": 3}").expect("metadata");
    assert!(refused().contains("line 2"), "{}", refused());
    // Every image is looked at before the training starts.
    let line = r#"{"file_name": "gone.png", "text": "a red field"}"#;
    std::fs::write(&metadata, line).expect("metadata");
    assert!(refused().contains("gone.png"), "{}", refused());
    std::fs::write(folder.path().join("gone.png"), "not an image").expect("file");
    let error = Data::open_folder(folder.path(), 8).expect_err("refused");
    assert!(matches!(error, TrainError::Image(_)), "{error}");
    let missing = Data::open_folder(&folder.path().join("nowhere"), 8).expect_err("refused");
    assert!(matches!(missing, TrainError::Io { .. }), "{missing}");
}
