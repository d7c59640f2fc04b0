//! The `sana` command as a user runs it, on the reference's tiny checkpoint.

#![cfg(all(feature = "cli", feature = "flex"))]

mod bad_input;
mod batch;
#[cfg(feature = "scenes-model")]
mod bench;
#[cfg(feature = "metrics")]
mod benchmarks;
mod best_of;
mod check;
mod control;
#[cfg(feature = "scenes-model")]
mod depth;
mod devices;
#[cfg(feature = "metrics")]
#[path = "../pipeline/metrics/fid_inputs.rs"]
mod fid_inputs;
mod files;
mod foreign;
mod formats;
mod from_image;
mod generate;
mod habits;
mod hub;
mod image_to_image;
mod latents;
mod limits;
#[cfg(feature = "metrics")]
mod metrics;
mod other_commands;
mod preview;
mod quantized;
mod records;
#[cfg(feature = "serve")]
mod serve;
mod sizes;
mod streams;
mod support;
mod terminal;
mod threads;
mod training;
mod weights;
