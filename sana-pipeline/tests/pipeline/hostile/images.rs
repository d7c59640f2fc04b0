//! PNG, JPEG and WebP.

use std::io::{Cursor, Write};
use std::path::Path;

use image::ImageFormat;
use proptest::prelude::*;
use sana_pipeline::image::{RgbImage, decode, fit, load, read_text, save_png, text_of};

use super::allocations::peak_of;
use super::mutations::{edited, edits};
use super::{cases, entry};

/// What the largest image that is read needs: 512 MiB in the decoder, and as RGB8.
const LARGEST: usize = (512 << 20) + (3 << 26) + (16 << 20);
/// What a file that is refused by its header needs.
const SMALL: usize = 1 << 20;

fn sample() -> RgbImage {
    RgbImage::from_fn(23, 17, |x, y| {
        image::Rgb([9 * x as u8, 13 * y as u8, (x * y) as u8])
    })
}

fn png_file() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    let text = [("prompt", "ein grüner Kreis"), ("seed", "7")];
    save_png(&path, &sample(), &text).unwrap();
    std::fs::read(path).unwrap()
}

fn jpeg_file() -> Vec<u8> {
    let mut bytes = Vec::new();
    sample()
        .write_to(&mut Cursor::new(&mut bytes), ImageFormat::Jpeg)
        .unwrap();
    bytes
}

fn webp_file() -> Vec<u8> {
    let mut bytes = Vec::new();
    sample()
        .write_to(&mut Cursor::new(&mut bytes), ImageFormat::WebP)
        .unwrap();
    bytes
}

fn bounded(bytes: &[u8]) -> (bool, usize) {
    let (found, peak) = peak_of(|| entry::image(bytes));
    assert!(peak <= LARGEST + 8 * bytes.len(), "{peak}");
    found
}

#[test]
fn the_files_that_are_changed_are_right() {
    assert_eq!(bounded(&png_file()), (true, 2));
    assert_eq!(bounded(&jpeg_file()), (true, 0));
    assert_eq!(bounded(&webp_file()), (true, 0));
}

/// A PNG with its checksums put right, so that a change gets past them.
fn with_checksums(mut png: Vec<u8>) -> Vec<u8> {
    let mut position = 8;
    while let Some(length) = png.get(position..position + 4) {
        let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
        let end = position.saturating_add(8).saturating_add(length);
        if end.saturating_add(4) > png.len() {
            break;
        }
        let sum = crc32(&png[position + 4..end]).to_be_bytes();
        png[end..end + 4].copy_from_slice(&sum);
        position = end + 4;
    }
    png
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & 0u32.wrapping_sub(crc & 1))
        })
    };
    !bytes.iter().fold(!0, step)
}

#[test]
fn checksums_are_those_of_the_format() {
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    let file = png_file();
    assert_eq!(with_checksums(file.clone()), file);
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        bounded(&bytes);
    }

    #[test]
    fn changed_png(edits in edits()) {
        bounded(&edited(&png_file(), &edits));
        bounded(&with_checksums(edited(&png_file(), &edits)));
    }

    #[test]
    fn changed_webp(edits in edits()) {
        bounded(&edited(&webp_file(), &edits));
    }

    #[test]
    fn changed_jpeg(edits in edits()) {
        bounded(&edited(&jpeg_file(), &edits));
    }

    /// Width, height, depth, colour type and interlacing, with checksums that are right.
    #[test]
    fn any_header_of_a_png(header in any::<[u8; 13]>(), low in any::<bool>()) {
        let mut png = png_file();
        png[16..29].copy_from_slice(&header);
        if low {
            // Sides below 65536, and kinds of pixels that exist.
            png[16..18].fill(0);
            png[20..22].fill(0);
            png[24] = 1 << (header[8] % 5);
            png[25] = [0, 2, 3, 4, 6][usize::from(header[9] % 5)];
            png[26..28].fill(0);
            png[28] = header[12] % 2;
        }
        bounded(&with_checksums(png));
    }
}

/// A PNG of `width` x `height` black pixels, of which only the first few bytes are there.
fn claims(width: u32, height: u32) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    let mut writer = encoder.write_header().unwrap();
    writer
        .write_chunk(png::chunk::IDAT, &[0x78, 0x9c, 3, 0])
        .unwrap();
    drop(writer);
    file
}

