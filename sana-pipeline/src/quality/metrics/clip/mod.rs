//! CLIP (Radford et al. 2021), and how well it thinks that images fit texts.

mod config;
mod layers;
mod preprocess;
mod towers;

use std::path::Path;

use burn::module::Module;
use burn::tensor::{DType, Device, Int, Tensor};
use sana_linear_attn::weights::{read_bounded, read_text_bounded};
use sana_linear_attn::{LoadOptions, TorchLinear, Weights, load_module};
use serde::de::DeserializeOwned;
use tokenizers::Tokenizer;

use self::config::ClipConfig;
use self::preprocess::Preprocessor;
use self::towers::{TextTower, VisionTower};
use super::error::MetricsError;
use crate::image::{RgbImage, host_values};

/// Bytes of a configuration, at most.
const LARGEST_CONFIG: u64 = 1 << 20;
const LOGIT_SCALE: &str = "logit_scale";
const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";

/// A CLIP of transformers: `config.json`, `preprocessor_config.json`, `tokenizer.json` and
/// `model.safetensors` of one folder, such as those of `openai/clip-vit-large-patch14`. It computes
/// in f32.
#[derive(Debug)]
pub struct Clip {
    network: ClipNetwork,
    config: ClipConfig,
    preprocessor: Preprocessor,
    tokenizer: Tokenizer,
    /// Ids of the tokens around every text.
    start: u32,
    end: u32,
    /// `exp(logit_scale)`, 100 in the released models.
    scale: f32,
    device: Device,
}

/// Both towers and their projections to one space, under transformers' names.
#[derive(Module, Debug)]
struct ClipNetwork {
    text_model: TextTower,
    vision_model: VisionTower,
    visual_projection: TorchLinear,
    text_projection: TorchLinear,
}

/// A text as CLIP reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClipTokens {
    /// Token ids, with those of start and end.
    pub ids: Vec<u32>,
    /// Tokens that were cut off at the end of the text.
    pub dropped: usize,
}

impl Clip {
    /// Loads a model on a device.
    ///
    /// # Errors
    /// [`MetricsError::Io`] when a file is missing, [`MetricsError::Model`] when one is not what
    /// CLIP needs, [`MetricsError::Weights`] when tensors are missing, unexpected or of another
    /// shape.
    pub fn load(folder: &Path, device: &Device) -> Result<Self, MetricsError> {
        let config: ClipConfig = read_json(&folder.join("config.json"))?;
        let wrong = |name: &str, reason: String| MetricsError::Model {
            path: folder.join(name),
            reason,
        };
        config
            .validate()
            .map_err(|reason| wrong("config.json", reason))?;
        let preprocessor: Preprocessor = read_json(&folder.join("preprocessor_config.json"))?;
        preprocessor
            .validate(config.vision_config.image_size)
            .map_err(|reason| wrong("preprocessor_config.json", reason))?;
        let (tokenizer, [start, end]) = read_tokenizer(&folder.join("tokenizer.json"))?;
        if let Some(id) = [start, end]
            .into_iter()
            .find(|id| *id as usize >= config.text_config.vocab_size)
        {
            let reason = format!(
                "its token {id} is beyond the vocab_size {} of config.json",
                config.text_config.vocab_size
            );
            return Err(wrong("tokenizer.json", reason));
        }
        let weights = Weights::open_folder(folder, "model", None)?;
        let options = LoadOptions {
            dtype: Some(DType::F32),
            // Not parameters: the scale of the scores, and a table of 0, 1, 2, ... of older files.
            ignore: &[LOGIT_SCALE, ".position_ids"],
            ..LoadOptions::default()
        };
        let network = load_module(
            ClipNetwork::new(&config, device),
            &weights,
            &options,
            device,
        )?;
        Ok(Self {
            network,
            scale: logit_scale(&weights)?.exp(),
            config,
            preprocessor,
            tokenizer,
            start,
            end,
            device: device.clone(),
        })
    }

    /// How images become pixels, in words.
    pub fn resize(&self) -> String {
        self.preprocessor.to_string()
    }

    /// What cosines are multiplied by: 100 in the released models.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// The ids of a text, cut to the length that the model was trained on.
    ///
    /// # Errors
    /// [`MetricsError::Tokenize`] when the tokenizer fails or makes tokens that the model lacks.
    pub fn tokens(&self, text: &str) -> Result<ClipTokens, MetricsError> {
        let failed = |reason: String| MetricsError::Tokenize { reason };
        let encoding = self.tokenizer.encode_fast(text, false);
        let encoding = encoding.map_err(|error| failed(error.to_string()))?;
        let room = self.config.text_config.max_position_embeddings - 2;
        let kept = encoding.get_ids().iter().copied().take(room);
        let ids: Vec<u32> = [self.start]
            .into_iter()
            .chain(kept)
            .chain([self.end])
            .collect();
        let tokens = self.config.text_config.vocab_size;
        if let Some(id) = ids.iter().find(|id| **id as usize >= tokens) {
            return Err(failed(format!("token {id} of a model with {tokens}")));
        }
        Ok(ClipTokens {
            dropped: encoding.len().saturating_sub(room),
            ids,
        })
    }

    /// Unit vectors of images.
    ///
    /// # Shapes
    /// - result `[images, projection]`
    ///
    /// # Panics
    /// Without images.
    pub fn image_features(&self, images: &[RgbImage]) -> Tensor<2> {
        let pixels = images
            .iter()
            .map(|image| self.preprocessor.pixels(image, &self.device))
            .collect();
        let pooled = self.network.vision_model.forward(Tensor::cat(pixels, 0));
        unit(self.network.visual_projection.forward(pooled))
    }

