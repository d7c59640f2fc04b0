//! Measures of generated images against the tools that papers report with.

mod frechet;
