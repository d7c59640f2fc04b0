#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

pub mod flow;
pub mod noise;
pub mod trigflow;

mod error;
mod guidance;
mod schedule;
mod sigma_data;
mod solvers;

pub use error::SamplerError;
pub use guidance::{
    AdaptiveProjection, Guidance, GuidanceInterval, ProjectedGuidance, classifier_free,
    perturbed_attention_guidance,
};
pub use schedule::{FlowSchedule, ScmSchedule, ScmTimesteps, TIMESTEPS, Timesteps, shift_sigma};
pub use sigma_data::SigmaData;
pub use solvers::{
    DpmSolverOptions, Order, Step, StepAction, ThirdOrderTerm, dpm_solver, dpm_solver_async,
    flow_euler, flow_euler_async, scm, scm_async,
};
