//! Noise levels and timesteps of a run.

pub(crate) mod checks;
mod flow;
mod scm;
mod scm_timesteps;
mod strength;

pub use flow::{FlowSchedule, TIMESTEPS, Timesteps, shift_sigma};
pub use scm::ScmSchedule;
pub use scm_timesteps::ScmTimesteps;
