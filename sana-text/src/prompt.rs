//! From prompts to token ids: the instruction before the prompt, the limits, and which tokens are
//! kept.
//!
//! Sana puts a "complex human instruction" before the user's prompt, encodes both, and keeps the
//! first token and the last `max_tokens - 1` (Xie et al., "Sana", arXiv:2410.10629, section 3.2).

use crate::error::TextError;
use crate::tokenizer::GemmaTokenizer;

/// Tokens kept of every prompt by the released models.
const DEFAULT_MAX_TOKENS: usize = 300;

/// The text before the prompt that explains to the language model what it is reading.
///
/// The two published templates differ in the quotes around one phrase, so their token ids differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    lines: Vec<String>,
}

const INSTRUCTION_REST: [&str; 7] = [
    "- If the prompt is simple, focus on adding specifics about colors, shapes, sizes, textures, and spatial relationships to create vivid and concrete scenes.",
    "- If the prompt is already detailed, refine and enhance the existing details slightly without overcomplicating.",
    "Here are examples of how to transform or refine prompts:",
    "- User Prompt: A cat sleeping -> Enhanced: A small, fluffy white cat curled up in a round shape, sleeping peacefully on a warm sunny windowsill, surrounded by pots of blooming red flowers.",
    "- User Prompt: A busy city street -> Enhanced: A bustling city street scene at dusk, featuring glowing street lamps, a diverse crowd of people in colorful clothing, and a double-decker bus passing by towering glass skyscrapers.",
    "Please generate only the enhanced description for the prompt below and avoid including any additional commentary or evaluations:",
    "User Prompt: ",
];

impl Instruction {
    /// The template of the reference library: `'Enhanced prompt'` in single quotes. The default.
    pub fn reference() -> Self {
        Self::published('\'')
    }

    /// The template of the paper's repository: `"Enhanced prompt"` in double quotes.
    pub fn paper_repository() -> Self {
        Self::published('"')
    }

    fn published(quote: char) -> Self {
        let first = format!(
            "Given a user prompt, generate an {quote}Enhanced prompt{quote} that provides detailed visual descriptions suitable for image generation. Evaluate the level of detail in the user prompt:"
        );
        Self::custom(std::iter::once(first).chain(INSTRUCTION_REST.map(str::to_owned)))
    }

    /// Lines of one's own, joined by newlines. The prompt follows the last line directly. No lines,
    /// or lines without any text, are no instruction.
    pub fn custom<I>(lines: I) -> Self
    where
        I: IntoIterator<Item: Into<String>>,
    {
        Self {
            lines: lines.into_iter().map(Into::into).collect(),
        }
    }

    /// Its lines.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// The text that goes before the prompt.
    pub fn text(&self) -> String {
        self.lines.join("\n")
    }
}

/// How prompts are encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptOptions {
    /// Text before the prompt. Negative prompts never get one.
    pub instruction: Option<Instruction>,
    /// Tokens kept of every prompt.
    pub max_tokens: usize,
}

impl Default for PromptOptions {
    /// The reference's template and 300 tokens.
    fn default() -> Self {
        Self {
            instruction: Some(Instruction::reference()),
            max_tokens: DEFAULT_MAX_TOKENS,
        }
    }
}

/// A prompt as the tokenizer gets it: lower-cased, without white space at its ends.
pub fn normalize_prompt(prompt: &str) -> String {
    // The four ASCII separators are white space to the reference, but not to Unicode.
    let is_space = |c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c);
    prompt.to_lowercase().trim_matches(is_space).to_owned()
}

/// Token ids of a batch of prompts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptTokens {
    /// One row of ids per prompt, all of the same length, padded on the right.
    pub ids: Vec<Vec<u32>>,
    /// For every id whether it is a token (`true`) or padding.
    pub mask: Vec<Vec<bool>>,
    /// Columns that become prompt embeddings, in order: the first, and the last of each row.
    pub kept_columns: Vec<usize>,
    /// Tokens cut off the end of each prompt because it was too long.
    pub dropped_tokens: Vec<usize>,
}

impl PromptTokens {
    /// Length of the longest row without its padding.
    pub fn longest(&self) -> usize {
        self.mask
            .iter()
            .map(|row| row.iter().filter(|keep| **keep).count())
            .max()
            .unwrap_or(0)
    }
}

