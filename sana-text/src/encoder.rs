//! Prompts in, embeddings and mask out.

use std::path::Path;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use sana_linear_attn::Weights;

use crate::error::TextError;
use crate::gemma2::{Gemma2Config, Gemma2LoadOptions, Gemma2Model};
use crate::prompt::{PromptOptions, PromptTokenizer, PromptTokens};
use crate::tokenizer::GemmaTokenizer;

/// Embeddings of a batch of prompts, as the diffusion transformer takes them.
#[derive(Debug, Clone)]
pub struct PromptEmbeds {
    /// `[batch, tokens, channels]`, the last hidden state of the kept tokens. Rows of padding hold
    /// no meaning (the encoder leaves them zero).
    pub embeds: Tensor<3>,
    /// `[batch, tokens]` in f32: 1 for a token, 0 for padding.
    pub mask: Tensor<2>,
    /// Tokens cut off the end of each prompt because it was too long.
    pub dropped_tokens: Vec<usize>,
    keep: Vec<Vec<bool>>,
}

impl PromptEmbeds {
    /// Embeddings made elsewhere. `keep` is `true` for tokens and `false` for padding; the prompts count as
    /// whole.
    ///
    /// # Errors
    /// [`TextError::EmbedsShape`] when the mask does not fit, [`TextError::EmptyBatch`] when there
    /// is nothing.
    pub fn new(embeds: Tensor<3>, keep: Vec<Vec<bool>>) -> Result<Self, TextError> {
        let [batch, tokens, _] = embeds.dims();
        if batch == 0 || tokens == 0 {
            return Err(TextError::EmptyBatch);
        }
        if keep.len() != batch {
            return Err(size_error("mask rows", batch, keep.len()));
        }
        if let Some(row) = keep.iter().find(|row| row.len() != tokens) {
            return Err(size_error("mask columns", tokens, row.len()));
        }
        let mask = mask_tensor(&keep, &embeds.device());
        Ok(Self {
            embeds,
            mask,
            dropped_tokens: vec![0; batch],
            keep,
        })
    }

    /// The mask on the host: `true` for a token, `false` for padding.
    pub fn keep(&self) -> &[Vec<bool>] {
        &self.keep
    }

    /// Cuts columns at the end that are padding in every row, down to one column at least. Exact
    /// for whatever honours the mask.
    pub fn trim(self) -> Self {
        let used = self
            .keep
            .iter()
            .filter_map(|row| row.iter().rposition(|keep| *keep))
            .max()
            .map_or(1, |last| last + 1);
        if used == self.mask.dims()[1] {
            return self;
        }
        let keep = self
            .keep
            .into_iter()
            .map(|row| row[..used].to_vec())
            .collect();
        Self {
            embeds: self.embeds.narrow(1, 0, used),
            mask: self.mask.narrow(1, 0, used),
            dropped_tokens: self.dropped_tokens,
            keep,
        }
    }

    /// Every prompt `times` times in a row, for several images per prompt: prompts `a, b` become
    /// `a, a, b, b`.
    ///
    /// # Panics
    /// If `times` is 0.
    pub fn repeat_each(self, times: usize) -> Self {
        assert!(times > 0, "prompts repeated 0 times");
        if times == 1 {
            return self;
        }
        let rows = 0..self.keep.len();
        let rows: Vec<usize> = rows
            .flat_map(|row| std::iter::repeat_n(row, times))
            .collect();
        self.select(&rows)
    }

    /// The prompts of these rows, in this order; a row may occur several times.
    ///
    /// # Panics
    /// If `rows` is empty or names a row that is not there.
    pub fn select(self, rows: &[usize]) -> Self {
        assert!(!rows.is_empty(), "no rows selected");
        let keep: Vec<Vec<bool>> = rows.iter().map(|&row| self.keep[row].clone()).collect();
        let device = self.embeds.device();
        let indices: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
        let indices = Tensor::<1, Int>::from_ints(indices.as_slice(), &device);
        Self {
            embeds: self.embeds.select(0, indices),
            mask: mask_tensor(&keep, &device),
            dropped_tokens: rows.iter().map(|&row| self.dropped_tokens[row]).collect(),
            keep,
        }
    }

