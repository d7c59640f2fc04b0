//! Image files as people have them.

use std::path::Path;

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::codecs::webp::WebPEncoder;
use image::{DynamicImage, ImageEncoder, Rgb, Rgba};
use moxcms::ColorProfile;

use crate::image::*;

const NAME: &str = "given";

fn decoded(bytes: &[u8]) -> RgbImage {
    decode(Path::new(NAME), bytes).unwrap()
}

fn refused(bytes: &[u8]) -> String {
    let message = decode(Path::new(NAME), bytes).unwrap_err().to_string();
    assert!(message.contains(NAME), "{message}");
    message
}

/// EXIF with one entry, the orientation.
fn exif(orientation: u8) -> Vec<u8> {
    let mut exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    exif.extend_from_slice(&[orientation, 0, 0, 0, 0, 0, 0, 0]);
    exif
}

/// A file of each format that is written here, with EXIF, and with an ICC profile if it is given.
fn files(
    image: &DynamicImage,
    exif: &[u8],
    profile: Option<&[u8]>,
) -> [(&'static str, Vec<u8>); 3] {
    fn write(
        image: &DynamicImage,
        exif: &[u8],
        profile: Option<&[u8]>,
        mut encoder: impl ImageEncoder,
    ) {
        encoder.set_exif_metadata(exif.to_vec()).unwrap();
        if let Some(profile) = profile {
            encoder.set_icc_profile(profile.to_vec()).unwrap();
        }
        image.write_with_encoder(encoder).unwrap();
    }
    let mut files = [("png", vec![]), ("jpeg", vec![]), ("webp", vec![])];
    let [png, jpeg, webp] = &mut files;
    write(image, exif, profile, PngEncoder::new(&mut png.1));
    let opaque = DynamicImage::from(image.to_rgb8());
    let encoder = JpegEncoder::new_with_quality(&mut jpeg.1, 100);
    write(&opaque, exif, profile, encoder);
    write(
        &opaque,
        exif,
        profile,
        WebPEncoder::new_lossless(&mut webp.1),
    );
    files
}

fn near(found: [u8; 3], expected: [u8; 3], most: u8) -> bool {
    found
        .iter()
        .zip(expected)
        .all(|(a, b)| a.abs_diff(b) <= most)
}

/// An upright image of 32x64 with red on top and green at its left, stored in each of the eight ways.
#[test]
fn orientations_are_applied() {
    let upright = RgbImage::from_fn(32, 64, |x, y| match (x, y) {
        (_, 0..16) => Rgb([255, 0, 0]),
        (0..16, _) => Rgb([0, 255, 0]),
        _ => Rgb([0, 0, 255]),
    });
    let of = DynamicImage::from(upright.clone());
    let stored = [
        of.clone(),
        of.fliph(),
        of.rotate180(),
        of.flipv(),
        of.rotate90().fliph(),
        of.rotate270(),
        of.rotate270().fliph(),
        of.rotate90(),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (orientation, stored) in (1..).zip(&stored) {
        for (format, bytes) in files(stored, &exif(orientation), None) {
            let found = decoded(&bytes);
            assert_eq!(found.dimensions(), (32, 64), "{format} {orientation}");
            for (x, y) in [(24, 8), (8, 40), (24, 40)] {
                let [found, expected] = [&found, &upright].map(|image| image.get_pixel(x, y).0);
                assert!(
                    near(found, expected, 4),
                    "{format} {orientation}: {found:?}"
                );
            }
            // Masks are turned with their images, and the header has the size.
            let path = folder.path().join(format);
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(load_mask(&path).unwrap().dimensions(), (32, 64));
            assert_eq!(
                dimensions(&path).unwrap(),
                [32, 64],
                "{format} {orientation}"
            );
        }
    }
}

fn png_of(image: &DynamicImage) -> Vec<u8> {
    let [(_, png), ..] = files(image, &exif(1), None);
    png
}

#[test]
fn transparent_pixels_are_on_the_background() {
    let pixels = [
        [255, 0, 0, 255],
        [255, 0, 0, 0],
        [255, 0, 0, 51],
        [7, 8, 9, 0],
    ];
    let image = image::RgbaImage::from_fn(4, 1, |x, _| Rgba(pixels[x as usize]));
    let white = [[255, 0, 0], [255; 3], [255, 204, 204], [255; 3]];
    let blue = [[255, 0, 0], [0, 0, 255], [51, 0, 204], [0, 0, 255]];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    let deep = DynamicImage::from(image.clone()).into_rgba16();
    for image in [DynamicImage::from(image), deep.into()] {
        std::fs::write(&path, png_of(&image)).unwrap();
        let found = [load(&path), load_over(&path, [0, 0, 255])];
        for (found, expected) in found.into_iter().zip([white, blue]) {
            let found: Vec<_> = found.unwrap().pixels().map(|pixel| pixel.0).collect();
            assert_eq!(found, expected);
        }
    }
    // Grey with alpha, on grey and on a colour.
    let gray = image::ImageBuffer::from_fn(2, 1, |x, _| image::LumaA([10u8, 255 * x as u8]));
    let deep = DynamicImage::from(gray.clone()).into_luma_alpha16();
    for image in [DynamicImage::from(gray), deep.into()] {
        std::fs::write(&path, png_of(&image)).unwrap();
        assert_eq!(load(&path).unwrap().into_raw(), [255, 255, 255, 10, 10, 10]);
        let found = load_over(&path, [1, 2, 3]).unwrap().into_raw();
        assert_eq!(found, [1, 2, 3, 10, 10, 10]);
    }
}

/// White under an alpha of 0 is nothing, and a soft alpha fades.
#[test]
fn masks_take_alpha_into_account() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mask.png");
    let alphas = [255, 0, 128];
    let image = image::RgbaImage::from_fn(3, 1, |x, _| Rgba([255, 255, 255, alphas[x as usize]]));
    std::fs::write(&path, png_of(&image.into())).unwrap();
    assert_eq!(load_mask(&path).unwrap().into_raw(), [255, 0, 128]);
    let plain = GrayImage::from_fn(3, 1, |x, _| image::Luma([100 * x as u8]));
    std::fs::write(&path, png_of(&plain.clone().into())).unwrap();
    assert_eq!(load_mask(&path).unwrap(), plain);
}

/// By the primaries and the curve of Display P3, (200, 100, 50) is (214.9, 92.6, 31.0) in sRGB.
#[test]
fn colours_are_converted_to_srgb() {
    let profile = ColorProfile::new_display_p3().encode().unwrap();
    let image = DynamicImage::from(RgbImage::from_pixel(16, 16, Rgb([200, 100, 50])));
    for (format, bytes) in files(&image, &exif(1), Some(&profile)) {
        let found = decoded(&bytes).get_pixel(3, 3).0;
        assert!(near(found, [215, 93, 31], 2), "{format}: {found:?}");
    }
    let deep = DynamicImage::from(image.to_rgba16());
    let [(_, png), ..] = files(&deep, &exif(1), Some(&profile));
    let found = decoded(&png).get_pixel(3, 3).0;
    assert!(near(found, [215, 93, 31], 2), "16 bits: {found:?}");
}

/// A profile that says what is taken for granted changes nothing, nor does one that is not valid.
#[test]
fn srgb_stays_byte_for_byte() {
    let pixels = RgbImage::from_fn(64, 64, |x, y| {
        Rgb([4 * x as u8, 4 * y as u8, (x * y) as u8])
    });
    let srgb = ColorProfile::new_srgb().encode().unwrap();
    let gray = ColorProfile::new_gray_with_gamma(1.0).encode().unwrap();
    for profile in [&srgb[..], b"no profile", &gray[..]] {
        let [png, _, webp] = files(&pixels.clone().into(), &exif(1), Some(profile));
        for (format, bytes) in [png, webp] {
            assert_eq!(decoded(&bytes), pixels, "{format}");
        }
    }
}

#[test]
fn grey_profiles_are_converted() {
    // Linear light of one half is 188 in sRGB.
    let profile = ColorProfile::new_gray_with_gamma(1.0).encode().unwrap();
    let gray = DynamicImage::from(GrayImage::from_pixel(4, 4, image::Luma([128])));
    for image in [gray.clone(), gray.to_luma_alpha16().into()] {
        let [(_, png), ..] = files(&image, &exif(1), Some(&profile));
        let found = decoded(&png).get_pixel(1, 1).0;
        assert!(near(found, [188; 3], 2), "{found:?}");
    }
}

/// Sixteen bits, palettes, and grey of few bits.
#[test]
fn depths_and_palettes() {
    let deep = image::ImageBuffer::from_pixel(2, 2, Rgb([0xffffu16, 0x8080, 0x0101]));
    let deep = DynamicImage::ImageRgb16(deep);
    assert_eq!(decoded(&png_of(&deep)).get_pixel(0, 0).0, [255, 128, 1]);

    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 2, 1);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::One);
    encoder.set_palette(vec![9, 8, 7, 200, 100, 0]);
    encoder.set_trns(vec![255, 0]);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&[0b0100_0000]).unwrap();
    writer.finish().unwrap();
    assert_eq!(decoded(&file).into_raw(), [9, 8, 7, 255, 255, 255]);

    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 4, 1);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Two);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&[0b0001_1011]).unwrap();
    writer.finish().unwrap();
    let gray: Vec<u8> = decoded(&file).pixels().map(|pixel| pixel.0[0]).collect();
    assert_eq!(gray, [0, 85, 170, 255]);
}

