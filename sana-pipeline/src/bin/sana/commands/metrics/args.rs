//! Options of the measures that read images.

use clap::Args;

use crate::args::{CpuArgs, positive};
use crate::device::DeviceName;

/// How a measure reads images, and what it prints.
#[derive(Debug, Args)]
pub struct MeasureArgs {
    /// Images at a time; no more are in memory
    #[arg(long, value_name = "N", default_value_t = 16, allow_negative_numbers = true, value_parser = positive())]
    pub batch: usize,
    /// Where to compute, as for `sana generate` [default: the first GPU that works, else flex]
    #[arg(short, long, value_name = "DEVICE")]
    pub device: Option<DeviceName>,
    #[command(flatten)]
    pub cpu: CpuArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