    /// Puts batches together, such as negative and positive prompts for guidance. Shorter ones are
    /// padded to the longest with zeros that the mask hides.
    ///
    /// # Errors
    /// [`TextError::EmptyBatch`] for none, [`TextError::EmbedsShape`] when channels differ.
    pub fn cat(parts: Vec<Self>) -> Result<Self, TextError> {
        let first = parts.first().ok_or(TextError::EmptyBatch)?;
        let [_, _, channels] = first.embeds.dims();
        let (dtype, device) = (first.embeds.dtype(), first.embeds.device());
        if let Some(part) = parts.iter().find(|part| part.embeds.dims()[2] != channels) {
            return Err(size_error("channels", channels, part.embeds.dims()[2]));
        }
        let tokens = parts
            .iter()
            .map(|part| part.embeds.dims()[1])
            .max()
            .unwrap_or(1);
        let mut embeds = Vec::with_capacity(parts.len());
        let (mut keep, mut dropped_tokens) = (Vec::new(), Vec::new());
        for part in parts {
            embeds.push(pad_tokens(part.embeds.cast(dtype), tokens));
            keep.extend(part.keep.into_iter().map(|mut row| {
                row.resize(tokens, false);
                row
            }));
            dropped_tokens.extend(part.dropped_tokens);
        }
        let mask = mask_tensor(&keep, &device);
        Ok(Self {
            embeds: Tensor::cat(embeds, 0),
            mask,
            dropped_tokens,
            keep,
        })
    }
}

fn size_error(what: &'static str, expected: usize, found: usize) -> TextError {
    TextError::EmbedsShape {
        what,
        expected,
        found,
    }
}

/// `[batch, tokens]` in f32: 1 where `keep`, 0 elsewhere. Rows have the same length.
fn mask_tensor(keep: &[Vec<bool>], device: &Device) -> Tensor<2> {
    let tokens = keep.first().map_or(0, Vec::len);
    let values: Vec<f32> = keep
        .iter()
        .flatten()
        .map(|&keep| f32::from(u8::from(keep)))
        .collect();
    Tensor::from_data(
        TensorData::new(values, [keep.len(), tokens]),
        (device, DType::F32),
    )
}

/// Appends zero columns up to `tokens`.
fn pad_tokens(embeds: Tensor<3>, tokens: usize) -> Tensor<3> {
    let [batch, present, channels] = embeds.dims();
    if present >= tokens {
        return embeds;
    }
    let options = (&embeds.device(), embeds.dtype());
    let zeros = Tensor::zeros([batch, tokens - present, channels], options);
    Tensor::cat(vec![embeds, zeros], 1)
}

/// The text side of Sana: tokenizer, instruction and Gemma-2 encoder.
#[derive(Debug, Clone)]
pub struct PromptEncoder {
    prompts: PromptTokenizer,
    model: Gemma2Model,
}

impl PromptEncoder {
    /// Puts a tokenizer and a model together.
    ///
    /// # Errors
    /// [`TextError::Vocabulary`] when the tokenizer has more tokens than the model has embeddings,
    /// or as [`PromptTokenizer::new`].
    pub fn new(
        tokenizer: GemmaTokenizer,
        model: Gemma2Model,
        options: PromptOptions,
    ) -> Result<Self, TextError> {
        let (known, embedded) = (tokenizer.vocab_size(), model.config().vocab_size);
        if known > embedded {
            return Err(TextError::Vocabulary {
                tokenizer: known,
                model: embedded,
            });
        }
        Ok(Self {
            prompts: PromptTokenizer::new(tokenizer, options)?,
            model,
        })
    }

    /// Loads the folders `tokenizer` and `text_encoder` of a published checkpoint.
    ///
    /// # Errors
    /// When a file is missing or unusable; see [`GemmaTokenizer::from_folder`] and
    /// [`Gemma2Model::load`].
    pub fn load(
        tokenizer_folder: &Path,
        text_encoder_folder: &Path,
        load: &Gemma2LoadOptions,
        options: PromptOptions,
        device: &Device,
    ) -> Result<Self, TextError> {
        let tokenizer = GemmaTokenizer::from_folder(tokenizer_folder)?;
        let model = Gemma2Model::load(text_encoder_folder, load, device)?;
        Self::new(tokenizer, model, options)
    }

