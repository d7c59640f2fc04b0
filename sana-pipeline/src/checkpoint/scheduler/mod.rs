//! `scheduler/scheduler_config.json`: which solver a checkpoint is sampled by, and its options.

mod json;

use std::fmt;

use sana_sampler::{DpmSolverOptions, FlowSchedule, Order, ScmSchedule, ScmTimesteps, SigmaData};

use crate::error::RequestError;

const DPM: &str = "DPMSolverMultistepScheduler";
const EULER: &str = "FlowMatchEulerDiscreteScheduler";
const SCM: &str = "SCMScheduler";

/// A way to integrate the flow from noise to an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Solver {
    /// Flow-DPM-Solver++ of the given order; see [`sana_sampler::dpm_solver()`].
    FlowDpm {
        /// The order; 2 in published checkpoints.
        order: Order,
    },
    /// Flow Euler; see [`sana_sampler::flow_euler()`].
    FlowEuler,
    /// Consistency sampling of Sana-Sprint; see [`sana_sampler::scm()`].
    Scm,
}

impl Solver {
    /// The name of AUTOMATIC1111's web UI for it, or one like these.
    pub const fn web_ui_name(&self) -> &'static str {
        match self {
            Self::FlowDpm { .. } => "Flow DPM++ 2M",
            Self::FlowEuler => "Euler",
            Self::Scm => "SCM",
        }
    }
}

/// The names of the command line: `flow-dpm`, `flow-euler`, `scm`; an order other than the default
/// as `flow-dpm (order 3)`.
impl fmt::Display for Solver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FlowDpm { order } if *order == Order::default() => f.write_str("flow-dpm"),
            Self::FlowDpm { order } => write!(f, "flow-dpm (order {})", *order as usize),
            Self::FlowEuler => f.write_str("flow-euler"),
            Self::Scm => f.write_str("scm"),
        }
    }
}

/// Noise levels or times of one's own in place of a checkpoint's grid.
#[derive(Debug, Clone, PartialEq)]
pub enum Schedule {
    /// Noise levels of a flow solver.
    Flow(FlowSchedule),
    /// Timesteps of consistency sampling.
    Scm(ScmSchedule),
}

impl Schedule {
    /// Number of steps.
    pub fn steps(&self) -> usize {
        match self {
            Self::Flow(schedule) => schedule.steps(),
            Self::Scm(schedule) => schedule.steps(),
        }
    }

    /// The end of it that image-to-image of a strength in `(0, 1]` runs; see
    /// [`FlowSchedule::for_strength`].
    ///
    /// # Errors
    /// A strength out of its range, or one that leaves no step.
    pub fn for_strength(&self, strength: f64) -> Result<Self, RequestError> {
        Ok(match self {
            Self::Flow(schedule) => Self::Flow(schedule.for_strength(strength)?),
            Self::Scm(schedule) => Self::Scm(schedule.for_strength(strength)?),
        })
    }
}

/// The scheduler of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scheduler {
    /// A flow model, sampled by Flow-DPM-Solver++ unless asked otherwise.
    FlowDpm {
        /// Order and lowering at the end.
        options: DpmSolverOptions,
        /// Flow shift of the noise levels; 3 at most resolutions, 6 at 4K.
        shift: f64,
    },
    /// A flow model, sampled by flow Euler unless asked otherwise.
    FlowEuler {
        /// Flow shift of the noise levels.
        shift: f64,
    },
    /// A consistency model (Sana-Sprint), sampled by SCM.
    Scm {
        /// Standard deviation of the data it was trained for.
        sigma_data: SigmaData,
    },
}

impl Scheduler {
    /// The reference's name of the class.
    pub fn class_name(&self) -> &'static str {
        match self {
            Self::FlowDpm { .. } => DPM,
            Self::FlowEuler { .. } => EULER,
            Self::Scm { .. } => SCM,
        }
    }

    /// The solver it stands for.
    pub fn solver(&self) -> Solver {
        match self {
            Self::FlowDpm { options, .. } => Solver::FlowDpm {
                order: options.order,
            },
            Self::FlowEuler { .. } => Solver::FlowEuler,
            Self::Scm { .. } => Solver::Scm,
        }
    }

    /// Flow shift of the noise levels; `None` for a consistency model.
    pub fn shift(&self) -> Option<f64> {
        match self {
            Self::FlowDpm { shift, .. } | Self::FlowEuler { shift } => Some(*shift),
            Self::Scm { .. } => None,
        }
    }

    /// Steps of a request that names none: 20, or 2 for a consistency model.
    pub fn default_steps(&self) -> usize {
        match self {
            Self::Scm { .. } => 2,
            _ => 20,
        }
    }

    /// Options of Flow-DPM-Solver++ at the given order.
    pub(crate) fn dpm_options(&self, order: Order) -> DpmSolverOptions {
        let options = match self {
            Self::FlowDpm { options, .. } => *options,
            _ => DpmSolverOptions::default(),
        };
        DpmSolverOptions { order, ..options }
    }

    /// The grid of `solver` for a number of steps.
    ///
    /// # Errors
    /// [`RequestError::SolverMismatch`] for a flow solver on a consistency model or the other way
    /// round; otherwise as the schedules of `sana-sampler`.
    pub fn schedule(
        &self,
        solver: Solver,
        steps: usize,
        shift: Option<f64>,
    ) -> Result<Schedule, RequestError> {
        self.check_solver(solver)?;
        let shift = shift.or(self.shift()).unwrap_or(1.0);
        Ok(match solver {
            Solver::FlowDpm { .. } => Schedule::Flow(FlowSchedule::dpm_solver(steps, shift)?),
            Solver::FlowEuler => Schedule::Flow(FlowSchedule::euler(steps, shift)?),
            Solver::Scm => Schedule::Scm(ScmSchedule::default_for(steps)?),
        })
    }

    /// As [`schedule`](Self::schedule), with the times of a consistency model by name.
    ///
    /// # Errors
    /// As [`schedule`](Self::schedule) and [`ScmTimesteps::schedule`]; and
    /// [`RequestError::TimestepsMismatch`] for the paper's times with a flow solver, whose one published
    /// grid is the reference's.
    pub fn named_schedule(
        &self,
        solver: Solver,
        steps: usize,
        shift: Option<f64>,
        times: ScmTimesteps,
    ) -> Result<Schedule, RequestError> {
        self.check_solver(solver)?;
        match (solver, times) {
            (Solver::Scm, _) => Ok(Schedule::Scm(times.schedule(steps)?)),
            (_, ScmTimesteps::Reference) => self.schedule(solver, steps, shift),
            (_, ScmTimesteps::Paper) => Err(RequestError::TimestepsMismatch { timesteps: times }),
        }
    }

    /// Whether a solver runs the kind of model that this scheduler belongs to.
    ///
    /// # Errors
    /// [`RequestError::SolverMismatch`] if not.
    pub(crate) fn check_solver(&self, solver: Solver) -> Result<(), RequestError> {
        let consistency = matches!(self, Self::Scm { .. });
        if consistency == (solver == Solver::Scm) {
            return Ok(());
        }
        Err(RequestError::SolverMismatch {
            solver: solver.to_string(),
            expected: if consistency {
                "scm"
            } else {
                "flow-dpm or flow-euler"
            },
        })
    }
}

#[cfg(test)]
mod tests;
