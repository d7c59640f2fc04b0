//! The `sana` command as a user runs it, on the reference's tiny checkpoint.

#![cfg(all(feature = "cli", feature = "flex"))]

mod bad_input;
mod bench;
mod check;
mod control;
mod devices;
mod editing;
mod generate;
mod hub;
mod latents;
mod other_commands;
mod sizes;
mod support;
mod training;
