//! Folders of images with captions.

use sana_linear_attn::parity::device;

use crate::train::tests::models::tiny_autoencoder;
use crate::train::{DataSource, ImageFolder, LatentPool, PoolOptions, TrainError};

#[test]
fn a_folder_of_images_is_read() {
    let folder = tempfile::tempdir().expect("folder");
    let field = image::RgbImage::from_pixel(40, 20, image::Rgb([255, 0, 0]));
    field.save(folder.path().join("a.png")).expect("image");
    std::fs::write(folder.path().join("a.txt"), " a red field \n").expect("caption");
    let check = || {
        let data = ImageFolder::open(folder.path(), &[[8, 8]]).expect("data");
        let sample = data.sample_at(0, 0, 0).expect("sample");
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
    let data = ImageFolder::open(folder.path(), &[[8, 8]]).expect("data");
    let pixels = data.sample_at(0, 0, 0).expect("sample").pixels;
    let green = &pixels[64..128];
    assert_eq!(green[..32], [1.0; 32]);
    assert_eq!(green[32..], [-1.0; 32]);
}

#[test]
fn a_folder_that_holds_no_data_is_refused() {
    let folder = tempfile::tempdir().expect("folder");
    let refused = || {
        ImageFolder::open(folder.path(), &[[8, 8]])
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
    let error = ImageFolder::open(folder.path(), &[[8, 8]]).expect_err("refused");
    assert!(matches!(error, TrainError::Image(_)), "{error}");
    let missing =
        ImageFolder::open(&folder.path().join("nowhere"), &[[8, 8]]).expect_err("refused");
    assert!(matches!(missing, TrainError::Io { .. }), "{missing}");
}

fn save_field(folder: &std::path::Path, name: &str, red: u8) {
    let field = image::RgbImage::from_pixel(8, 8, image::Rgb([red, 0, 0]));
    field.save(folder.join(name)).expect("image");
}

/// Images without a caption, or with one that is no text, are left out and named.
#[test]
fn images_without_a_caption_are_named() {
    let folder = tempfile::tempdir().expect("folder");
    for name in ["a.png", "b.png", "c.png", "d.png"] {
        save_field(folder.path(), name, 9);
    }
    std::fs::write(folder.path().join("a.txt"), "a field").expect("caption");
    std::fs::write(folder.path().join("b.txt"), [0xff, 0xfe]).expect("caption");
    std::fs::create_dir(folder.path().join("d.txt")).expect("no file");
    let skipped = |data: &ImageFolder| -> Vec<String> {
        let names = data.skipped().iter();
        let names = names.map(|(path, reason)| format!("{}: {reason}", path.display()));
        names.collect()
    };
    let data = ImageFolder::open(folder.path(), &[[8, 8]]).expect("data");
    assert_eq!(data.count(), Some(1));
    let left_out = skipped(&data);
    assert_eq!(left_out.len(), 3, "{left_out:?}");
    let expected = [
        ("b.png: ", "utf-8"),
        ("c.png: ", "c.txt"),
        ("d.png: ", "not a regular file"),
    ];
    for (line, (image, reason)) in left_out.iter().zip(expected) {
        assert!(line.contains(image) && line.contains(reason), "{line}");
    }

    let lines = b"{\"file_name\": \"a.png\", \"text\": \"a field\"}\n{\"file_name\": \"b.png\"}\n\
        {\"file_name\": \"c.png\", \"text\": \"\xff\"}\n";
    std::fs::write(folder.path().join("metadata.jsonl"), lines).expect("metadata");
    let data = ImageFolder::open(folder.path(), &[[8, 8]]).expect("data");
    assert_eq!(data.count(), Some(1));
    let left_out = skipped(&data);
    assert!(
        left_out[0].contains("b.png: it has no text"),
        "{left_out:?}"
    );
    assert!(left_out[1].contains("c.png: invalid utf-8"), "{left_out:?}");

    std::fs::write(
        folder.path().join("metadata.jsonl"),
        "{\"file_name\": \"b.png\"}",
    )
    .unwrap();
    let error = ImageFolder::open(folder.path(), &[[8, 8]]).expect_err("refused");
    let message = error.to_string();
    assert!(
        message.contains("none of its 1 images has a caption"),
        "{message}"
    );
}

/// Texts that have no end or are too large are not read.
#[cfg(unix)]
#[test]
fn texts_are_regular_files_of_a_limited_size() {
    let folder = tempfile::tempdir().expect("folder");
    save_field(folder.path(), "a.png", 9);
    let caption = folder.path().join("a.txt");
    let pipe = |path: &std::path::Path| {
        let made = std::process::Command::new("mkfifo").arg(path).status();
        assert!(made.expect("mkfifo").success());
    };
    let refused = || {
        ImageFolder::open(folder.path(), &[[8, 8]])
            .expect_err("refused")
            .to_string()
    };
    pipe(&caption);
    assert!(refused().contains("not a regular file"), "{}", refused());
    std::fs::remove_file(&caption).expect("removed");
    std::os::unix::fs::symlink("/dev/zero", &caption).expect("link");
    assert!(refused().contains("not a regular file"), "{}", refused());
    std::fs::remove_file(&caption).expect("removed");
    let large = std::fs::File::create(&caption).expect("caption");
    large.set_len((1 << 20) + 1).expect("a hole");
    assert!(refused().contains("larger than"), "{}", refused());

    let metadata = folder.path().join("metadata.jsonl");
    pipe(&metadata);
    assert!(refused().contains("not a regular file"), "{}", refused());
    std::fs::remove_file(&metadata).expect("removed");
    let large = std::fs::File::create(&metadata).expect("metadata");
    large.set_len((256 << 20) + 1).expect("a hole");
    assert!(refused().contains("larger than"), "{}", refused());

    // So are images.
    std::fs::remove_file(&metadata).expect("removed");
    std::fs::write(&caption, "a field").expect("caption");
    std::fs::remove_file(folder.path().join("a.png")).expect("removed");
    pipe(&folder.path().join("a.png"));
    assert!(refused().contains("not a regular file"), "{}", refused());
}

/// A folder is gone through in rounds, and a pool has each image once.
#[test]
fn each_image_once_per_round() {
    let (folder, device) = (tempfile::tempdir().expect("folder"), device());
    for index in 0..8 {
        save_field(folder.path(), &format!("{index}.png"), 30 * index);
        let caption = folder.path().join(format!("{index}.txt"));
        std::fs::write(caption, index.to_string()).expect("caption");
    }
    let data = ImageFolder::open(folder.path(), &[[8, 8]]).expect("data");
    let round = |seed: u64, round: u64| -> Vec<String> {
        let samples = (8 * round..8 * (round + 1)).map(|index| data.sample_at(seed, 0, index));
        samples
            .map(|sample| sample.expect("sample").caption)
            .collect()
    };
    let all: Vec<String> = (0..8).map(|index: u8| index.to_string()).collect();
    for (seed, number) in [(0, 0), (0, 1), (3, 0)] {
        let mut captions = round(seed, number);
        captions.sort();
        assert_eq!(captions, all);
    }
    assert_ne!(round(0, 0), round(0, 1));
    assert_ne!(round(0, 0), round(3, 0));

    let autoencoder = tiny_autoencoder(&device);
    let images = PoolOptions {
        count: 20_000,
        ..PoolOptions::default()
    };
    let pool = LatentPool::encode(&autoencoder, &data, images, &device, |_| ()).expect("pool");
    assert_eq!(pool.len(), 8);
}
