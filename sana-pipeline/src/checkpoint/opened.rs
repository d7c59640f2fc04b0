//! An opened checkpoint.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use sana_linear_attn::SanaTransformerConfig;
use sana_linear_attn::weights::LARGEST_CONFIG;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::component::{Component, INDEX};
use super::external::{
    ControlNetFolder, TEXT_ENCODER_CLASS, TRANSFORMER_CLASS, TextEncoderFile, TransformerFile,
};
use super::keys::SanaKeys;
use crate::error::{CheckpointError, PipelineError};

/// Pipelines whose parts are those of text to image.
const PIPELINES: &[&str] = &[
    "SanaPipeline",
    "SanaSprintPipeline",
    "SanaPAGPipeline",
    "SanaSprintImg2ImgPipeline",
    "SanaControlNetPipeline",
];

#[derive(Debug, Clone)]
pub(super) enum Source {
    Folder(PathBuf),
    #[cfg(feature = "scenes-model")]
    BuiltIn,
}

/// A checkpoint: where its files are and what `model_index.json` says. No weights are read before
/// they are asked for.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    pub(super) source: Source,
    pipeline: String,
    classes: BTreeMap<Component, String>,
    pub(super) keys: SanaKeys,
    /// What replaces its transformer.
    pub(super) transformer: Option<Box<TransformerFile>>,
    /// What replaces its text encoder.
    pub(super) text_encoder: Option<Box<TextEncoderFile>>,
    /// Whether files that were not fetched show that its transformer was trained in f16.
    pub(super) trained_in_f16: bool,
}

impl Checkpoint {
    /// Opens a checkpoint folder and checks that everything is there.
    ///
    /// # Errors
    /// [`CheckpointError::NoFolder`], [`CheckpointError::NotCheckpoint`],
    /// [`CheckpointError::Incomplete`] with all missing files, [`CheckpointError::PipelineClass`] or
    /// [`CheckpointError::ComponentClass`].
    pub fn open(folder: &Path) -> Result<Self, PipelineError> {
        if !found(folder)?.is_some_and(|folder| folder.is_dir()) {
            return Err(PipelineError::Checkpoint(CheckpointError::NoFolder {
                path: folder.to_path_buf(),
            }));
        }
        if !is_file(&folder.join(INDEX))? {
            return Err(PipelineError::Checkpoint(CheckpointError::NotCheckpoint {
                folder: folder.to_path_buf(),
            }));
        }
        let checkpoint = Self::with_source(Source::Folder(folder.to_path_buf()))?;
        let mut files = Vec::new();
        for part in checkpoint.parts() {
            if !is_file(&folder.join(part.config_file()))? {
                files.push(part.config_file().to_owned());
            }
        }
        if files.is_empty() {
            return Ok(checkpoint);
        }
        let sentencepiece = folder.join("tokenizer/tokenizer.model");
        if files == [Component::Tokenizer.config_file()] && sentencepiece.is_file() {
            // It says what to do about a tokenizer of another form.
            checkpoint.tokenizer()?;
        }
        Err(PipelineError::Checkpoint(CheckpointError::Incomplete {
            origin: checkpoint.origin(),
            files,
        }))
    }

    /// The checkpoint that this project trained on the [scene language](crate::scenes).
    ///
    /// Exists with the feature `scenes-model`, which is on by default.
    ///
    /// # Panics
    /// If its `model_index.json` was damaged when the program was built.
    #[cfg(feature = "scenes-model")]
    #[cfg_attr(docsrs, doc(cfg(feature = "scenes-model")))]
    pub fn built_in() -> Self {
        Self::with_source(Source::BuiltIn)
            .unwrap_or_else(|error| panic!("the built-in checkpoint: {error}"))
    }

