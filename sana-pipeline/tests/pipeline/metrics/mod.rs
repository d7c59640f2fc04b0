//! Measures of generated images against the tools that papers report with.

mod clip;
mod frechet;
