//! Solvers against the reference, against equations with known solutions, and what observers may do.

mod convergence;
mod noise;
mod observer;
mod parity;