    fn with_source(source: Source) -> Result<Self, PipelineError> {
        let mut checkpoint = Self {
            source,
            pipeline: String::new(),
            classes: BTreeMap::new(),
            keys: SanaKeys::default(),
            transformer: None,
            text_encoder: None,
            trained_in_f16: false,
        };
        let origin = checkpoint.name_of(INDEX);
        let json = |source| {
            PipelineError::Checkpoint(CheckpointError::Json {
                origin: origin.clone(),
                source,
            })
        };
        let index: Map<String, Value> =
            serde_json::from_slice(&checkpoint.read_bounded(INDEX, LARGEST_CONFIG)?)
                .map_err(json)?;
        if let Some(keys) = index.get("_sana") {
            checkpoint.keys = SanaKeys::deserialize(keys).map_err(json)?;
        }
        let class = index.get("_class_name").and_then(Value::as_str);
        checkpoint.pipeline = class.unwrap_or_default().to_owned();
        if !PIPELINES.contains(&checkpoint.pipeline.as_str()) {
            return Err(PipelineError::Checkpoint(CheckpointError::PipelineClass {
                origin,
                found: checkpoint.pipeline,
                expected: PIPELINES,
            }));
        }
        for part in Component::ALL {
            // A part that was left out is written as [null, null].
            let class = index.get(part.folder()).and_then(|entry| entry.get(1));
            let Some(class) = class.and_then(Value::as_str) else {
                continue;
            };
            let expected = part.classes();
            if !expected.is_empty() && !expected.contains(&class) {
                return Err(PipelineError::Checkpoint(CheckpointError::ComponentClass {
                    component: part,
                    origin: checkpoint.origin(),
                    found: class.to_owned(),
                    expected,
                }));
            }
            checkpoint.classes.insert(part, class.to_owned());
        }
        checkpoint.add_controlnet_in_folder();
        Ok(checkpoint)
    }

    /// A folder `controlnet` is a part too where `model_index.json` does not name it, since the
    /// reference's text-to-image pipeline has no such part.
    fn add_controlnet_in_folder(&mut self) {
        let part = Component::ControlNet;
        let folder = self.folder().map(|folder| folder.join(part.folder()));
        if folder.is_some_and(|folder| ControlNetFolder::is_one(&folder)) {
            let class = part.classes()[0].to_owned();
            self.classes.entry(part).or_insert(class);
        }
    }

    /// The same checkpoint with another transformer: a safetensors file, or a folder like its
    /// `transformer`, in the published layout, the
    /// [original](sana_linear_attn::transformer::OriginalLayout) one or that of
    /// [nunchaku](sana_linear_attn::transformer::NunchakuLayout). Its config is the
    /// `config.json` next to the weights, or else
    /// [read off the shapes](SanaTransformerConfig::infer); what these do not show is as in this
    /// checkpoint.
    ///
    /// # Errors
    /// When the file is not usable, or does not show what transformer it is.
    pub fn with_transformer(
        mut self,
        path: &Path,
        variant: Option<&str>,
    ) -> Result<Self, PipelineError> {
        let base = match self.classes.contains_key(&Component::Transformer) {
            true => self.transformer_config()?,
            false => SanaTransformerConfig::default(),
        };
        let file = TransformerFile::open(path, variant, &base)?;
        self.classes
            .insert(Component::Transformer, TRANSFORMER_CLASS.to_owned());
        self.transformer = Some(Box::new(file));
        Ok(self)
    }

    /// The same checkpoint with another text encoder: a GGUF file of Gemma-2, a safetensors file, or a
    /// folder like its `text_encoder`. A file has the config of the checkpoint's own, with which the
    /// metadata of a GGUF file is compared; a folder has its own. The tokenizer stays.
    ///
    /// # Errors
    /// When the file is not usable.
    pub fn with_text_encoder(
        mut self,
        path: &Path,
        variant: Option<&str>,
    ) -> Result<Self, PipelineError> {
        let file = TextEncoderFile::open(path, variant)?;
        self.classes
            .entry(Component::TextEncoder)
            .or_insert(TEXT_ENCODER_CLASS.to_owned());
        self.text_encoder = Some(Box::new(file));
        Ok(self)
    }

    /// Whether it is the one that is built into the library.
    pub(crate) fn is_built_in(&self) -> bool {
        #[cfg(feature = "scenes-model")]
        let is_built_in = matches!(self.source, Source::BuiltIn)
            && self.transformer.is_none()
            && self.text_encoder.is_none();
        #[cfg(not(feature = "scenes-model"))]
        let is_built_in = false;
        is_built_in
    }

    /// What was assumed of a transformer of [its own file](Self::with_transformer).
    pub(crate) fn notes(&self) -> Vec<String> {
        let note = self.transformer.as_ref().and_then(|file| file.note.clone());
        note.into_iter().collect()
    }

    /// That its transformer was trained in f16, whichever of its files are here.
    #[cfg(feature = "hub")]
    pub(crate) fn mark_trained_in_f16(&mut self) {
        self.trained_in_f16 = true;
    }

