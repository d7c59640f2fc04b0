//! Measures of generated images against the tools that papers report with.

mod clip;
mod fid;
mod fid_inputs;
mod frechet;
