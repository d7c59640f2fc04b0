use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::bucket::{Bucket, generator};
use super::source::{DataSource, Sample, pixels};
use crate::sprites::{SpritePrompt, SpriteScene, SpriteSheet};
use crate::train::error::TrainError;

/// Things of a scene for the autoencoder, at most.
const CROWD: usize = 6;

/// [Scenes of little things](crate::sprites), composed as they are needed. Captions are never
/// those of held-out prompts.
#[derive(Debug, Clone)]
pub struct SpriteScenes {
    sheet: Arc<SpriteSheet>,
    buckets: Vec<Bucket>,
}

impl SpriteScenes {
    /// Scenes of these sizes, width and height in pixels.
    ///
    /// # Errors
    /// [`TrainError::Source`] for a size that [`SpriteScene::check_size`] refuses.
    pub fn new(sheet: Arc<SpriteSheet>, sizes: &[[usize; 2]]) -> Result<Self, TrainError> {
        for &size in sizes {
            SpriteScene::check_size(size).map_err(|error| TrainError::Source {
                reason: error.to_string(),
            })?;
        }
        Ok(Self {
            sheet,
            buckets: sizes.iter().copied().map(Bucket::endless).collect(),
        })
    }
}

impl DataSource for SpriteScenes {
    fn content(&self) -> String {
        let (count, hash) = (self.sheet.things().len(), self.sheet.stable_hash());
        format!("sprites, {count} things, {hash:016x}")
    }

    fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    fn sample_at(&self, seed: u64, bucket: usize, index: u64) -> Result<Sample, TrainError> {
        let mut rng = generator(seed, bucket, index);
        let prompt = SpritePrompt::sample_training(&self.sheet, &mut rng);
        let caption = prompt.caption(&self.sheet, &mut rng);
        let size = self.buckets[bucket].size;
        let image = prompt
            .scene(&self.sheet, &mut rng, size)
            .render(&self.sheet);
        Ok(Sample {
            size,
            pixels: pixels(image.as_raw()),
            caption,
        })
    }

    /// Three of four scenes are crowded ones, with up to six things, some of them cut off: there is more
    /// to learn in them than in those that captions describe.
    fn image_at(&self, seed: u64, bucket: usize, index: u64) -> Result<Vec<f32>, TrainError> {
        let mut rng = generator(seed, bucket, index);
        let size = self.buckets[bucket].size;
        let scene = match rng.random_bool(0.25) {
            true => SpritePrompt::sample_training(&self.sheet, &mut rng).scene(
                &self.sheet,
                &mut rng,
                size,
            ),
            false => {
                let things = rng.random_range(3..=CROWD);
                SpriteScene::crowded(&self.sheet, &mut rng, things, size)
            }
        };
        Ok(pixels(scene.render(&self.sheet).as_raw()))
    }

    /// Without their images.
    fn captions(&self, seed: u64, count: usize) -> Result<Vec<String>, TrainError> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let captions = (0..count).map(|_| {
            let prompt = SpritePrompt::sample_training(&self.sheet, &mut rng);
            prompt.caption(&self.sheet, &mut rng)
        });
        Ok(captions.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sprites::tests::sheet;

    #[test]
    fn samples_are_repeatable_and_of_their_size() {
        let sizes = [[64, 64], [96, 64]];
        let data = SpriteScenes::new(Arc::new(sheet()), &sizes).expect("sizes");
        let mut captions = Vec::new();
        for (bucket, size) in sizes.into_iter().enumerate() {
            for index in 0..6 {
                let sample = data.sample_at(1, bucket, index).expect("sample");
                assert_eq!(sample.size, size);
                assert_eq!(sample.pixels.len(), 3 * size[0] * size[1]);
                let again = data.sample_at(1, bucket, index).expect("sample");
                assert_eq!(
                    (&sample.pixels, &sample.caption),
                    (&again.pixels, &again.caption)
                );
                let image = data.image_at(1, bucket, index).expect("image");
                assert_eq!(image.len(), sample.pixels.len());
                assert_ne!(image, sample.pixels);
                captions.push(sample.caption);
            }
        }
        captions.dedup();
        assert!(captions.len() > 6, "{captions:?}");
    }

    #[test]
    fn sizes_without_room() {
        for size in [[32, 160], [480, 32], [0, 64]] {
            let error =
                SpriteScenes::new(Arc::new(sheet()), &[[64, 64], size]).expect_err("refused");
            assert!(error.to_string().contains("times the other"), "{error}");
        }
        assert!(SpriteScenes::new(Arc::new(sheet()), &[[128, 32]]).is_ok());
    }

    #[test]
    fn captions_name_every_thing() {
        let data = SpriteScenes::new(Arc::new(sheet()), &[[64, 64]]).expect("sizes");
        let captions = data.captions(0, 400).expect("captions");
        assert_eq!(captions.len(), 400);
        for word in ["disc", "bar", "ring", "drops", "orb", "discs"] {
            assert!(
                captions.iter().any(|caption| caption.contains(word)),
                "{word}"
            );
        }
    }

    #[test]
    fn another_sheet_is_other_content() {
        let data = SpriteScenes::new(Arc::new(sheet()), &[[64, 64]]).expect("sizes");
        let content = data.content();
        assert!(content.starts_with("sprites, 4 things, "), "{content}");
    }
}
