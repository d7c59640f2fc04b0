//! What of a record is for other programs, or was written by them.

use sana_pipeline::image::{PARAMETERS, Parameters, XMP, source_type};

use super::metadata::Record;

impl Record {
    /// What others read of it: the text of AUTOMATIC1111's web UI, with JPEG and WebP the comment that it
    /// writes there.
    pub fn parameters(&self) -> Option<Parameters> {
        let mut texts = self.0.iter();
        texts.find_map(|(key, text)| match key.as_str() {
            PARAMETERS | "UserComment" => Parameters::parse(text),
            _ => None,
        })
    }

    /// The text of [`parameters`](Self::parameters).
    pub fn parameters_text(&self) -> Option<&str> {
        let mut texts = self.0.iter();
        let (_, text) = texts.find(|(key, _)| key == PARAMETERS)?;
        Some(text)
    }

    /// The same text where it is not ours and in another form: other programs use the keyword too.
    pub fn other_parameters(&self) -> Option<&str> {
        self.parameters_text()
            .filter(|text| !self.is_ours() && Parameters::parse(text).is_none())
    }

    /// Where its XMP says that the image comes from.
    pub fn source_type(&self) -> Option<&str> {
        let (_, xmp) = self.0.iter().find(|(key, _)| key == XMP)?;
        source_type(xmp)
    }

    /// The mark alone, for a file that the rest does not fit into.
    pub fn mark(&self) -> Vec<(&str, &str)> {
        let mut texts = self.texts();
        texts.retain(|(key, _)| *key == XMP);
        texts
    }

    /// Keys and values but for what is written for others.
    pub fn own(&self) -> impl Iterator<Item = &(String, String)> {
        self.0
            .iter()
            .filter(|(key, _)| ![XMP, PARAMETERS].contains(&key.as_str()))
    }
}
