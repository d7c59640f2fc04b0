//! The `sana` command as a user runs it, on the reference's tiny checkpoint.

#![cfg(all(feature = "cli", feature = "flex"))]

mod bad_input;
mod bench;
mod check;
mod control;
mod devices;
mod editing;
mod from_png;
mod generate;
mod hub;
mod latents;
mod many;
mod other_commands;
mod sizes;
mod support;
mod training;
