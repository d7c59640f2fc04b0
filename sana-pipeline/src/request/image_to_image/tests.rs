use super::*;

fn mask(width: u32, height: u32, value: impl Fn(u32, u32) -> u8) -> GrayImage {
    GrayImage::from_fn(width, height, |x, y| image::Luma([value(x, y)]))
}

#[test]
fn sizes_that_follow_from_pictures() {
    let megapixel = (1024 * 1024) as f64;
    for (sides, multiple, expected) in [
        ([96, 64], 32, [96, 64]),
        ([100, 70], 32, [96, 64]),
        ([1, 1], 32, [32, 32]),
        ([1024, 1024], 32, [1024, 1024]),
        // 4.5 megapixels: 1448 x 724 of one.
        ([3000, 1500], 32, [1440, 736]),
        ([4000, 4000], 64, [1024, 1024]),
    ] {
        assert_eq!(sensible_size(sides, megapixel, multiple), expected);
    }
}

/// One white pixel is enough for a cell, and none of another cell is.
#[test]
fn a_cell_with_a_white_pixel_is_drawn() {
    for (x, y, cell) in [(3, 3, 0), (4, 3, 1), (11, 7, 5), (0, 4, 3)] {
        let mask = mask(12, 8, |column, row| {
            let bright = if (column, row) == (x, y) { WHITE } else { 0 };
            bright.max(WHITE - 1)
        });
        let kept = kept_cells(&mask, 4);
        let expected: Vec<bool> = (0..6).map(|other| other != cell).collect();
        assert_eq!(kept, expected, "{x}, {y}");
    }
}

#[test]
fn weights_without_a_feather_are_the_mask() {
    let mask = mask(3, 1, |x, _| [0, 51, 255][x as usize]);
    assert_eq!(pixel_weights(&mask, 0), [0.0, 0.2, 1.0]);
}

/// Against the distance to every white pixel.
#[test]
fn the_feather_falls_with_the_distance() {
    let white = [(4, 3), (5, 3), (13, 9), (0, 11)];
    let mask = mask(17, 12, |x, y| if white.contains(&(x, y)) { 200 } else { 3 });
    for feather in [1, 2, 5, 40, u32::MAX] {
        let weights = pixel_weights(&mask, feather);
        let reach = f64::from(feather) + 1.0;
        for (x, y, value) in mask.enumerate_pixels() {
            let squares = white.map(|(a, b): (u32, u32)| {
                u64::from(a.abs_diff(x)).pow(2) + u64::from(b.abs_diff(y)).pow(2)
            });
            let nearest = (*squares.iter().min().unwrap() as f64).sqrt();
            let ramp = (1.0 - nearest / reach) as f32;
            let expected = ramp.max(f32::from(value.0[0]) / 255.0);
            let ours = weights[(y * mask.width() + x) as usize];
            assert!((ours - expected).abs() < 1e-6, "{feather}: {x}, {y}");
        }
    }
    // A ramp of two pixels: two thirds and one third, and nothing left at the third.
    let row = GrayImage::from_fn(5, 1, |x, _| image::Luma([if x == 0 { 255 } else { 0 }]));
    let expected = [1.0, 2.0 / 3.0, 1.0 / 3.0, 0.0, 0.0];
    for (ours, expected) in pixel_weights(&row, 2).iter().zip(expected) {
        assert!((ours - expected).abs() < 1e-6);
    }
    assert_eq!(pixel_weights(&row, 2)[3..], [0.0, 0.0]);
}

#[test]
fn blending_keeps_bytes_at_both_ends() {
    let all = |value| {
        RgbImage::from_fn(256, 1, move |x, _| {
            image::Rgb([x as u8, value, 255 - value])
        })
    };
    let (known, drawn) = (all(3), all(250));
    assert_eq!(blended(drawn.clone(), &known, &[0.0; 256]), known);
    assert_eq!(blended(drawn.clone(), &known, &[1.0; 256]), drawn);
    let half = blended(drawn, &known, &[0.5; 256]);
    assert_eq!(half.get_pixel(9, 0).0, [9, 127, 129]);
}

#[test]
fn fitted_masks_have_no_fringes() {
    let halves = mask(64, 32, |x, _| if x < 32 { 0 } else { 255 });
    let editing = Editing {
        mask: Some(halves.clone()),
        ..Editing::default()
    };
    assert_eq!(*editing.fitted_mask([64, 32]).unwrap(), halves);
    let fitted = editing.fitted_mask([128, 64]).unwrap();
    assert_eq!(fitted.dimensions(), (128, 64));
    for (x, y, value) in fitted.enumerate_pixels() {
        match x {
            0..62 => assert_eq!(value.0, [0], "{x}, {y}"),
            66.. => assert_eq!(value.0, [255], "{x}, {y}"),
            _ => {}
        }
    }
}