    /// Loads a checkpoint that is in memory: the texts of `tokenizer.json` and `config.json`, and
    /// the weights (see [`Weights::from_bytes`]), whose origin names all three in errors.
    ///
    /// # Errors
    /// When one of them is unusable.
    pub fn from_bytes(
        tokenizer_json: &[u8],
        config_json: &[u8],
        weights: Weights,
        load: &Gemma2LoadOptions,
        options: PromptOptions,
        device: &Device,
    ) -> Result<Self, TextError> {
        let origin = weights.origin().to_owned();
        let tokenizer =
            GemmaTokenizer::from_bytes(&format!("tokenizer.json of {origin}"), tokenizer_json)?;
        let config = Gemma2Config::from_json(&format!("config.json of {origin}"), config_json)?;
        let model = Gemma2Model::from_weights(&config, weights, load, device)?;
        Self::new(tokenizer, model, options)
    }

    /// The tokenizing half.
    pub fn prompts(&self) -> &PromptTokenizer {
        &self.prompts
    }

    /// The encoder.
    pub fn model(&self) -> &Gemma2Model {
        &self.model
    }

    /// Takes it apart, for training the model or replacing a half.
    pub fn into_parts(self) -> (PromptTokenizer, Gemma2Model) {
        (self.prompts, self.model)
    }

    /// Encodes prompts behind the instruction. An over-long prompt is cut at its end, as the
    /// reference cuts it, and `dropped_tokens` says by how much.
    ///
    /// # Shapes
    /// - `embeds` `[prompts, max_tokens, channels]`, `mask` `[prompts, max_tokens]`
    ///
    /// # Errors
    /// [`TextError::EmptyBatch`] for no prompts, or a tokenizer failure.
    pub fn encode<S: AsRef<str>>(&self, prompts: &[S]) -> Result<PromptEmbeds, TextError> {
        encode_tokens(&self.model, &self.prompts.tokenize(prompts)?)
    }

    /// Encodes prompts without the instruction, as negative prompts are; the unconditional
    /// embedding of classifier-free guidance is that of the empty prompt.
    ///
    /// # Shapes
    /// - as [`encode`](Self::encode)
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_negative<S: AsRef<str>>(&self, prompts: &[S]) -> Result<PromptEmbeds, TextError> {
        encode_tokens(&self.model, &self.prompts.tokenize_negative(prompts)?)
    }
}

/// Runs the model on tokenized prompts and keeps the columns that count. Padding after the longest
/// prompt is left out of the run, which changes nothing: no token sees it.
///
/// # Shapes
/// - `embeds` `[prompts, kept_columns, channels]`
///
/// # Errors
/// [`TextError::NoTokens`] when no prompt has a token, or as [`Gemma2Model::embed`].
pub fn encode_tokens(
    model: &Gemma2Model,
    tokens: &PromptTokens,
) -> Result<PromptEmbeds, TextError> {
    let used = tokens.longest();
    if used == 0 && !tokens.ids.is_empty() {
        return Err(TextError::NoTokens);
    }
    let ids: Vec<&[u32]> = tokens
        .ids
        .iter()
        .map(|row| &row[..used.min(row.len())])
        .collect();
    let mask: Vec<Vec<bool>> = tokens.mask.iter().map(|row| row[..used].to_vec()).collect();
    let hidden = model.forward_ids(&ids, mask_tensor(&mask, &model.device()))?;

    let columns = &tokens.kept_columns;
    let mut parts = vec![hidden.clone().narrow(1, 0, 1)];
    // After column 0 the kept columns are one run up to the end of the row.
    if let Some(&start) = columns.get(1).filter(|start| **start < used) {
        parts.push(hidden.narrow(1, start, used - start));
    }
    let embeds = pad_tokens(Tensor::cat(parts, 1), columns.len());
    let keep: Vec<Vec<bool>> = tokens
        .mask
        .iter()
        .map(|row| columns.iter().map(|&column| row[column]).collect())
        .collect();
    let mut embeds = PromptEmbeds::new(embeds, keep)?;
    embeds.dropped_tokens.clone_from(&tokens.dropped_tokens);
    Ok(embeds)
}
