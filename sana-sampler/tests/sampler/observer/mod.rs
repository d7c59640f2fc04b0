//! What observers and failing closures do to a run, the same for every solver.

mod errors;

use std::convert::Infallible;

use burn::tensor::{DType, Device, Tensor};
use sana_sampler::{
    DpmSolverOptions, FlowSchedule, Order, SamplerError, ScmSchedule, SigmaData, Step, StepAction,
    ThirdOrderTerm, dpm_solver, flow_euler, scm, trigflow,
};

type Observer<'a> = &'a mut dyn FnMut(Step<2>) -> StepAction<2>;
type Predict<'a, E> = &'a mut dyn FnMut(Tensor<2>, f64) -> Result<Tensor<2>, E>;
type Run<E> = fn(Tensor<2>, Predict<'_, E>, Observer<'_>) -> Result<Tensor<2>, E>;

const STEPS: usize = 4;

/// Each solver with four steps.
fn solvers<E>() -> [Run<E>; 3] {
    [
        |initial, predict, observe| {
            let options = DpmSolverOptions {
                order: Order::Third,
                ..Default::default()
            };
            let schedule = FlowSchedule::dpm_solver(STEPS, 3.0).unwrap();
            dpm_solver(&schedule, &options, initial, predict, observe)
        },
        |initial, predict, observe| {
            let schedule = FlowSchedule::euler(STEPS, 3.0).unwrap();
            flow_euler(&schedule, initial, predict, observe)
        },
        |initial, predict, observe| {
            let noise = |step| Ok(Tensor::full([2, 3], step as f64 - 1.0, &Device::flex()));
            let schedule = ScmSchedule::default_for(STEPS).unwrap();
            scm(
                &schedule,
                SigmaData::default(),
                initial,
                predict,
                noise,
                observe,
            )
        },
    ]
}

fn initial() -> Tensor<2> {
    Tensor::from_floats([[1.0, -0.5, 0.25], [0.75, 2.0, -1.5]], &Device::flex())
}

fn field(x: Tensor<2>, timestep: f64) -> Result<Tensor<2>, Infallible> {
    Ok(x.sin() * (1.0 + 1e-3 * timestep))
}

