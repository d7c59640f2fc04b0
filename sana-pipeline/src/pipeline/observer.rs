//! What an observer of the steps sees and answers.

use sana_sampler::Step;

/// What an observer sees after each step: its number, the network's time, the latents and the
/// estimate of the clean latents. Latents are scaled, but those of consistency sampling are in
/// units of `sigma_data`.
pub type StepInfo = Step<4>;
/// What an observer answers: go on, stop, or go on from other latents.
pub type Control = sana_sampler::Control<4>;
