//! A second pass that makes the images of the first one larger.

/// What a request says about a second pass.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Hires {
    pub scale: Option<f64>,
    pub strength: Option<f64>,
}

/// The second pass, with every default filled in.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct HiresSettings {
    /// Sides of the result as multiples of those of the first pass, before rounding.
    pub scale: f64,
    /// How much of the schedule the second pass runs, in `(0, 1]`.
    pub strength: f64,
    /// Width of the result in pixels.
    pub width: usize,
    /// Height of the result in pixels.
    pub height: usize,
    /// Steps of the second pass.
    pub steps: usize,
}
