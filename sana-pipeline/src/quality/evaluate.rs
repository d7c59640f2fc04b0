//! How well a model speaks the [scene language](crate::scenes), or draws [scenes of little
//! things](crate::sprites).

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::error::PipelineError;
use crate::image::{self, RgbImage};
use crate::pipeline::SanaPipeline;
use crate::pipeline::StepAction;
use crate::request::Request;
use crate::scenes::{self, Report, SceneImage, ScenePrompt};
use crate::sprites::{
    SpriteError, SpriteEvaluator, SpritePrompt, SpriteReport, SpriteScene, SpriteSheet,
};

/// How to evaluate. The default is what results are reported with: 100 held-out prompts of each
/// category, prompt seed 0, and the checkpoint's own steps and guidance.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct EvaluateOptions {
    /// Held-out prompts of each of the six categories.
    pub prompts_per_category: usize,
    /// Held-out prompts of scenes of little things, of all kinds together.
    pub sprite_prompts: usize,
    /// Chooses the prompts.
    pub seed: u64,
    /// Steps; the checkpoint's default when `None`.
    pub steps: Option<usize>,
    /// Guidance scale; the checkpoint's default when `None`.
    pub guidance: Option<f64>,
    /// Images made at a time, at least 1. It does not change them.
    pub batch: usize,
}

impl Default for EvaluateOptions {
    fn default() -> Self {
        Self {
            prompts_per_category: 100,
            sprite_prompts: 600,
            seed: 0,
            steps: None,
            guidance: None,
            batch: 20,
        }
    }
}

impl EvaluateOptions {
    /// Sets the number of held-out prompts of each category.
    pub fn prompts_per_category(mut self, prompts: usize) -> Self {
        self.prompts_per_category = prompts;
        self
    }

    /// Sets the number of held-out prompts of scenes of little things.
    pub fn sprite_prompts(mut self, prompts: usize) -> Self {
        self.sprite_prompts = prompts;
        self
    }

    /// The request for some prompts, the first image of which has this seed.
    fn request(&self, prompts: impl IntoIterator<Item = String>, seed: usize) -> Request {
        let mut request = Request::batch(prompts).seed(seed as u64);
        if let Some(steps) = self.steps {
            request = request.steps(steps);
        }
        if let Some(scale) = self.guidance {
            request = request.guidance(scale);
        }
        request
    }

    /// Sets the seed that chooses the prompts.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets the number of steps.
    pub fn steps(mut self, steps: usize) -> Self {
        self.steps = Some(steps);
        self
    }

    /// Sets the guidance scale.
    pub fn guidance(mut self, scale: f64) -> Self {
        self.guidance = Some(scale);
        self
    }

    /// Sets how many images are made at a time.
    pub fn batch(mut self, images: usize) -> Self {
        self.batch = images;
        self
    }
}

