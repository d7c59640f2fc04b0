//! Colours of a file as the networks take them: sRGB, without transparency.

use std::sync::Arc;

use image::DynamicImage;
use moxcms::{ColorProfile, DataColorSpace, Layout, TransformExecutor, TransformOptions};
use rayon::prelude::*;

type Transform<T> = Arc<dyn TransformExecutor<T> + Send + Sync>;

/// Converts an image from its ICC profile to sRGB, with the channels and the depth that it has.
///
/// A profile that cannot be used, or that is of other channels than the image has, is ignored, as
/// viewers do. So is one that changes no value by more than the rounding to eight bits: pixels of
/// sRGB files stay as they are.
pub(super) fn to_srgb(image: &mut DynamicImage, profile: &[u8]) {
    let Ok(profile) = ColorProfile::new_from_slice(profile) else {
        return;
    };
    let colored = image.color().has_color();
    match profile.color_space {
        DataColorSpace::Rgb if colored => rgb_to_srgb(image, &profile),
        DataColorSpace::Gray if !colored => gray_to_srgb(image, &profile),
        _ => {}
    }
}

fn rgb_to_srgb(image: &mut DynamicImage, profile: &ColorProfile) {
    let srgb = ColorProfile::new_srgb();
    let eight_bits =
        |layout| profile.create_transform_8bit(layout, &srgb, layout, TransformOptions::default());
    let sixteen_bits =
        |layout| profile.create_transform_16bit(layout, &srgb, layout, TransformOptions::default());
    let Ok(rgb) = eight_bits(Layout::Rgb) else {
        return;
    };
    if keeps_colors(&rgb) {
        return;
    }
    match image {
        DynamicImage::ImageRgb8(pixels) => apply(pixels, &rgb),
        DynamicImage::ImageRgba8(pixels) => {
            if let Ok(rgba) = eight_bits(Layout::Rgba) {
                apply(pixels, &rgba);
            }
        }
        DynamicImage::ImageRgb16(pixels) => {
            if let Ok(rgb) = sixteen_bits(Layout::Rgb) {
                apply(pixels, &rgb);
            }
        }
        DynamicImage::ImageRgba16(pixels) => {
            if let Ok(rgba) = sixteen_bits(Layout::Rgba) {
                apply(pixels, &rgba);
            }
        }
        _ => {}
    }
}

/// Whether a transform of RGB8 changes colours by rounding alone.
fn keeps_colors(transform: &Transform<u8>) -> bool {
    let levels = || (0..=255u8).step_by(15);
    let colors: Vec<u8> = levels()
        .flat_map(|r| levels().flat_map(move |g| levels().flat_map(move |b| [r, g, b])))
        .collect();
    let mut converted = vec![0; colors.len()];
    if transform.transform(&colors, &mut converted).is_err() {
        return true;
    }
    colors
        .iter()
        .zip(&converted)
        .all(|(a, b)| a.abs_diff(*b) <= 1)
}

/// Values that a transform takes and gives at once: enough to pay for a task, few enough to copy.
const PIECE: usize = 4 * 3 * 4096;

fn apply<T: Copy + Default + Send + Sync>(values: &mut [T], transform: &Transform<T>) {
    values.par_chunks_mut(PIECE).for_each(|piece| {
        let mut converted = vec![T::default(); piece.len()];
        if transform.transform(piece, &mut converted).is_ok() {
            piece.copy_from_slice(&converted);
        }
    });
}

