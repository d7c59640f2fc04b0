//! A whole image with the checkpoint that is built into `sana-pipeline`: prompt, 20 steps with
//! guidance, decoding. The rate is in images.

use std::process::ExitCode;

use sana_benches::{Case, run};
use sana_pipeline::sampler::Solver;
use sana_pipeline::{Checkpoint, LoadOptions, Request, SanaPipeline, StepAction};
use sana_sampler::Order;

fn main() -> ExitCode {
    run(|suite| {
        let order = Order::default();
        let real = [(Solver::FlowDpm { order }, 20), (Solver::FlowEuler, 20)];
        for (solver, steps) in suite.shapes((Solver::FlowDpm { order }, 1), &real) {
            let images = suite.batch();
            suite.measure(
                Case {
                    area: "image",
                    op: &solver.to_string(),
                    shape: &format!("{images}x{steps}steps"),
                    elements: images,
                },
                |suite| {
                    let options = LoadOptions::default();
                    SanaPipeline::from_checkpoint(Checkpoint::built_in(), options, &suite.device())
                        .unwrap_or_else(|error| panic!("{error}"))
                },
                |pipeline| {
                    let request = Request::new("a red circle left of a blue square")
                        .solver(solver)
                        .steps(steps)
                        .count(images);
                    pipeline
                        .generate(&request, &mut |_| StepAction::Continue)
                        .unwrap_or_else(|error| panic!("{error}"))
                },
                |_, generation| assert_eq!(generation.images.len(), images),
            );
        }
    })
}
