//! What the command writes to the terminal.

mod output;
mod progress;

pub use output::output;
pub use progress::{Progress, write_stages};