fn numbers(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

/// A run without interference, and its steps.
fn whole(solver: Run<Infallible>) -> (Tensor<2>, Vec<Step<2>>) {
    let mut steps = Vec::new();
    let Ok(result) = solver(initial(), &mut field, &mut |step| {
        steps.push(step);
        StepAction::Continue
    });
    (result, steps)
}

#[test]
fn every_step_is_observed_in_order() {
    for solver in solvers() {
        let mut timesteps = Vec::new();
        let mut observed = Vec::new();
        let Ok(_) = solver(
            initial(),
            &mut |x, timestep| {
                timesteps.push(timestep);
                field(x, timestep)
            },
            &mut |step| {
                assert_eq!(step.steps, STEPS);
                observed.push((step.index, step.timestep));
                StepAction::Continue
            },
        );
        let expected: Vec<(usize, f64)> = timesteps.into_iter().enumerate().collect();
        assert_eq!(observed, expected);
        assert_eq!(observed.len(), STEPS);
    }
}

#[test]
fn the_result_is_the_last_sample() {
    for solver in solvers() {
        let (result, steps) = whole(solver);
        let last = steps.last().unwrap();
        assert_eq!(numbers(result.clone()), numbers(last.latents.clone()));
        for (ours, denoised) in numbers(result).iter().zip(numbers(last.denoised.clone())) {
            assert!((ours - denoised).abs() < 1e-6);
        }
    }
}

#[test]
fn stop_ends_the_run() {
    for solver in solvers() {
        let (_, steps) = whole(solver);
        let mut calls = 0;
        let Ok(stopped) = solver(
            initial(),
            &mut |x, timestep| {
                calls += 1;
                field(x, timestep)
            },
            &mut |step| match step.index {
                1 => StepAction::Stop,
                _ => StepAction::Continue,
            },
        );
        assert_eq!(calls, 2);
        assert_eq!(numbers(stopped), numbers(steps[1].denoised.clone()));

        let Ok(stopped) = solver(initial(), &mut field, &mut |step| match step.index {
            1 => StepAction::StopWith(step.latents * 2.0),
            _ => StepAction::Continue,
        });
        assert_eq!(numbers(stopped), numbers(steps[1].latents.clone() * 2.0));
    }
}

/// Stopping and resuming with the rest of the schedule is the run that was not stopped, for a
/// solver without a history.
#[test]
fn a_stopped_run_can_be_resumed() {
    let schedule = FlowSchedule::euler(STEPS, 3.0).unwrap();
    let run = |schedule: &FlowSchedule, initial, stop_at: usize| {
        let Ok(result) = flow_euler(schedule, initial, field, |step| {
            if step.index == stop_at {
                StepAction::StopWith(step.latents)
            } else {
                StepAction::Continue
            }
        });
        result
    };
    let half = run(&schedule, initial(), 1);
    let resumed = run(&schedule.from_index(2).unwrap(), half, STEPS);
    assert_eq!(numbers(resumed), numbers(run(&schedule, initial(), STEPS)));
}

#[test]
fn continue_from_replaces_the_sample() {
    for solver in solvers() {
        let (untouched, _) = whole(solver);
        let replacement = initial() * 0.5;
        let mut seen = Vec::new();
        let Ok(changed) = solver(
            initial(),
            &mut |x, timestep| {
                seen.push(numbers(x.clone()));
                field(x, timestep)
            },
            &mut |step| match step.index {
                1 => StepAction::ContinueFrom(replacement.clone()),
                _ => StepAction::Continue,
            },
        );
        assert_eq!(seen[2], numbers(replacement));
        assert_ne!(numbers(changed), numbers(untouched.clone()));

        // with the sample that the solver has anyway nothing changes
        let Ok(same) = solver(initial(), &mut field, &mut |step| {
            StepAction::ContinueFrom(step.latents)
        });
        assert_eq!(numbers(same), numbers(untouched.clone()));
        let Ok(same) = solver(initial(), &mut field, &mut |step| {
            StepAction::ContinueWith {
                latents: step.latents,
                denoised: step.denoised,
            }
        });
        assert_eq!(numbers(same), numbers(untouched));

        // after the last step it is the result
        let Ok(last) = solver(initial(), &mut field, &mut |step| match step.index {
            3 => StepAction::ContinueFrom(initial()),
            _ => StepAction::Continue,
        });
        assert_eq!(numbers(last), numbers(initial()));
        let Ok(last) = solver(initial(), &mut field, &mut |step| match step.index {
            3 => StepAction::ContinueWith {
                latents: initial(),
                denoised: step.denoised,
            },
            _ => StepAction::Continue,
        });
        assert_eq!(numbers(last), numbers(initial()));
    }
}

/// Inpainting that ends in the middle of a run. Up to step 3 the network sees a wrong image, and
/// each step's sample is put onto the path of the right one; from then on the network sees the right
/// one too and nothing is exchanged. With the estimates exchanged with the samples the run stays
/// on the path of the right image; with the samples alone a multistep solver extrapolates from the
/// wrong one.
#[test]
fn the_history_moves_with_the_sample() {
    let schedule = FlowSchedule::dpm_solver(16, 3.0).unwrap();
    let right = || initial() * -0.7 + 0.2;
    let wrong = || initial() * 0.4 - 1.0;
    let path = |index: usize| {
        let sigma = schedule.sigmas()[index];
        right() * (1.0 - sigma) + initial() * sigma
    };
    let farthest = |order, with_estimate: bool| {
        let options = DpmSolverOptions {
            order,
            ..Default::default()
        };
        let mut seen = 0;
        let mut farthest: f32 = 0.0;
        let predict = |x: Tensor<2>, _| {
            let image = if seen < 4 { wrong() } else { right() };
            let sigma = schedule.sigmas()[seen];
            seen += 1;
            Ok::<_, Infallible>((x - image) / sigma)
        };
        let Ok(_) = dpm_solver(&schedule, &options, path(0), predict, |step| {
            let next = step.index + 1;
            match step.index {
                0..4 if with_estimate => StepAction::ContinueWith {
                    latents: path(next),
                    denoised: right(),
                },
                0..4 => StepAction::ContinueFrom(path(next)),
                _ => {
                    let off = (step.latents - path(next)).abs().max().into_scalar();
                    farthest = farthest.max(off);
                    StepAction::Continue
                }
            }
        });
        farthest
    };
    for order in [Order::First, Order::Second, Order::Third] {
        let off = farthest(order, true);
        assert!(off < 1e-5, "{order:?}: {off}");
        let off = farthest(order, false);
        // The first order has no history.
        assert_eq!(off > 0.02, order > Order::First, "{order:?}: {off}");
    }
}

/// A network in half precision: the state stays f32 all along.
#[test]
fn the_state_is_f32_whatever_the_network_computes_in() {
    for solver in solvers() {
        let Ok(result) = solver(
            initial().cast(DType::F16),
            &mut |x, timestep| {
                assert_eq!(x.dtype(), DType::F32);
                Ok(field(x, timestep)?.cast(DType::F16))
            },
            &mut |step| {
                assert_eq!(step.latents.dtype(), DType::F32);
                assert_eq!(step.denoised.dtype(), DType::F32);
                StepAction::ContinueFrom(step.latents.cast(DType::F16))
            },
        );
        assert_eq!(result.dtype(), DType::F32);
        let (reference, _) = whole(solver);
        for (ours, reference) in numbers(result).iter().zip(numbers(reference)) {
            assert!((ours - reference).abs() < 2e-2);
        }
    }
}

/// A grid may start at sigma 1, where lambda is minus infinity, at any order.
#[test]
fn a_start_at_pure_noise_is_finite() {
    let schedule = FlowSchedule::from_sigmas(vec![1.0, 0.8, 0.6, 0.4, 0.2, 0.0]).unwrap();
    for order in [Order::First, Order::Second, Order::Third] {
        for third_order_term in [ThirdOrderTerm::Reference, ThirdOrderTerm::Exact] {
            let options = DpmSolverOptions {
                order,
                lower_order_final: false,
                third_order_term,
            };
            let Ok(result) = dpm_solver(&schedule, &options, initial(), field, |_| {
                StepAction::Continue
            });
            assert!(numbers(result).iter().all(|value| value.is_finite()));
        }
    }
}
