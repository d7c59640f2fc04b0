//! How the CPU computes: its threads, and whether it multiplies bf16 weights as they are.

use anyhow::Context;
use clap::Args;
use clap::builder::RangedU64ValueParser;
use sana_linear_attn::precision::Bf16Gemm;

/// Threads of the pool that everything on the CPU shares (burn's backend, its matmuls and the
/// kernels of this project), and whether these multiply in bf16.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Model and device")]
pub struct CpuArgs {
    /// Threads that compute on the CPU [default: one for each core]
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        value_parser = RangedU64ValueParser::<usize>::new().range(1..=1024)
    )]
    pub threads: Option<usize>,
    /// Widen bf16 weights to f32 on CPUs that could multiply them as they are (AVX512-BF16): slower,
    /// and equal to f32 bit for bit
    #[arg(long)]
    pub widen_bf16: bool,
}

impl CpuArgs {
    /// How linear layers multiply by bf16 weights.
    pub fn bf16_gemm(self) -> Bf16Gemm {
        match self.widen_bf16 {
            true => Bf16Gemm::Widened,
            false => Bf16Gemm::Native,
        }
    }

    /// Runs a command on a thread of the pool. One outside it sleeps through every operation and is
    /// woken for the next, which takes longer than a small operation does.
    ///
    /// # Errors
    /// Those of [`start`](Self::start) and of the command.
    pub fn run(self, command: impl FnOnce() -> anyhow::Result<()> + Send) -> anyhow::Result<()> {
        self.start()?;
        rayon::scope(|_| command())
    }

    /// Starts the pool, if a number of threads was asked for. A pool can be started only once in a
    /// process, and has to be before anything computes.
    ///
    /// # Errors
    /// When the system gives no threads, or the pool is there already.
    fn start(self) -> anyhow::Result<()> {
        let Some(threads) = self.threads else {
            return Ok(());
        };
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global()
            .with_context(|| format!("cannot start {threads} threads: try fewer with --threads"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The only test of this program that starts the pool of the whole process.
    #[test]
    fn the_pool_is_started_once() {
        let start = |threads| {
            let widen_bf16 = false;
            CpuArgs {
                threads,
                widen_bf16,
            }
            .start()
        };
        start(None).unwrap();
        rayon::join(|| (), || ());
        let error = start(Some(3)).unwrap_err().to_string();
        assert_eq!(
            error, "cannot start 3 threads: try fewer with --threads",
            "{error}"
        );
    }
}