    /// The ControlNet that was asked for, else its own, if it has one.
    pub(crate) fn controlnet(
        &self,
        requested: Option<&Path>,
    ) -> Result<Option<ControlNetFolder>, PipelineError> {
        if let Some(folder) = requested {
            return ControlNetFolder::open(folder).map(Some);
        }
        let has_one = self.classes.contains_key(&Component::ControlNet);
        let Some(folder) = self.folder().filter(|_| has_one) else {
            return Ok(None);
        };
        let opened = ControlNetFolder::open(&folder.join(Component::ControlNet.folder()))?;
        Ok(Some(opened.found()))
    }

    /// Where it is: the folder, or `the built-in checkpoint`.
    pub fn origin(&self) -> String {
        match &self.source {
            Source::Folder(folder) => folder.display().to_string(),
            #[cfg(feature = "scenes-model")]
            Source::BuiltIn => "the built-in checkpoint".to_owned(),
        }
    }

    /// Its folder, if it is in one.
    pub fn folder(&self) -> Option<&Path> {
        match &self.source {
            Source::Folder(folder) => Some(folder),
            #[cfg(feature = "scenes-model")]
            Source::BuiltIn => None,
        }
    }

    /// How a file of it is called in errors.
    pub(super) fn name_of(&self, file: &str) -> String {
        match &self.source {
            Source::Folder(folder) => folder.join(file).display().to_string(),
            #[cfg(feature = "scenes-model")]
            Source::BuiltIn => format!("{file} of the built-in checkpoint"),
        }
    }

    /// The class of pipeline it was saved from, such as `SanaPipeline`.
    pub fn pipeline_class(&self) -> &str {
        &self.pipeline
    }

    /// What this project's own key says about it.
    pub fn keys(&self) -> &SanaKeys {
        &self.keys
    }

    /// The parts it has.
    pub fn parts(&self) -> impl Iterator<Item = Component> + '_ {
        self.classes.keys().copied()
    }

    /// The parts it has, with the class of each.
    pub(super) fn classes(&self) -> impl Iterator<Item = (Component, &str)> {
        let classes = self.classes.iter();
        classes.map(|(&part, class)| (part, class.as_str()))
    }

    /// The class of a part, such as `AutoencoderDC`.
    ///
    /// # Errors
    /// [`CheckpointError::NoComponent`] when it does not have the part.
    pub fn class(&self, part: Component) -> Result<&str, CheckpointError> {
        let class = self.classes.get(&part).map(String::as_str);
        class.ok_or_else(|| CheckpointError::NoComponent {
            component: part,
            origin: self.origin(),
        })
    }
}

/// What is at a path; `None` for nothing, and the system's reason where it cannot be looked at.
fn found(path: &Path) -> Result<Option<Metadata>, PipelineError> {
    match path.metadata() {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(source) => Err(PipelineError::Read {
            path: path.to_path_buf(),
            source,
        }),
    }
}

fn is_file(path: &Path) -> Result<bool, PipelineError> {
    Ok(found(path)?.is_some_and(|found| found.is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The limit that models trained in f16 need follows from any such file in the folder.
    #[test]
    fn files_trained_in_f16_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        let index = r#"{"_class_name": "SanaPipeline"}"#;
        std::fs::write(folder.path().join(INDEX), index).unwrap();
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        assert!(!checkpoint.has_f16_transformer());
        let transformer = folder.path().join("transformer");
        std::fs::create_dir(&transformer).unwrap();
        let plain = "diffusion_pytorch_model.safetensors";
        std::fs::write(transformer.join(plain), "").unwrap();
        assert!(!checkpoint.has_f16_transformer());
        let shard = "diffusion_pytorch_model.fp16-00001-of-00002.safetensors";
        std::fs::write(transformer.join(shard), "").unwrap();
        assert!(checkpoint.has_f16_transformer());
    }

    #[cfg(feature = "scenes-model")]
    #[test]
    fn the_built_in_checkpoint_is_whole() {
        let checkpoint = Checkpoint::built_in();
        let expected = Component::ALL
            .into_iter()
            .filter(|part| *part != Component::ControlNet);
        assert!(checkpoint.parts().eq(expected));
        let description = checkpoint.describe(None).unwrap();
        assert!(description.parts.iter().map(|part| part.bytes).sum::<u64>() < 8_000_000);
        assert!(checkpoint.folder().is_none());
        let error = checkpoint.read("vae/none.json").unwrap_err();
        assert!(matches!(error, PipelineError::Read { .. }));
        checkpoint.tokenizer().unwrap();
    }
}