/// Turns prompts into token ids, without a model.
///
/// With an instruction of `n` tokens (`<bos>` included), a prompt is cut so that instruction and
/// prompt together have `n + max_tokens - 2` tokens at most, and is padded to that length; kept are
/// token 0 and the last `max_tokens - 1`, which begin at the instruction's last token. Without an
/// instruction the length is `max_tokens` and all are kept.
#[derive(Debug, Clone)]
pub struct PromptTokenizer {
    tokenizer: GemmaTokenizer,
    options: PromptOptions,
    /// Text and number of tokens of the instruction.
    instruction: Option<(String, usize)>,
}

impl PromptTokenizer {
    /// Prepares the instruction.
    ///
    /// # Errors
    /// [`TextError::NoTokensKept`] when `max_tokens` is 0, or a tokenizer failure.
    pub fn new(tokenizer: GemmaTokenizer, options: PromptOptions) -> Result<Self, TextError> {
        if options.max_tokens == 0 {
            return Err(TextError::NoTokensKept);
        }
        let text = options.instruction.as_ref().map(Instruction::text);
        let instruction = match text.filter(|text| !text.is_empty()) {
            Some(text) => {
                let tokens = tokenizer.encode(&text)?.len();
                Some((text, tokens))
            }
            None => None,
        };
        Ok(Self {
            tokenizer,
            options,
            instruction,
        })
    }

    /// The tokenizer underneath.
    pub fn tokenizer(&self) -> &GemmaTokenizer {
        &self.tokenizer
    }

    /// The options it was made with.
    pub fn options(&self) -> &PromptOptions {
        &self.options
    }

    /// Tokens of the instruction, `<bos>` included; 0 without one.
    pub fn instruction_tokens(&self) -> usize {
        self.instruction.as_ref().map_or(0, |(_, tokens)| *tokens)
    }

    /// Tokenizes prompts behind the instruction.
    ///
    /// # Errors
    /// [`TextError::EmptyBatch`] for no prompts, or a tokenizer failure. An empty prompt is fine.
    pub fn tokenize<S: AsRef<str>>(&self, prompts: &[S]) -> Result<PromptTokens, TextError> {
        let max_tokens = self.options.max_tokens;
        match &self.instruction {
            Some((text, tokens)) => self.batch(prompts, text, (tokens + max_tokens).max(3) - 2),
            None => self.batch(prompts, "", max_tokens),
        }
    }

    /// Tokenizes prompts without the instruction, as negative prompts are.
    ///
    /// # Errors
    /// As [`tokenize`](Self::tokenize).
    pub fn tokenize_negative<S: AsRef<str>>(
        &self,
        prompts: &[S],
    ) -> Result<PromptTokens, TextError> {
        self.batch(prompts, "", self.options.max_tokens)
    }