fn gray_to_srgb(image: &mut DynamicImage, profile: &ColorProfile) {
    let srgb = ColorProfile::new_srgb();
    let options = TransformOptions::default;
    let eight: Vec<u8> = (0..=u8::MAX).collect();
    let Some(table) = profile
        .create_transform_8bit(Layout::Gray, &srgb, Layout::Rgb, options())
        .ok()
        .and_then(|transform| gray_table(&transform, &eight))
    else {
        return;
    };
    if eight.iter().zip(&table).all(|(a, b)| a.abs_diff(*b) <= 1) {
        return;
    }
    let table16 = || {
        let sixteen: Vec<u16> = (0..=u16::MAX).collect();
        profile
            .create_transform_16bit(Layout::Gray, &srgb, Layout::Rgb, options())
            .ok()
            .and_then(|transform| gray_table(&transform, &sixteen))
    };
    match image {
        DynamicImage::ImageLuma8(pixels) => {
            for pixel in pixels.pixels_mut() {
                pixel.0[0] = table[usize::from(pixel.0[0])];
            }
        }
        DynamicImage::ImageLumaA8(pixels) => {
            for pixel in pixels.pixels_mut() {
                pixel.0[0] = table[usize::from(pixel.0[0])];
            }
        }
        DynamicImage::ImageLuma16(pixels) => {
            let Some(table) = table16() else { return };
            for pixel in pixels.pixels_mut() {
                pixel.0[0] = table[usize::from(pixel.0[0])];
            }
        }
        DynamicImage::ImageLumaA16(pixels) => {
            let Some(table) = table16() else { return };
            for pixel in pixels.pixels_mut() {
                pixel.0[0] = table[usize::from(pixel.0[0])];
            }
        }
        _ => {}
    }
}

/// What becomes of every level of grey; a grey of sRGB has three equal channels.
fn gray_table<T: Copy + Default>(transform: &Transform<T>, levels: &[T]) -> Option<Vec<T>> {
    let mut colors = vec![T::default(); 3 * levels.len()];
    transform.transform(levels, &mut colors).ok()?;
    Some(colors.into_iter().step_by(3).collect())
}

/// Puts a transparent image on a background, in place: its alpha is full then. Opaque pixels stay
/// as they are.
pub(super) fn flatten(image: &mut DynamicImage, background: [u8; 3]) {
    let [red, green, blue] = background;
    if red != green || red != blue {
        match image {
            DynamicImage::ImageLumaA8(_) => *image = image.to_rgba8().into(),
            DynamicImage::ImageLumaA16(_) => *image = image.to_rgba16().into(),
            _ => {}
        }
    }
    match image {
        DynamicImage::ImageLumaA8(pixels) => {
            for pixel in pixels.pixels_mut() {
                let [gray, alpha] = &mut pixel.0;
                over8(std::slice::from_mut(gray), alpha, &background);
            }
        }
        DynamicImage::ImageRgba8(pixels) => {
            for pixel in pixels.pixels_mut() {
                let [color @ .., alpha] = &mut pixel.0;
                over8(color, alpha, &background);
            }
        }
        DynamicImage::ImageLumaA16(pixels) => {
            for pixel in pixels.pixels_mut() {
                let [gray, alpha] = &mut pixel.0;
                over16(std::slice::from_mut(gray), alpha, &background);
            }
        }
        DynamicImage::ImageRgba16(pixels) => {
            for pixel in pixels.pixels_mut() {
                let [color @ .., alpha] = &mut pixel.0;
                over16(color, alpha, &background);
            }
        }
        _ => {}
    }
}

fn over8(color: &mut [u8], alpha: &mut u8, background: &[u8; 3]) {
    let share = u32::from(std::mem::replace(alpha, u8::MAX));
    for (value, below) in color.iter_mut().zip(background) {
        let mixed = u32::from(*value) * share + u32::from(*below) * (255 - share);
        *value = ((mixed + 127) / 255) as u8;
    }
}

fn over16(color: &mut [u16], alpha: &mut u16, background: &[u8; 3]) {
    let share = u64::from(std::mem::replace(alpha, u16::MAX));
    for (value, below) in color.iter_mut().zip(background) {
        let below = 257 * u64::from(*below);
        let mixed = u64::from(*value) * share + below * (65_535 - share);
        *value = ((mixed + 32_767) / 65_535) as u16;
    }
}
