//! `sana train`: the autoencoder, then the transformer with its text encoder.

mod args;
mod autoencoder;
mod data;
mod new_model;
mod sizes;
mod start_point;
mod transformer;

use self::args::TrainCommand;

pub use self::args::TrainArgs;

/// Runs `sana train`.
pub fn run(args: TrainArgs) -> anyhow::Result<()> {
    match args.command {
        TrainCommand::Autoencoder(args) => autoencoder::train(args),
        TrainCommand::Transformer(args) => transformer::train(args),
    }
}
