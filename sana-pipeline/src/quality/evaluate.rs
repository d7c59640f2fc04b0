//! How well a model speaks the [scene language](crate::scenes).

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::error::PipelineError;
use crate::image::{self, RgbImage};
use crate::pipeline::SanaPipeline;
use crate::pipeline::StepAction;
use crate::request::Request;
use crate::scenes::{self, Report, SceneImage, ScenePrompt};

/// How to evaluate. The default is what results are reported with: 100 held-out prompts of each
/// category, prompt seed 0, and the checkpoint's own steps and guidance.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct EvaluateOptions {
    /// Held-out prompts of each of the six categories.
    pub prompts_per_category: usize,
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
        let mut request =
            Request::batch(batch.iter().map(ScenePrompt::canonical)).seed(done as u64);
        if let Some(steps) = options.steps {
            request = request.steps(steps);
        }
        if let Some(scale) = options.guidance {
            request = request.guidance(scale);
        }
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

/// What is left of scenes after the autoencoder.
#[derive(Debug, Clone, Serialize)]
pub struct Reconstruction {
    /// PSNR of all images together in dB, over eight-bit values.
    pub psnr: f64,
    /// How many still show what their prompts say: no model on this autoencoder does better than
    /// by chance.
    #[serde(flatten)]
    pub report: Report,
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
