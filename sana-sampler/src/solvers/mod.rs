//! From noise to the sample.

mod dpm_solver;
mod euler;
mod scm;
pub(crate) mod step;

pub use dpm_solver::{DpmSolverOptions, Order, ThirdOrderTerm, dpm_solver, dpm_solver_async};
pub use euler::{flow_euler, flow_euler_async};
pub use scm::{scm, scm_async};
pub use step::{Step, StepAction};