/// Makes one image for every held-out prompt, image `i` with seed `i`, and evaluates it.
/// `progress(done, all)` is called after every batch.
///
/// The prompts are in their canonical phrasing, and the images have the size the model was
/// trained for.
///
/// # Errors
/// As [`SanaPipeline::generate`].
pub fn evaluate(
    pipeline: &mut SanaPipeline,
    options: &EvaluateOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Report, PipelineError> {
    let prompts = ScenePrompt::held_out_set(options.prompts_per_category, options.seed);
    let mut report = Report::default();
    let mut done = 0;
    for batch in prompts.chunks(options.batch.max(1)) {
        let request = options.request(batch.iter().map(ScenePrompt::canonical), done);
        let generation = pipeline.generate(&request, &mut |_| StepAction::Continue)?;
        for (prompt, image) in batch.iter().zip(generation.images) {
            let shown = SceneImage::new(image.width() as usize, image.into_raw())?;
            report.add(prompt.category(), &scenes::evaluate(&shown, prompt));
        }
        done += batch.len();
        progress(done, prompts.len());
    }
    Ok(report)
}

/// As [`evaluate`], with held-out prompts of scenes of the things of a sheet.
///
/// # Errors
/// As [`SanaPipeline::generate`], and [`PipelineError::Sprites`] if there are no prompts.
pub fn evaluate_sprites(
    pipeline: &mut SanaPipeline,
    sheet: &SpriteSheet,
    options: &EvaluateOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<SpriteReport, PipelineError> {
    let prompts = sprite_prompts(sheet, options)?;
    let evaluator = SpriteEvaluator::new(sheet);
    let mut report = SpriteReport::default();
    let mut done = 0;
    for batch in prompts.chunks(options.batch.max(1)) {
        let request = options.request(batch.iter().map(|prompt| prompt.canonical(sheet)), done);
        let generation = pipeline.generate(&request, &mut |_| StepAction::Continue)?;
        for (prompt, image) in batch.iter().zip(generation.images) {
            report.add(&evaluator.evaluate(&image, prompt));
        }
        done += batch.len();
        progress(done, prompts.len());
    }
    Ok(report)
}

/// What is left of scenes after the autoencoder.
#[derive(Debug, Clone, Serialize)]
pub struct Reconstruction<R = Report> {
    /// PSNR of all images together in dB, over eight-bit values.
    pub psnr: f64,
    /// How many still show what their prompts say: no model on this autoencoder does better than
    /// by chance.
    #[serde(flatten)]
    pub report: R,
}

/// Draws one scene for every held-out prompt, scene `i` from seed `i`, sends it through the
/// autoencoder and back, and evaluates it. Of the options, those of the prompts count.
/// `progress(done, all)` is called after every image.
///
/// # Errors
/// When the autoencoder cannot be loaded or does not fit images of the model's size.
pub fn evaluate_autoencoder(
    pipeline: &mut SanaPipeline,
    options: &EvaluateOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Reconstruction, PipelineError> {
    let prompts = ScenePrompt::held_out_set(options.prompts_per_category, options.seed);
    let [size, _] = pipeline.spec().defaults().size;
    let mut report = Report::default();
    let mut squares = 0.0;
    for (index, prompt) in prompts.iter().enumerate() {
        let mut rng = ChaCha8Rng::seed_from_u64(index as u64);
        let scene = prompt.scene(&mut rng).render(size);
        let side = size as u32;
        let original = RgbImage::from_raw(side, side, scene.into_rgb())
            .expect("a scene has three bytes a pixel");
        let latents = pipeline.encode_image(&original)?;
        for again in pipeline.decode(latents)? {
            squares += 10f64.powf(-image::psnr(&original, &again)? / 10.0);
            let image = SceneImage::new(size, again.into_raw())?;
            report.add(prompt.category(), &scenes::evaluate(&image, prompt));
        }
        progress(index + 1, prompts.len());
    }
    Ok(Reconstruction {
        psnr: -10.0 * (squares / prompts.len() as f64).log10(),
        report,
    })
}

/// As [`evaluate_autoencoder`], with scenes of the things of a sheet.
///
/// # Errors
/// As [`evaluate_autoencoder`], and [`PipelineError::Sprites`] if there are no prompts or the model's size has
/// no room for things.
pub fn evaluate_sprites_autoencoder(
    pipeline: &mut SanaPipeline,
    sheet: &SpriteSheet,
    options: &EvaluateOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Reconstruction<SpriteReport>, PipelineError> {
    let prompts = sprite_prompts(sheet, options)?;
    let evaluator = SpriteEvaluator::new(sheet);
    let size = pipeline.spec().defaults().size;
    SpriteScene::check_size(size)?;
    let mut report = SpriteReport::default();
    let mut squares = 0.0;
    for (index, prompt) in prompts.iter().enumerate() {
        let mut rng = ChaCha8Rng::seed_from_u64(index as u64);
        let original = prompt.scene(sheet, &mut rng, size).render(sheet);
        let latents = pipeline.encode_image(&original)?;
        for again in pipeline.decode(latents)? {
            squares += 10f64.powf(-image::psnr(&original, &again)? / 10.0);
            report.add(&evaluator.evaluate(&again, prompt));
        }
        progress(index + 1, prompts.len());
    }
    Ok(Reconstruction {
        psnr: -10.0 * (squares / prompts.len() as f64).log10(),
        report,
    })
}

/// The held-out prompts of a sheet, at least one.
fn sprite_prompts(
    sheet: &SpriteSheet,
    options: &EvaluateOptions,
) -> Result<Vec<SpritePrompt>, SpriteError> {
    let prompts = SpritePrompt::held_out(sheet, options.sprite_prompts, options.seed);
    match prompts.is_empty() {
        true => Err(SpriteError::NoPrompts),
        false => Ok(prompts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sprites::tests::sheet;

    #[test]
    fn prompts_of_sprites_are_never_none() {
        let prompts = |count| {
            let options = EvaluateOptions::default().sprite_prompts(count);
            sprite_prompts(&sheet(), &options)
        };
        assert_eq!(prompts(3).unwrap().len(), 3);
        assert!(matches!(prompts(0), Err(SpriteError::NoPrompts)));
    }
}
