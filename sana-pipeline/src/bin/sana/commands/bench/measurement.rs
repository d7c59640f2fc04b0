//! A measurement of a component.

use super::models::Weights;
use super::timing::Timing;

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurement {
    /// The component, or a piece of it that is measured separately.
    pub name: &'static str,
    /// Rows of the batch as the network sees them.
    pub rows: usize,
    /// Width and height of the image in pixels, for a component that depends on them.
    pub pixels: Option<[usize; 2]>,
    /// Length of the sequence, or the side of a matrix.
    pub tokens: Option<usize>,
    /// Tokens of the text that is attended to.
    pub text_tokens: Option<usize>,
    pub steps: Option<usize>,
    /// Billions of operations of matmuls and convolutions.
    pub gflop: Option<f64>,
    /// Billions of bytes read and written at least.
    pub gbyte: Option<f64>,
    pub weights: Weights,
    pub timing: Timing,
}

impl Measurement {
    pub fn new(name: &'static str, rows: usize, timing: Timing) -> Self {
        Self {
            name,
            rows,
            pixels: None,
            tokens: None,
            text_tokens: None,
            steps: None,
            gflop: None,
            gbyte: None,
            weights: Weights::default(),
            timing,
        }
    }
}
