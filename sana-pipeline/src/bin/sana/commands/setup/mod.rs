//! Commands on the command itself and the machine.

pub mod config;
pub mod devices;
pub mod shell;