/// A baseline JPEG of one block of 8x8 in four channels, as Adobe's programs write CMYK: inverted,
/// so that 255 is no ink.
fn cmyk_jpeg(inverted: [u8; 4]) -> Vec<u8> {
    let mut file = b"\xff\xd8\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0".to_vec();
    // Quantized by 8, so that the first coefficient is the level of the block.
    file.extend_from_slice(b"\xff\xdb\0\x43\0");
    file.extend_from_slice(&[8; 64]);
    file.extend_from_slice(b"\xff\xc0\0\x14\x08\0\x08\0\x08\x04");
    (1..=4).for_each(|channel| file.extend_from_slice(&[channel, 0x11, 0]));
    // Twelve codes of four bits for the first coefficient, one of one bit for the end of the block.
    file.extend_from_slice(b"\xff\xc4\0\x1f\0\0\0\0\x0c\0\0\0\0\0\0\0\0\0\0\0\0");
    file.extend(0..12);
    file.extend_from_slice(b"\xff\xc4\0\x14\x10\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    file.extend_from_slice(b"\xff\xda\0\x0e\x04\x01\0\x02\0\x03\0\x04\0\0\x3f\0");
    let mut bits = Vec::new();
    let mut push = |value: u32, length: u32| {
        bits.extend((0..length).rev().map(|bit| value >> bit & 1));
    };
    for level in inverted.map(|level| i32::from(level) - 128) {
        let length = 32 - level.unsigned_abs().leading_zeros();
        push(length, 4);
        let value = if level < 0 {
            level + (1 << length) - 1
        } else {
            level
        };
        push(value as u32, length);
        push(0, 1);
    }
    bits.resize(bits.len().next_multiple_of(8), 1);
    for byte in bits.chunks(8) {
        let byte = byte.iter().fold(0, |byte, bit| byte << 1 | *bit) as u8;
        file.push(byte);
        if byte == 0xff {
            file.push(0);
        }
    }
    file.extend_from_slice(b"\xff\xd9");
    file
}

#[test]
fn cmyk_is_read() {
    for (inverted, expected) in [
        ([255, 255, 255, 255], [255; 3]),
        ([255, 0, 0, 255], [255, 0, 0]),
        ([0, 255, 255, 255], [0, 255, 255]),
        ([200, 100, 50, 128], [100, 50, 25]),
        ([255, 255, 255, 0], [0; 3]),
    ] {
        let found = decoded(&cmyk_jpeg(inverted));
        assert_eq!(found.dimensions(), (8, 8));
        let found = found.get_pixel(4, 4).0;
        assert!(near(found, expected, 2), "{inverted:?}: {found:?}");
    }
}

#[test]
fn files_that_end_too_early() {
    let pixels = RgbImage::from_fn(64, 64, |x, y| {
        Rgb([4 * x as u8, 4 * y as u8, (x * y) as u8])
    });
    for (format, bytes) in files(&pixels.into(), &exif(1), None) {
        decoded(&bytes);
        let message = refused(&bytes[..2 * bytes.len() / 3]);
        if format == "jpeg" {
            assert!(message.contains("the file ends before"), "{message}");
        }
    }
}

#[test]
fn other_formats_are_named() {
    let message = refused(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic");
    assert!(message.contains("HEIC"), "{message}");
    assert!(
        message.contains("convert it to PNG, JPEG or WebP"),
        "{message}"
    );
}

#[test]
#[cfg(unix)]
fn pipes_and_devices_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe.png");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    for path in [pipe.as_path(), Path::new("/dev/zero")] {
        for result in [
            load(path).err(),
            load_mask(path).err(),
            dimensions(path).err(),
        ] {
            let message = result.unwrap().to_string();
            assert!(message.contains("not a regular file"), "{message}");
        }
    }
}

/// Opacity next to the pixels, which are those of [`decode`], turned with them.
#[test]
fn alpha_next_to_the_pixels() {
    let path = Path::new("upload");
    let png = |image: DynamicImage| {
        let mut file = std::io::Cursor::new(Vec::new());
        image.write_to(&mut file, image::ImageFormat::Png).unwrap();
        file.into_inner()
    };
    let levels = [0u8, 100, 255];
    let pixels = image::RgbaImage::from_fn(3, 2, |x, y| {
        image::Rgba([9, 90 * y as u8, 200, levels[x as usize]])
    });
    let file = png(pixels.into());
    let (found, alpha) = decode_with_alpha(path, &file).unwrap();
    assert_eq!(found, decode(path, &file).unwrap());
    assert_eq!(alpha.as_raw(), &[levels, levels].concat());
    let opaque = png(RgbImage::new(3, 2).into());
    let (_, alpha) = decode_with_alpha(path, &opaque).unwrap();
    assert_eq!(alpha.as_raw(), &[255; 6]);
    assert!(decode_with_alpha(path, b"GIF89a").is_err());
}
