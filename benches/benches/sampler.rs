//! What a solver adds to every step of the network, on latents of a 1024-pixel image: the network
//! is replaced by a velocity that is ready. The rate is in steps.

use std::process::ExitCode;

use burn::tensor::Tensor;
use sana_benches::{Case, Suite, assert_close, assert_finite, run, shape};
use sana_sampler::{
    DpmSolverOptions, FlowSchedule, Guidance, Order, SamplerError, ScmSchedule, SigmaData,
    StepAction, dpm_solver, flow_euler, noise, scm,
};

const AREA: &str = "sampler";
const STEPS: usize = 20;
const SHIFT: f64 = 3.0;

fn main() -> ExitCode {
    run(|suite| {
        for dims in suite.shapes([1, 2, 3, 4], &[[suite.batch(), 32, 32, 32]]) {
            for (op, order) in [
                ("flow_dpm_1", Order::First),
                ("flow_dpm_2", Order::Second),
                ("flow_dpm_3", Order::Third),
            ] {
                let options = DpmSolverOptions {
                    order,
                    ..DpmSolverOptions::default()
                };
                let schedule = ok(FlowSchedule::dpm_solver(STEPS, SHIFT));
                flow(suite, op, dims, &schedule, |initial, velocity| {
                    let velocity = |_, _| Ok::<_, SamplerError>(velocity.clone());
                    ok(dpm_solver(&schedule, &options, initial, velocity, |_| {
                        StepAction::Continue
                    }))
                });
            }
            let schedule = ok(FlowSchedule::euler(STEPS, SHIFT));
            flow(suite, "flow_euler", dims, &schedule, |initial, velocity| {
                let velocity = |_, _| Ok::<_, SamplerError>(velocity.clone());
                ok(flow_euler(&schedule, initial, velocity, |_| {
                    StepAction::Continue
                }))
            });
            consistency(suite, dims);
            guidance(suite, dims);
            host_noise(suite, dims);
        }
    })
}

fn ok<T>(result: Result<T, SamplerError>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}

/// A flow solver on a velocity that is the same everywhere. Its path is straight, so every solver
/// goes from noise level `s` to 0 exactly: the answer is `initial - s velocity`.
fn flow(
    suite: &mut Suite,
    op: &str,
    dims: [usize; 4],
    schedule: &FlowSchedule,
    solve: impl Fn(Tensor<4>, &Tensor<4>) -> Tensor<4>,
) {
    let (sigma, bound) = (schedule.sigmas()[0], suite.bound());
    suite.measure(
        Case {
            area: AREA,
            op,
            shape: &shape(dims),
            elements: STEPS,
        },
        |suite| (suite.random(1, dims), suite.random(2, dims)),
        |(initial, velocity)| solve(initial.clone(), velocity),
        |(initial, velocity), answer| {
            assert_close(answer, initial.clone() - velocity.clone() * sigma, bound);
        },
    );
}

fn consistency(suite: &mut Suite, dims: [usize; 4]) {
    const STEPS: usize = 4;
    let schedule = ok(ScmSchedule::default_for(STEPS));
    suite.measure(
        Case {
            area: AREA,
            op: "scm",
            shape: &shape(dims),
            elements: STEPS,
        },
        |suite| [1, 2, 3].map(|seed| suite.random::<4>(seed, dims)),
        |[initial, output, noise]| {
            ok(scm(
                &schedule,
                SigmaData::default(),
                initial.clone(),
                |_, _| Ok::<_, SamplerError>(output.clone()),
                |_| Ok(noise.clone()),
                |_| StepAction::Continue,
            ))
        },
        |_, answer| assert_finite(answer, dims),
    );
}

fn guidance(suite: &mut Suite, dims: [usize; 4]) {
    let guidance = ok(Guidance::new(4.5));
    let bound = suite.bound();
    suite.measure(
        Case {
            area: AREA,
            op: "classifier_free_guidance",
            shape: &shape(dims),
            elements: 1,
        },
        |suite| [1, 2].map(|seed| suite.random::<4>(seed, dims)),
        |[negative, positive]| guidance.combine(negative.clone(), positive.clone()),
        |[negative, positive], answer| {
            let expected = positive.clone() * 4.5 - negative.clone() * 3.5;
            assert_close(answer, expected, bound);
        },
    );
}

/// The seeded noise of the initial latents, drawn on the host and uploaded.
fn host_noise(suite: &mut Suite, dims: [usize; 4]) {
    suite.measure(
        Case {
            area: AREA,
            op: "noise",
            shape: &shape(dims),
            elements: dims.iter().product(),
        },
        Suite::device,
        |device| noise::latents(7, 0, dims, device),
        |_, answer| assert_finite(answer, dims),
    );
}
