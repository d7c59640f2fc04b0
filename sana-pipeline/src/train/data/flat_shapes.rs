use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::bucket::{Bucket, generator};
use super::source::{DataSource, Sample, pixels};
use crate::scenes::{Category, Scene, ScenePrompt};
use crate::train::error::TrainError;

/// Objects of a scene for the autoencoder, at most.
const CROWD: usize = 6;

/// Categories of scenes with captions, each drawn as often as it is listed: what is learned last is
/// shown most.
const MIX: [Category; 12] = [
    Category::SingleObject,
    Category::Colors,
    Category::TwoObjects,
    Category::Counting,
    Category::Counting,
    Category::Position,
    Category::Position,
    Category::Position,
    Category::Position,
    Category::Position,
    Category::Position,
    Category::AttributeBinding,
];

/// The [scene language](crate::scenes): flat shapes, drawn as they are needed; held-out prompts
/// never occur. An image that is not square has the scene in its middle, and its background around
/// it.
#[derive(Debug, Clone)]
pub struct FlatShapes {
    buckets: Vec<Bucket>,
}

impl FlatShapes {
    /// Scenes of these sizes, width and height in pixels.
    pub fn new(sizes: &[[usize; 2]]) -> Self {
        Self {
            buckets: sizes.iter().copied().map(Bucket::endless).collect(),
        }
    }
}

impl DataSource for FlatShapes {
    fn content(&self) -> String {
        "scenes".to_owned()
    }

    fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    fn sample_at(&self, seed: u64, bucket: usize, index: u64) -> Result<Sample, TrainError> {
        let mut rng = generator(seed, bucket, index);
        let category = MIX[rng.random_range(0..MIX.len())];
        let prompt = ScenePrompt::sample_training_of(&mut rng, category);
        let caption = prompt.caption(&mut rng);
        let size = self.buckets[bucket].size;
        Ok(Sample {
            size,
            pixels: rendered(&prompt.scene(&mut rng), size),
            caption,
        })
    }

    /// Scenes are crowded ones, of up to six objects: there is more to learn in them than in those
    /// that captions describe.
    fn image_at(&self, seed: u64, bucket: usize, index: u64) -> Result<Vec<f32>, TrainError> {
        let mut rng = generator(seed, bucket, index);
        let objects = rng.random_range(1..=CROWD);
        let scene = Scene::crowded(&mut rng, objects);
        Ok(rendered(&scene, self.buckets[bucket].size))
    }

    /// Of all categories, each as often as the others.
    fn captions(&self, seed: u64, count: usize) -> Result<Vec<String>, TrainError> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let captions = (0..count).map(|_| {
            let prompt = ScenePrompt::sample_training(&mut rng);
            prompt.caption(&mut rng)
        });
        Ok(captions.collect())
    }
}

fn rendered(scene: &Scene, [width, height]: [usize; 2]) -> Vec<f32> {
    let side = width.min(height);
    let square = scene.render(side);
    let [left, top] = [(width - side) / 2, (height - side) / 2];
    let mut rgb = scene.background.rgb().repeat(width * height);
    for (y, row) in square.rgb().chunks_exact(3 * side).enumerate() {
        let start = 3 * ((top + y) * width + left);
        rgb[start..start + 3 * side].copy_from_slice(row);
    }
    pixels(&rgb)
}

#[cfg(test)]
mod tests {
    use sana_sampler::noise::{self, Stream};

    use super::*;
    use crate::scenes::{SceneImage, evaluate};

    /// What a square image has always been: a run that exists continues with the same numbers.
    #[test]
    fn square_samples_are_those_of_the_scene() {
        let data = FlatShapes::new(&[[64, 64]]);
        for index in 0..4 {
            let mut rng = noise::generator(3, index, Stream::Initial);
            let category = MIX[rng.random_range(0..MIX.len())];
            let prompt = ScenePrompt::sample_training_of(&mut rng, category);
            let caption = prompt.caption(&mut rng);
            let image = prompt.scene(&mut rng).render(64).to_chw_f32();
            let sample = data.sample_at(3, 0, index).expect("sample");
            assert_eq!(sample.size, [64, 64]);
            assert_eq!((sample.caption, sample.pixels), (caption, image));

            let mut rng = noise::generator(3, index, Stream::Initial);
            let objects = rng.random_range(1..=CROWD);
            let crowd = Scene::crowded(&mut rng, objects).render(64).to_chw_f32();
            assert_eq!(data.image_at(3, 0, index).expect("image"), crowd);
        }
    }

    #[test]
    fn other_sizes_have_the_scene_in_their_middle() {
        let data = FlatShapes::new(&[[96, 96], [128, 96], [96, 160]]);
        for bucket in 1..3 {
            for index in 0..4 {
                let Sample {
                    size: [width, height],
                    pixels,
                    caption,
                } = data.sample_at(0, bucket, index).expect("sample");
                assert_eq!([width, height], data.buckets()[bucket].size);
                let [left, top] = [(width - 96) / 2, (height - 96) / 2];
                let mut middle = Vec::new();
                for plane in pixels.chunks_exact(width * height) {
                    for row in plane.chunks_exact(width).skip(top).take(96) {
                        middle.extend_from_slice(&row[left..left + 96]);
                    }
                    // Around it is one colour.
                    assert_eq!(plane[0], plane[width * height - 1]);
                    assert!(plane[..top * width].iter().all(|value| *value == plane[0]));
                }
                let image = SceneImage::from_chw_f32(96, &middle).expect("image");
                let prompt: ScenePrompt = caption.parse().expect("prompt");
                assert!(evaluate(&image, &prompt).is_right(), "{caption}");
            }
        }
        let captions = |bucket| {
            let samples = (0..8).map(|index| data.sample_at(0, bucket, index).expect("sample"));
            samples.map(|sample| sample.caption).collect::<Vec<_>>()
        };
        assert_ne!(
            captions(0),
            captions(1),
            "buckets have samples of their own"
        );
    }
}