#[test]
fn images_that_claim_to_be_huge() {
    let name = Path::new("small.png");
    for (width, height) in [(60_000, 60_000), (16_385, 1), (1, 16_385), (16_000, 16_000)] {
        let file = claims(width, height);
        assert!(file.len() < 200);
        let (result, peak) = peak_of(|| decode(name, &file));
        let message = result.unwrap_err().to_string();
        for part in ["small.png", &format!("{width}x{height}"), "16384 a side"] {
            assert!(message.contains(part), "{part:?} in {message}");
        }
        assert!(peak < SMALL, "{peak} bytes for {width}x{height}");
        // Its texts are read without its pixels.
        let (texts, peak) = peak_of(|| text_of(name, &file));
        assert_eq!(texts.unwrap(), []);
        assert!(
            peak < SMALL,
            "{peak} bytes for the texts of {width}x{height}"
        );
    }
    let (result, peak) = peak_of(|| decode(name, &claims(u32::MAX >> 1, 1)));
    assert!(result.is_err() && peak < SMALL, "{peak}");

    // The sides of a JPEG stand behind its marker SOF0.
    let mut file = jpeg_file();
    let marker = file
        .windows(2)
        .position(|pair| pair == [0xff, 0xc0])
        .unwrap();
    file[marker + 5..marker + 9].copy_from_slice(&[0xea, 0x60, 0xea, 0x60]);
    let (result, peak) = peak_of(|| decode(name, &file));
    let message = result.unwrap_err().to_string();
    assert!(message.contains("60000x60000"), "{message}");
    assert!(peak < SMALL, "{peak}");
}

fn with_texts(write: impl FnOnce(&mut png::Writer<&mut Vec<u8>>)) -> Vec<u8> {
    let mut file = Vec::new();
    let mut writer = png::Encoder::new(&mut file, 1, 1).write_header().unwrap();
    write(&mut writer);
    writer.write_image_data(&[0]).unwrap();
    drop(writer);
    file
}

#[test]
fn texts_that_unpack_without_end() {
    let name = Path::new("bomb.png");
    let refused = |file: &[u8], expected: &str| {
        let (result, peak) = peak_of(|| text_of(name, file));
        let message = result.unwrap_err().to_string();
        assert!(message.contains("bomb.png"), "{message}");
        assert!(message.contains(expected), "{expected:?} in {message}");
        // The chunks that are held at once, twice while their buffer grows.
        assert!(peak < 48 << 20, "{peak}");
    };
    let long = "a".repeat(20 << 20);
    let file = with_texts(|writer| {
        let chunk = png::text_metadata::ZTXtChunk::new("prompt", long.as_str());
        writer.write_text_chunk(&chunk).unwrap();
    });
    // How small it gets depends on the compressor.
    assert!(file.len() < long.len() / 50);
    refused(&file, "");
    let file = with_texts(|writer| {
        let mut chunk = png::text_metadata::ITXtChunk::new("prompt", long.as_str());
        chunk.compressed = true;
        writer.write_text_chunk(&chunk).unwrap();
    });
    refused(&file, "");
    // Each short enough by itself.
    let megabyte = "a".repeat(1 << 20);
    let file = with_texts(|writer| {
        for _ in 0..5 {
            let chunk = png::text_metadata::ZTXtChunk::new("prompt", megabyte.as_str());
            writer.write_text_chunk(&chunk).unwrap();
        }
    });
    refused(&file, "4194304 bytes of text");
    let many = |count: usize| {
        with_texts(|writer| {
            for _ in 0..count {
                let chunk = png::text_metadata::TEXtChunk::new("a", "b");
                writer.write_text_chunk(&chunk).unwrap();
            }
        })
    };
    refused(&many(257), "256 text chunks");
    assert_eq!(text_of(name, &many(256)).unwrap().len(), 256);
    let long = with_texts(|writer| {
        let chunk = png::text_metadata::TEXtChunk::new("a", "b".repeat(17 << 20));
        writer.write_text_chunk(&chunk).unwrap();
    });
    refused(&long, "limits are exceeded");
}

#[test]
fn files_that_are_not_images() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.png");
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(&png_file()).unwrap();
    file.set_len((256 << 20) + 1).unwrap();
    drop(file);
    for result in [load(&path).err(), read_text(&path).err()] {
        let message = result.unwrap().to_string();
        assert!(message.contains("large.png"), "{message}");
        assert!(message.contains("larger than 268435456 bytes"), "{message}");
    }
    assert!(load(folder.path()).is_err());
    #[cfg(unix)]
    {
        let link = folder.path().join("endless.png");
        std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
        let message = load(&link).unwrap_err().to_string();
        assert!(message.contains("not a regular file"), "{message}");
    }
}

/// Resized whole, the long side would become eight million pixels.
#[test]
fn long_images_are_fitted_in_little_memory() {
    let long = RgbImage::from_fn(16_384, 1, |x, _| match x {
        8190..8194 => image::Rgb([255, 0, 0]),
        _ => image::Rgb([0, 0, 255]),
    });
    let (fitted, peak) = peak_of(|| fit(&long, 512, 512));
    assert_eq!(fitted.dimensions(), (512, 512));
    assert!(peak < 64 << 20, "{peak}");
    assert_eq!(fitted.get_pixel(256, 256).0, [255, 0, 0]);
    let high = image::imageops::rotate90(&long);
    assert_eq!(fit(&high, 512, 512).dimensions(), (512, 512));
}
