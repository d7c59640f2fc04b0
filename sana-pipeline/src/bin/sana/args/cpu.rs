//! How the CPU computes: its threads, and whether it multiplies bf16 weights as they are.

use std::sync::mpsc::{self, Sender};
use std::{env, io, thread};

use anyhow::{Context, ensure};
use clap::Args;
use clap::builder::RangedU64ValueParser;
use rayon::{ThreadBuilder, ThreadPoolBuilder};
use sana_linear_attn::precision::Bf16Gemm;
use serde::Serialize;

use crate::terminal::note;

/// Threads of a pool, at most.
const MOST_THREADS: usize = 1024;

/// Threads of the pool that everything on the CPU shares (burn's backend, its matmuls and the
/// kernels of this project).
#[derive(Debug, Clone, Copy, Default, Args)]
#[command(next_help_heading = "Model and device")]
pub struct CpuArgs {
    /// Threads that compute on the CPU [default: one for each core]
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        value_parser = RangedU64ValueParser::<usize>::new().range(1..=MOST_THREADS as u64)
    )]
    pub threads: Option<usize>,
}

/// How bf16 weights are multiplied on the CPU, which changes pixels a little.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Args, Serialize)]
#[command(next_help_heading = "Model and device")]
#[serde(rename_all = "kebab-case")]
pub struct Bf16Args {
    /// Widen bf16 weights to f32 on CPUs that could multiply them as they are (AVX512-BF16): slower,
    /// and equal to f32 bit for bit
    #[arg(long)]
    pub widen_bf16: bool,
}

impl Bf16Args {
    /// How linear layers multiply by bf16 weights.
    pub fn gemm(self) -> Bf16Gemm {
        match self.widen_bf16 {
            true => Bf16Gemm::Widened,
            false => Bf16Gemm::Native,
        }
    }
}

impl CpuArgs {
    /// Runs a command on a thread of the pool. One outside it sleeps through every operation and is
    /// woken for the next, which takes longer than a small operation does.
    ///
    /// # Errors
    /// Those of [`start`](Self::start) and of the command.
    pub fn run(self, command: impl FnOnce() -> anyhow::Result<()> + Send) -> anyhow::Result<()> {
        self.start()?;
        rayon::scope(|_| command())
    }

    /// Starts the pool. It can be started only once in a process, and has to be before anything
    /// computes. Without a number it has as many threads as the system gives, up to one for each core.
    ///
    /// # Errors
    /// When the system does not give as many threads as were asked for, or the pool is there already.
    pub fn start(self) -> anyhow::Result<()> {
        let wanted = self.threads.unwrap_or_else(usual_threads);
        let mut waiting = waiting(wanted);
        let found = waiting.len();
        let refused = || format!("cannot start {wanted} threads: try fewer with --threads");
        if self.threads.is_some() {
            ensure!(found == wanted, refused());
        } else if found < wanted {
            // One is left for what else may need it.
            waiting.pop();
            let computing = waiting.len().max(1);
            note(format!(
                "the system gives {found} of {wanted} threads, {computing} compute"
            ));
        }
        let pool = match waiting.len() {
            0 => ThreadPoolBuilder::new()
                .num_threads(1)
                .use_current_thread()
                .build_global(),
            count => ThreadPoolBuilder::new()
                .num_threads(count)
                .spawn_handler(|thread| match waiting.pop() {
                    Some(one) => one
                        .send(thread)
                        .map_err(|_| io::ErrorKind::BrokenPipe.into()),
                    None => Err(io::ErrorKind::WouldBlock.into()),
                })
                .build_global(),
        };
        match self.threads {
            Some(_) => pool.with_context(refused),
            // It is there already.
            None => Ok(()),
        }
    }
}

/// Threads without `--threads`: as rayon would have them, up to [`MOST_THREADS`].
fn usual_threads() -> usize {
    let asked = env::var("RAYON_NUM_THREADS").ok();
    let asked = asked.and_then(|number| number.trim().parse::<u128>().ok());
    let cores = || thread::available_parallelism().map_or(1, usize::from) as u128;
    let threads = asked.filter(|&number| number > 0).unwrap_or_else(cores);
    threads.min(MOST_THREADS as u128) as usize
}

/// Up to so many threads that wait for what to run. A pool whose threads the system refuses could
/// not be made again with fewer, and everything that uses it would panic.
fn waiting(wanted: usize) -> Vec<Sender<ThreadBuilder>> {
    let start = |_| {
        let (sender, receiver) = mpsc::channel::<ThreadBuilder>();
        let run = move || {
            if let Ok(thread) = receiver.recv() {
                thread.run();
            }
        };
        thread::Builder::new().spawn(run).ok().map(|_| sender)
    };
    (0..wanted).map_while(start).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The only test of this program that starts the pool of the whole process.
    #[test]
    fn the_pool_is_started_once() {
        let start = |threads| CpuArgs { threads }.start();
        start(None).unwrap();
        rayon::join(|| (), || ());
        let error = start(Some(3)).unwrap_err().to_string();
        assert_eq!(
            error, "cannot start 3 threads: try fewer with --threads",
            "{error}"
        );
    }
}
