use sana_text::{normalize_prompt, train_gemma_style};

use super::data::DataSource;
use super::error::{TrainError, in_range};

/// Captions that a tokenizer is made from.
const CAPTIONS: usize = 4000;
/// Tokens of a vocabulary: what Gemma's has besides words, and four times as many as Gemma's are.
const VOCAB: std::ops::RangeInclusive<usize> = 261..=1 << 20;

/// A tokenizer of at most `vocab` tokens for a new model, made from captions of the data: the text of
/// a `tokenizer.json`. The same source and seed give the same text.
///
/// # Errors
/// When `vocab` is not in 261..=1048576, there is no text in the captions, or one cannot be had.
pub fn train_tokenizer(
    data: &dyn DataSource,
    vocab: usize,
    seed: u64,
) -> Result<String, TrainError> {
    in_range("vocab", "in 261..=1048576", VOCAB.contains(&vocab), vocab)?;
    let captions = data.captions(seed, CAPTIONS)?;
    // As prompts are before they are tokenized.
    let captions = captions.iter().map(|caption| normalize_prompt(caption));
    Ok(train_gemma_style(captions, vocab)?)
}
