//! From noise to the sample.

mod dpm_solver;
mod euler;
mod scm;
pub(crate) mod step;

pub use dpm_solver::{DpmSolverOptions, Order, ThirdOrderTerm, dpm_solver};
pub use euler::flow_euler;
pub use scm::scm;
pub use step::{Step, StepAction};
