//! Benchmarks of prompts whose images other programs look at: their prompts, and the score of what
//! those programs wrote.

mod dpg;
mod geneval;

pub use dpg::{DpgCategory, DpgQuestions, DpgScore};
pub use geneval::{GENEVAL_TAGS, GenevalPrompt, GenevalResult, GenevalScore, GenevalTag};
