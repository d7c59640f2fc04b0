#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod flow;
pub mod noise;
pub mod trigflow;

mod dpm_solver;
mod error;
mod euler;
mod guidance;
mod projected;
mod schedule;
mod scm;
mod scm_timesteps;
mod sigma_data;
mod step;
mod strength;

pub use dpm_solver::{DpmSolverOptions, Order, ThirdOrderTerm, dpm_solver};
pub use error::SamplerError;
pub use euler::flow_euler;
pub use guidance::{Guidance, GuidanceInterval, classifier_free, perturbed_attention_guidance};
pub use projected::{AdaptiveProjection, ProjectedGuidance};
pub use schedule::{FlowSchedule, TIMESTEPS, Timesteps, shift_sigma};
pub use scm::{ScmSchedule, scm};
pub use scm_timesteps::ScmTimesteps;
pub use sigma_data::SigmaData;
pub use step::{Step, StepAction};
