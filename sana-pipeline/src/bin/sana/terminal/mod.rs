//! What the command writes to the terminal: nothing of others acts on it, and whether anybody reads
//! it changes nothing about the work.

mod lines;
mod output;
mod progress;

pub use lines::Lines;
pub use output::{Output, complain, note, output, warning};
pub use progress::{Progress, write_stages};
