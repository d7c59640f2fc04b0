use std::path::Path;

use burn::tensor::Device;

use super::{Rating, Verifier, VerifierError};
use crate::image;
use crate::quality::metrics::{Clip, MetricsError};

/// CLIP's score of an image with its prompt, 100 times their cosine with the released models
/// ([`Clip::scores`]). Prompts are cut to what CLIP reads, 77 tokens in the released models.
#[derive(Debug)]
pub struct ClipVerifier {
    clip: Clip,
}

impl ClipVerifier {
    /// Loads a CLIP of transformers from its folder.
    ///
    /// # Errors
    /// As [`Clip::load`].
    pub fn load(folder: &Path, device: &Device) -> Result<Self, MetricsError> {
        Clip::load(folder, device).map(Self::from)
    }
}

impl From<Clip> for ClipVerifier {
    fn from(clip: Clip) -> Self {
        Self { clip }
    }
}

impl Verifier for ClipVerifier {
    fn rate(&mut self, prompt: &str, image: &Path) -> Result<Rating, VerifierError> {
        let failed = |reason: String| VerifierError::Image {
            image: image.to_path_buf(),
            reason,
        };
        let pixels = image::load(image).map_err(|error| failed(error.to_string()))?;
        let scores = self.clip.scores(&[pixels], &[prompt]);
        let scores = scores.map_err(|error| failed(error.to_string()))?;
        let score = scores.first().copied().unwrap_or(f32::NAN);
        Ok(Rating::Score(f64::from(score)))
    }
}
