use image::RgbImage;

use super::{rng, sheet};
use crate::scenes::Relation;
use crate::sprites::{
    Backdrop, PlacedSprite, PlainColor, SpriteContent, SpritePrompt, SpriteScene,
};

const SIZES: [[usize; 2]; 4] = [[64, 64], [128, 128], [160, 96], [96, 160]];

/// Every scene is as its prompt says: as many things, in the image, apart, in their relation.
#[test]
fn scenes_show_their_prompts() {
    let sheet = sheet();
    let mut rng = rng(3);
    for index in 0..800 {
        let size = SIZES[index % SIZES.len()];
        let prompt = SpritePrompt::sample_training(&sheet, &mut rng);
        let scene = prompt.scene(&sheet, &mut rng, size);
        let things: Vec<usize> = scene.sprites.iter().map(|sprite| sprite.thing).collect();
        assert_eq!(things, prompt.content().things());
        for (index, sprite) in scene.sprites.iter().enumerate() {
            let [width, height] = size.map(|side| side as f32);
            let (x, y) = sprite.center;
            assert!((0.0..width).contains(&x) && (0.0..height).contains(&y));
            assert!(
                sprite.extent.0.max(sprite.extent.1) > 0.1 * width.min(height),
                "{scene:?}"
            );
            for other in &scene.sprites[..index] {
                let along = (x - other.center.0).abs() - (sprite.extent.0 + other.extent.0) / 2.0;
                let down = (y - other.center.1).abs() - (sprite.extent.1 + other.extent.1) / 2.0;
                assert!(along.max(down) > 0.0, "{scene:?}");
            }
        }
        if let (Some(relation), [first, second]) = (prompt.content().relation(), &*scene.sprites) {
            let (along, aside) = relation.along_and_aside(first.center, second.center);
            assert!(along > aside && along > 0.0, "{scene:?}");
        }
    }
}

#[test]
fn things_stand_on_the_ground_and_float_in_the_air() {
    let sheet = sheet();
    let mut rng = rng(4);
    let mut standing = |backdrop, content| {
        let prompt = SpritePrompt::new(&sheet, backdrop, content).unwrap();
        let scene = prompt.scene(&sheet, &mut rng, [128, 128]);
        let stand: Vec<bool> = scene.sprites.iter().map(|sprite| sprite.grounded).collect();
        stand
    };
    use SpriteContent::{One, Related};
    assert_eq!(standing(Backdrop::Meadow, One(0)), [true]);
    assert_eq!(standing(Backdrop::Sky, One(0)), [false]);
    let above = Related(0, Relation::Above, 1);
    assert_eq!(standing(Backdrop::Snow, above), [false, true]);
    let below = Related(0, Relation::Below, 1);
    assert_eq!(standing(Backdrop::Snow, below), [true, false]);
}

fn one(center: (f32, f32), extent: f32, angle: f32, backdrop: Backdrop) -> SpriteScene {
    SpriteScene {
        size: [64, 64],
        backdrop,
        backdrop_seed: 0,
        sprites: vec![PlacedSprite {
            thing: 1,
            center,
            // The bar is 58 x 20 pixels.
            extent: (extent, extent * 20.0 / 58.0),
            angle,
            mirrored: false,
            grounded: false,
        }],
    }
}

fn is_blue(image: &RgbImage, x: u32, y: u32) -> bool {
    let [r, g, b] = image.get_pixel(x, y).0;
    b > 200 && r < 60 && g < 80
}

#[test]
fn a_thing_is_where_it_was_put() {
    let sheet = sheet();
    let white = Backdrop::Plain(PlainColor::White);
    let image = one((20.0, 40.0), 30.0, 0.0, white).render(&sheet);
    for (x, y, inside) in [
        (20, 40, true),
        (8, 40, true),
        (32, 40, true),
        (3, 40, false),
        (37, 40, false),
        (20, 47, false),
        (20, 33, false),
    ] {
        assert_eq!(is_blue(&image, x, y), inside, "{x} {y}");
    }
    // Turned clockwise by a quarter it is upright.
    let image = one((32.0, 32.0), 30.0, std::f32::consts::FRAC_PI_2, white).render(&sheet);
    assert!(is_blue(&image, 32, 20) && is_blue(&image, 32, 44) && !is_blue(&image, 20, 32));
}

/// Half a pixel of a white thing on black is half the light, 188 of 255 in the curve of sRGB.
#[test]
fn edges_are_mixed_in_linear_light() {
    let folder = tempfile::tempdir().unwrap();
    super::draw(&folder.path().join("box.png"), [255; 3], |_, _| true);
    let list = r#"[{"file": "box.png", "name": "box", "article": "a"}]"#;
    std::fs::write(folder.path().join("sprites.json"), list).unwrap();
    let sheet = crate::sprites::SpriteSheet::open(folder.path()).unwrap();
    let mut scene = one((32.0, 40.0), 33.0, 0.0, Backdrop::Night);
    scene.sprites[0].thing = 0;
    scene.sprites[0].extent = (33.0, 33.0);
    let image = scene.render(&sheet);
    // The box ends at 48.5: its last pixel is half covered.
    let green = |x| image.get_pixel(x, 40).0[1];
    assert_eq!(green(40), 255);
    let ground = green(55);
    assert!(ground < 60, "{ground}");
    assert!(green(48).abs_diff(188) < 12, "{}", green(48));
}

#[test]
fn a_standing_thing_has_a_shadow() {
    let sheet = sheet();
    let mut scene = one((32.0, 30.0), 40.0, 0.0, Backdrop::Plain(PlainColor::White));
    let bare = scene.render(&sheet);
    scene.sprites[0].grounded = true;
    let shaded = scene.render(&sheet);
    let light = |image: &RgbImage, y| image.get_pixel(32, y).0[1];
    assert!(light(&shaded, 37) + 20 < light(&bare, 37));
    assert_eq!(light(&shaded, 10), light(&bare, 10));
}

/// Every backdrop is painted, differs from the others, and varies with its seed.
#[test]
fn backdrops_differ_and_vary() {
    let sheet = sheet();
    let paint = |backdrop, backdrop_seed, size| {
        SpriteScene {
            size,
            backdrop,
            backdrop_seed,
            sprites: Vec::new(),
        }
        .render(&sheet)
    };
    let all: Vec<Backdrop> = Backdrop::all().collect();
    assert_eq!(all.len(), 20);
    for size in [[64, 64], [80, 48]] {
        let images: Vec<RgbImage> = all.iter().map(|&kind| paint(kind, 1, size)).collect();
        for (index, image) in images.iter().enumerate() {
            assert_eq!(*image, paint(all[index], 1, size));
            assert_ne!(*image, paint(all[index], 2, size), "{}", all[index]);
            for other in &images[..index] {
                let differing = image
                    .pixels()
                    .zip(other.pixels())
                    .filter(|(a, b)| a.0.iter().zip(b.0).any(|(a, b)| a.abs_diff(b) > 10));
                assert!(differing.count() > image.len() / 3 / 10, "{}", all[index]);
            }
        }
    }
}

/// A crowd is for the autoencoder: more things, some of them cut off.
#[test]
fn crowds_are_crowded() {
    let sheet = sheet();
    let mut rng = rng(5);
    let counts: Vec<usize> = (0..50)
        .map(|_| {
            SpriteScene::crowded(&sheet, &mut rng, 6, [96, 96])
                .sprites
                .len()
        })
        .collect();
    assert!(counts.iter().all(|count| (1..=6).contains(count)));
    assert!(counts.iter().sum::<usize>() > 100, "{counts:?}");
}
