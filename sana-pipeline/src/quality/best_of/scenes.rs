use std::path::Path;

use super::{Rating, Verifier, VerifierError};
use crate::image;
use crate::scenes::{SceneImage, ScenePrompt, evaluate};

/// The evaluator of the [scene language](crate::scenes): 1 for an image that shows its prompt, else 0.
#[derive(Debug, Clone, Copy, Default)]
pub struct SceneVerifier;

impl SceneVerifier {
    /// What a prompt of the scene language means.
    ///
    /// # Errors
    /// [`VerifierError::Prompt`] for any other text.
    pub fn parse(prompt: &str) -> Result<ScenePrompt, VerifierError> {
        let parsed = prompt.parse::<ScenePrompt>();
        parsed.map_err(|error| VerifierError::Prompt {
            prompt: prompt.to_owned(),
            reason: error.to_string(),
        })
    }
}

impl Verifier for SceneVerifier {
    fn rate(&mut self, prompt: &str, image: &Path) -> Result<Rating, VerifierError> {
        let scene = Self::parse(prompt)?;
        let failed = |reason: String| VerifierError::Image {
            image: image.to_path_buf(),
            reason,
        };
        let pixels = image::load(image).map_err(|error| failed(error.to_string()))?;
        let [width, height] = [pixels.width(), pixels.height()];
        if width != height {
            let reason = format!("scenes are square, and it has {width}x{height} pixels");
            return Err(failed(reason));
        }
        let shown = SceneImage::new(width as usize, pixels.into_raw())
            .map_err(|error| failed(error.to_string()))?;
        Ok(Rating::Score(f64::from(u8::from(
            evaluate(&shown, &scene).is_right(),
        ))))
    }
}