    /// Unit vectors of texts.
    ///
    /// # Shapes
    /// - result `[texts, projection]`
    ///
    /// # Errors
    /// As [`tokens`](Self::tokens).
    ///
    /// # Panics
    /// Without texts.
    pub fn text_features<T: AsRef<str>>(&self, texts: &[T]) -> Result<Tensor<2>, MetricsError> {
        let ids: Result<Vec<Vec<u32>>, _> = texts
            .iter()
            .map(|text| self.tokens(text.as_ref()).map(|tokens| tokens.ids))
            .collect();
        let ids = ids?;
        let longest = ids.iter().map(Vec::len).max().unwrap_or(0);
        // Attention is causal: what comes after the end changes nothing before it.
        let padded: Vec<i64> = ids
            .iter()
            .flat_map(|ids| (0..longest).map(|index| ids.get(index).map_or(0, |id| i64::from(*id))))
            .collect();
        let pooled: Vec<i64> = ids
            .iter()
            .enumerate()
            .map(|(text, ids)| (text * longest + self.config.text_config.pooled(ids)) as i64)
            .collect();
        let ids = Tensor::<1, Int>::from_ints(padded.as_slice(), &self.device);
        let pooled = Tensor::<1, Int>::from_ints(pooled.as_slice(), &self.device);
        let pooled = self.network.text_model.forward(ids, texts.len(), pooled);
        Ok(unit(self.network.text_projection.forward(pooled)))
    }

    /// The score of each image with its own text: `exp(logit_scale)` times the cosine of their
    /// vectors, from -100 to 100 in the released models. Nothing is clamped.
    ///
    /// # Errors
    /// As [`text_features`](Self::text_features); [`MetricsError::Pairs`] for another number of
    /// texts, [`MetricsError::Pipeline`] when the values cannot be read, [`MetricsError::NotFinite`]
    /// for a score that is not finite.
    pub fn scores<T: AsRef<str>>(
        &self,
        images: &[RgbImage],
        texts: &[T],
    ) -> Result<Vec<f32>, MetricsError> {
        if images.len() != texts.len() {
            return Err(MetricsError::Pairs {
                images: images.len(),
                texts: texts.len(),
            });
        }
        if images.is_empty() {
            return Ok(Vec::new());
        }
        let products = self.image_features(images) * self.text_features(texts)?;
        let scores = products.sum_dim(1).mul_scalar(self.scale);
        let scores = host_values(scores, "reading the scores")?;
        match scores.iter().all(|score| score.is_finite()) {
            true => Ok(scores),
            false => Err(MetricsError::NotFinite { what: "CLIP score" }),
        }
    }
}

impl ClipNetwork {
    fn new(config: &ClipConfig, device: &Device) -> Self {
        let projection = |width| TorchLinear::new(width, config.projection_dim, false, device);
        Self {
            text_model: TextTower::new(&config.text_config, device),
            vision_model: VisionTower::new(&config.vision_config, device),
            visual_projection: projection(config.vision_config.hidden_size),
            text_projection: projection(config.text_config.hidden_size),
        }
    }
}

fn unit(vectors: Tensor<2>) -> Tensor<2> {
    let squares = (vectors.clone() * vectors.clone()).sum_dim(1);
    vectors / squares.sqrt()
}

fn io_error(path: &Path) -> impl FnOnce(std::io::Error) -> MetricsError {
    move |source| MetricsError::Io {
        path: path.to_path_buf(),
        source,
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, MetricsError> {
    let text = read_text_bounded(path, LARGEST_CONFIG).map_err(io_error(path))?;
    serde_json::from_str(&text).map_err(|error| MetricsError::Model {
        path: path.to_path_buf(),
        reason: error.to_string(),
    })
}

/// The tokenizer, and the ids of its tokens of start and end. These are added here: what else the
/// file says of special tokens, cutting and padding is not used.
fn read_tokenizer(path: &Path) -> Result<(Tokenizer, [u32; 2]), MetricsError> {
    let wrong = |reason: String| MetricsError::Model {
        path: path.to_path_buf(),
        reason,
    };
    let json = read_bounded(path, sana_text::LARGEST_TOKENIZER).map_err(io_error(path))?;
    let mut tokenizer = Tokenizer::from_bytes(&json).map_err(|error| wrong(error.to_string()))?;
    let cleared = tokenizer.with_truncation(None).map(|tokenizer| {
        tokenizer
            .with_padding(None)
            .with_post_processor(None::<tokenizers::PostProcessorWrapper>);
    });
    cleared.map_err(|error| wrong(error.to_string()))?;
    let id = |token: &str| {
        let id = tokenizer.token_to_id(token);
        id.ok_or_else(|| wrong(format!("it has no token {token}, which CLIP's have")))
    };
    let ids = [id(START)?, id(END)?];
    Ok((tokenizer, ids))
}

/// The logarithm of the scores' scale: a single value, in a tensor without dimensions or with one.
fn logit_scale(weights: &Weights) -> Result<f32, MetricsError> {
    let origin = || weights.origin().into();
    let value =
        weights
            .bytes(LOGIT_SCALE)
            .and_then(|bytes| match (weights.dtype(LOGIT_SCALE)?, bytes) {
                (DType::F32, &[a, b, c, d]) => Some(f32::from_le_bytes([a, b, c, d])),
                (DType::F16, &[a, b]) => Some(half::f16::from_le_bytes([a, b]).to_f32()),
                (DType::BF16, &[a, b]) => Some(half::bf16::from_le_bytes([a, b]).to_f32()),
                _ => None,
            });
    value.ok_or_else(|| MetricsError::Model {
        path: origin(),
        reason: format!("{LOGIT_SCALE} is not a single float"),
    })
}
