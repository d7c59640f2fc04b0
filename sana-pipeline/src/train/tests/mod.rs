//! Training against the reference, and what a run promises: it resumes with nothing lost, it keeps
//! nothing that is not finite, its data and options are checked.

mod came;
mod data_sources;
mod diverged;
mod learning;
mod models;
mod optimizer;
mod options;
mod reference;
mod resume;

use super::optimizer::Workers;

fn workers(count: usize) -> Workers {
    Workers::new(count).expect("threads")
}