    fn batch<S: AsRef<str>>(
        &self,
        prompts: &[S],
        before: &str,
        length: usize,
    ) -> Result<PromptTokens, TextError> {
        if prompts.is_empty() {
            return Err(TextError::EmptyBatch);
        }
        let tail = (self.options.max_tokens - 1).min(length);
        let mut tokens = PromptTokens {
            ids: Vec::with_capacity(prompts.len()),
            mask: Vec::with_capacity(prompts.len()),
            kept_columns: std::iter::once(0).chain(length - tail..length).collect(),
            dropped_tokens: Vec::with_capacity(prompts.len()),
        };
        for prompt in prompts {
            let text = format!("{before}{}", normalize_prompt(prompt.as_ref()));
            let mut encoded = self.tokenizer.encode_limited(&text, length)?;
            let mut mask = vec![true; encoded.ids.len()];
            mask.resize(length, false);
            encoded.ids.resize(length, self.tokenizer.pad_id());
            tokens.ids.push(encoded.ids);
            tokens.mask.push(mask);
            tokens.dropped_tokens.push(encoded.dropped);
        }
        Ok(tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::train_gemma_style;

    fn tokenizer() -> GemmaTokenizer {
        let json = train_gemma_style(["a red circle", "two blue squares"], 280).unwrap();
        GemmaTokenizer::from_bytes("test", json.as_bytes()).unwrap()
    }

    fn options(instruction: Option<&str>, max_tokens: usize) -> PromptOptions {
        let instruction = instruction.map(|line| Instruction::custom([line]));
        PromptOptions {
            instruction,
            max_tokens,
        }
    }

    fn prompts(instruction: Option<&str>, max_tokens: usize) -> PromptTokenizer {
        PromptTokenizer::new(tokenizer(), options(instruction, max_tokens)).unwrap()
    }

    #[test]
    fn templates_differ_in_quotes_only() {
        let reference = Instruction::reference();
        let paper = Instruction::paper_repository();
        assert_eq!(reference.lines().len(), 8);
        assert_ne!(reference, paper);
        assert_eq!(
            reference
                .text()
                .replace("'Enhanced prompt'", "\"Enhanced prompt\""),
            paper.text()
        );
    }

    #[test]
    fn normalization() {
        assert_eq!(
            normalize_prompt("\u{1c} \tA RED Circle \n\u{a0}\u{1f}"),
            "a red circle"
        );
        assert_eq!(normalize_prompt("ÉTÉ ΟΔΟΣ"), "été οδος");
        assert_eq!(normalize_prompt(" \u{200b}x "), "\u{200b}x");
        assert_eq!(normalize_prompt("  "), "");
    }

    #[test]
    fn columns_begin_at_the_last_token_of_the_instruction() {
        let tokenizer = prompts(Some("two blue squares: "), 6);
        let instruction = tokenizer.instruction_tokens();
        let tokens = tokenizer.tokenize(&["red"]).unwrap();
        let length = instruction + 6 - 2;
        assert_eq!(tokens.ids[0].len(), length);
        assert_eq!(tokens.mask[0].len(), length);
        let mut columns = vec![0];
        columns.extend(instruction - 1..length);
        assert_eq!(tokens.kept_columns, columns);
        assert_eq!(tokens.kept_columns.len(), 6);
    }

    #[test]
    fn instruction_is_not_lower_cased() {
        let upper = prompts(Some("RED: "), 9).tokenize(&["RED"]).unwrap();
        let lower = prompts(Some("red: "), 9).tokenize(&["red"]).unwrap();
        assert_ne!(upper.ids, lower.ids);
        assert_eq!(
            prompts(None, 9).tokenize(&[" RED "]).unwrap(),
            prompts(None, 9).tokenize(&["red"]).unwrap()
        );
    }

    #[test]
    fn negative_prompts_get_no_instruction() {
        let with = prompts(Some("two "), 7);
        let without = prompts(None, 7);
        assert_eq!(
            with.tokenize_negative(&["red"]).unwrap(),
            without.tokenize(&["red"]).unwrap()
        );
        assert_ne!(
            with.tokenize(&["red"]).unwrap(),
            without.tokenize(&["red"]).unwrap()
        );
    }

    #[test]
    fn long_prompts_are_cut_and_counted() {
        let tokenizer = prompts(None, 4);
        let long = "red red red red red red";
        let all = tokenizer.tokenizer().encode(long).unwrap();
        let tokens = tokenizer.tokenize(&[long, "", "a"]).unwrap();
        assert_eq!(tokens.ids[0], all[..4]);
        assert_eq!(tokens.dropped_tokens, [all.len() - 4, 0, 0]);
        assert_eq!(tokens.mask[1], [true, false, false, false]);
        assert_eq!(tokens.ids[1][1..], [tokenizer.tokenizer().pad_id(); 3]);
        assert_eq!(tokens.longest(), 4);
    }

    #[test]
    fn very_long_prompt() {
        let tokens = prompts(Some("two "), 300)
            .tokenize(&["a red circle ".repeat(20_000)])
            .unwrap();
        assert_eq!(tokens.kept_columns.len(), 300);
        assert!(
            tokens.dropped_tokens[0] > 50_000,
            "{:?}",
            tokens.dropped_tokens
        );
    }

    #[test]
    fn one_token_is_the_first() {
        for instruction in [None, Some("two blue ")] {
            let tokens = prompts(instruction, 1).tokenize(&["red"]).unwrap();
            assert_eq!(tokens.kept_columns, [0]);
        }
    }

    #[test]
    fn instruction_without_text_is_none() {
        let without = prompts(None, 5).tokenize(&["red"]).unwrap();
        let no_lines = PromptOptions {
            instruction: Some(Instruction::custom([""; 0])),
            max_tokens: 5,
        };
        let no_lines = PromptTokenizer::new(tokenizer(), no_lines).unwrap();
        assert_eq!(no_lines.tokenize(&["red"]).unwrap(), without);
        assert_eq!(prompts(Some(""), 5).tokenize(&["red"]).unwrap(), without);
        assert_eq!(no_lines.instruction_tokens(), 0);
    }

    #[test]
    fn refusals() {
        let error = PromptTokenizer::new(tokenizer(), options(None, 0)).unwrap_err();
        assert!(matches!(error, TextError::NoTokensKept), "{error}");
        let error = prompts(None, 5).tokenize::<&str>(&[]).unwrap_err();
        assert!(matches!(error, TextError::EmptyBatch), "{error}");
    }
}
