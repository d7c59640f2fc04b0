use std::path::Path;

use super::{Rating, Verifier, VerifierError};
use crate::image;
use crate::sprites::{SpriteCaption, SpriteEvaluator, SpriteSheet};

/// The evaluator of [scenes of little things](crate::sprites): 1 for an image that shows its prompt, else 0.
/// A prompt that names no backdrop leaves it open.
#[derive(Debug)]
pub struct SpriteVerifier {
    sheet: SpriteSheet,
    evaluator: SpriteEvaluator,
}

impl SpriteVerifier {
    /// For prompts about the things of this sheet.
    pub fn new(sheet: SpriteSheet) -> Self {
        let evaluator = SpriteEvaluator::new(&sheet);
        Self { sheet, evaluator }
    }

    /// What a prompt about the things of a sheet means.
    ///
    /// # Errors
    /// [`VerifierError::Prompt`] for any other text.
    pub fn parse(prompt: &str, sheet: &SpriteSheet) -> Result<SpriteCaption, VerifierError> {
        let parsed = SpriteCaption::parse(prompt, sheet);
        parsed.map_err(|error| VerifierError::Prompt {
            prompt: prompt.to_owned(),
            reason: error.to_string(),
        })
    }
}

impl Verifier for SpriteVerifier {
    fn rate(&mut self, prompt: &str, image: &Path) -> Result<Rating, VerifierError> {
        let caption = Self::parse(prompt, &self.sheet)?;
        let shown = image::load(image).map_err(|error| VerifierError::Image {
            image: image.to_path_buf(),
            reason: error.to_string(),
        })?;
        let verdict = self.evaluator.evaluate_caption(&shown, &caption);
        Ok(Rating::Score(f64::from(u8::from(verdict.is_right()))))
    }
}
