mod evaluation;
mod images;
mod prompts;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::*;

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

fn prompt(text: &str) -> ScenePrompt {
    ScenePrompt::parse(text).unwrap()
}

fn object(text: &str, x: f32, y: f32) -> Object {
    let Content::One(kind) = prompt(&format!("{text} on gray background")).content() else {
        panic!("{text} is not one object");
    };
    Object {
        kind,
        rgb: kind.color.rgb(),
        extent: kind.size.extent(),
        center: (x, y),
    }
}

fn image(background: Background, objects: &[Object]) -> SceneImage {
    Scene {
        background,
        objects: objects.to_vec(),
    }
    .render(256)
}

/// The verdict on objects placed by hand, on white.
fn evaluated(text: &str, objects: &[Object]) -> Verdict {
    evaluate(&image(Background::White, objects), &prompt(text))
}
