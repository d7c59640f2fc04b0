use image::RgbImage;
use image::imageops::{self, FilterType};
use rand::RngExt;

use super::*;

/// One prompt for every backdrop, of one to three things in turn.
fn prompts(sheet: &SpriteSheet) -> Vec<SpritePrompt> {
    let count = sheet.things().len();
    let content = |index: usize| match index % 4 {
        0 => SpriteContent::One(index % count),
        1 => SpriteContent::Several {
            count: 2 + index / 4 % 2,
            thing: index % count,
        },
        2 => SpriteContent::Pair(index % count, (index + 1) % count),
        _ => SpriteContent::Related(
            index % count,
            Relation::ALL[index / 4 % 4],
            (index + 2) % count,
        ),
    };
    let backdrops = Backdrop::all().enumerate();
    backdrops
        .map(|(index, backdrop)| SpritePrompt::new(sheet, backdrop, content(index)).unwrap())
        .collect()
}

/// What an autoencoder does to an image: half the resolution and back, and noise of five levels.
fn worn(image: &RgbImage, seed: u64) -> RgbImage {
    let (width, height) = image.dimensions();
    let small = imageops::resize(image, width / 2, height / 2, FilterType::Triangle);
    let mut image = imageops::resize(&small, width, height, FilterType::Triangle);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for value in image.pixels_mut().flat_map(|pixel| &mut pixel.0) {
        // Uniform, with a standard deviation of five.
        let noise = 5.0 * 3f32.sqrt() * rng.random_range(-1.0..1.0);
        *value = (f32::from(*value) + noise).round().clamp(0.0, 255.0) as u8;
    }
    image
}

#[test]
fn backdrops_alone_are_named_and_show_no_things() {
    let evaluator = SpriteEvaluator::new(&sheet());
    for (index, backdrop) in Backdrop::all().enumerate() {
        let scene = SpriteScene {
            size: [[128, 128], [160, 96]][index % 2],
            backdrop,
            backdrop_seed: 40 + index as u64,
            sprites: Vec::new(),
        };
        let seen = evaluator.observe(&scene.render(&sheet()));
        assert_eq!((seen.backdrop, seen.things), (backdrop, Vec::new()));
    }
}

#[test]
fn images_that_show_their_prompts_are_right() {
    let sheet = sheet();
    let evaluator = SpriteEvaluator::new(&sheet);
    for (seed, prompt) in prompts(&sheet).iter().enumerate() {
        let size = [[128, 128], [192, 192], [200, 120]][seed % 3];
        let scene = scene(&sheet, prompt, seed as u64, size);
        let seen = evaluator.observe(&scene.render(&sheet));
        let verdict = evaluator.evaluate(&scene.render(&sheet), prompt);
        let text = prompt.canonical(&sheet);
        assert!(verdict.is_right(), "{text}: {verdict}, {seen:?}");
        for found in &seen.things {
            let near = scene.sprites.iter().any(|sprite| {
                let (x, y) = sprite.center;
                (found.center.0 - x).hypot(found.center.1 - y) < 3.0
            });
            assert!(near, "{text}: {found:?} of {:?}", scene.sprites);
        }
    }
}

#[test]
fn what_an_autoencoder_does_is_tolerated() {
    let sheet = sheet();
    let evaluator = SpriteEvaluator::new(&sheet);
    for (seed, prompt) in prompts(&sheet).iter().enumerate() {
        let seed = 100 + seed as u64;
        let image = scene(&sheet, prompt, seed, [160, 160]).render(&sheet);
        let verdict = evaluator.evaluate(&worn(&image, seed), prompt);
        assert!(
            verdict.is_right(),
            "{}: {verdict}",
            prompt.canonical(&sheet)
        );
    }
}

#[test]
fn other_prompts_images_are_wrong() {
    let sheet = sheet();
    let evaluator = SpriteEvaluator::new(&sheet);
    let prompts = prompts(&sheet);
    let mut report = SpriteReport::default();
    for (seed, prompt) in prompts.iter().enumerate() {
        let image = scene(&sheet, prompt, seed as u64, [128, 128]).render(&sheet);
        report.add(&evaluator.evaluate(&image, &prompts[(seed + 7) % prompts.len()]));
    }
    assert_eq!(report.share(SpriteCategory::All), Some(0.0));
    assert_eq!(report.share(SpriteCategory::Backdrop), Some(0.0));
    assert!(
        report.share(SpriteCategory::Thing).unwrap() < 0.2,
        "{report}"
    );
}
