//! The solvers against exact solutions: straight paths in one step, and the measured order of
//! convergence on an ordinary differential equation that can be solved by hand.

use std::convert::Infallible;

use burn::tensor::{Device, Tensor};
use sana_sampler::{
    DpmSolverOptions, FlowSchedule, Order, ScmSchedule, SigmaData, StepAction, ThirdOrderTerm,
    dpm_solver, flow_euler, noise, scm, trigflow,
};

const STARTS: [f32; 5] = [1.2, -0.7, 0.0, 2.5, -1.9];

/// `dx/dsigma = -0.8 x + cos(3 sigma)`.
fn velocity(x: Tensor<1>, sigma: f64) -> Tensor<1> {
    x * -0.8 + (3.0 * sigma).cos()
}

/// Its solution at `to` through `x` at `from`: a multiple of `exp(-0.8 sigma)` and the
/// particular solution `a cos(3 sigma) + b sin(3 sigma)`.
fn solution(x: f64, from: f64, to: f64) -> f64 {
    let b = 1.0 / (3.0 + 0.64 / 3.0);
    let a = 0.8 * b / 3.0;
    let particular = |sigma: f64| a * (3.0 * sigma).cos() + b * (3.0 * sigma).sin();
    (x - particular(from)) * (-0.8 * (to - from)).exp() + particular(to)
}

#[derive(Clone, Copy, PartialEq)]
enum Solver {
    Euler,
    Dpm(Order, ThirdOrderTerm),
}

fn solve(
    solver: Solver,
    schedule: &FlowSchedule,
    initial: Tensor<1>,
    predict: impl FnMut(Tensor<1>, f64) -> Result<Tensor<1>, Infallible>,
) -> Vec<f32> {
    let observe = |_| StepAction::Continue;
    let Ok(result) = match solver {
        Solver::Euler => flow_euler(schedule, initial, predict, observe),
        Solver::Dpm(order, third_order_term) => {
            let options = DpmSolverOptions {
                order,
                third_order_term,
                ..Default::default()
            };
            dpm_solver(schedule, &options, initial, predict, observe)
        }
    };
    result.into_data().try_to_vec().unwrap()
}

fn error(solver: Solver, schedule: &FlowSchedule) -> f64 {
    let sigmas = schedule.sigmas();
    let initial = Tensor::from_floats(STARTS, &Device::flex());
    solve(solver, schedule, initial, |x, timestep| {
        Ok(velocity(x, timestep / 1000.0))
    })
    .into_iter()
    .zip(STARTS)
    .map(|(ours, start)| {
        let exact = solution(start.into(), sigmas[0], sigmas[schedule.steps()]);
        (f64::from(ours) - exact).abs()
    })
    .fold(0.0, f64::max)
}

/// The slope of `-log(error)` over `log(steps)`, by least squares.
fn order(solver: Solver, steps: &[usize], grid: impl Fn(usize) -> FlowSchedule) -> f64 {
    let points: Vec<(f64, f64)> = steps
        .iter()
        .map(|&n| ((n as f64).ln(), -error(solver, &grid(n)).ln()))
        .collect();
    let mean =
        |of: &dyn Fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / points.len() as f64;
    let (x, y) = (mean(&|p| p.0), mean(&|p| p.1));
    mean(&|p| (p.0 - x) * (p.1 - y)) / mean(&|p| (p.0 - x).powi(2))
}

/// Steps uniform in lambda from sigma 0.9 to 0.1, so without the singular ends. A multistep method
/// of order 3 starts with a first-order step, which has to be short, `h^(3/2)`, to leave an error
/// of `h^3`.
fn regular(steps: usize) -> FlowSchedule {
    let lambda = |sigma: f64| ((1.0 - sigma) / sigma).ln();
    let (start, end) = (lambda(0.9), lambda(0.1));
    let h = (end - start) / steps as f64;
    let lambdas = [start, start + h.powf(1.5) / 2.0]
        .into_iter()
        .chain((1..=steps).map(|k| start + k as f64 * h));
    FlowSchedule::from_sigmas(lambdas.map(|l| 1.0 / (1.0 + l.exp())).collect()).unwrap()
}

#[test]
fn the_solution_solves_the_equation() {
    let (x, sigma, step) = (1.2, 0.6, 1e-5);
    let slope =
        (solution(x, sigma, sigma + step) - solution(x, sigma, sigma - step)) / (2.0 * step);
    assert!((slope - (-0.8 * x + (3.0 * sigma).cos())).abs() < 1e-8);
}

#[test]
fn orders_of_convergence() {
    let dpm = |order| Solver::Dpm(order, ThirdOrderTerm::Reference);
    let euler = order(Solver::Euler, &[32, 64, 128], regular);
    assert!((0.9..1.1).contains(&euler), "Euler: {euler}");
    let first = order(dpm(Order::First), &[32, 64, 128], regular);
    assert!((0.9..1.1).contains(&first), "order 1: {first}");
    let second = order(dpm(Order::Second), &[32, 64, 128], regular);
    assert!((1.8..2.3).contains(&second), "order 2: {second}");
    let third = order(
        Solver::Dpm(Order::Third, ThirdOrderTerm::Exact),
        &[16, 32, 64],
        regular,
    );
    assert!(third > 2.7, "order 3: {third}");
}

/// The published third order has half of the weight that its second difference needs, and so
/// converges as a second-order method: parity with it is parity with that.
#[test]
fn the_reference_third_order_is_of_second_order() {
    let solver = Solver::Dpm(Order::Third, ThirdOrderTerm::Reference);
    let measured = order(solver, &[64, 128, 256], regular);
    assert!((1.8..2.4).contains(&measured), "{measured}");
}

/// On the grids that models are sampled with, which end at sigma 0 and start next to 1. The
/// timesteps are exact here: floored ones put an error of 1/1000 into the network's timestep, which no
/// number of steps removes.
#[test]
fn orders_of_convergence_on_the_sampling_grids() {
    let euler = |shift| move |n| FlowSchedule::euler(n, shift).unwrap();
    for shift in [1.0, 3.0] {
        let measured = order(Solver::Euler, &[64, 128, 256], euler(shift));
        assert!((0.8..1.2).contains(&measured), "Euler: {measured}");
    }
    let dpm = |n| {
        FlowSchedule::dpm_solver(n, 1.0)
            .unwrap()
            .with_timesteps(sana_sampler::Timesteps::Exact)
    };
    for (wanted, range) in [(Order::First, 0.8..1.2), (Order::Second, 1.8..2.4)] {
        let solver = Solver::Dpm(wanted, ThirdOrderTerm::Reference);
        let measured = order(solver, &[32, 64, 128], dpm);
        assert!(range.contains(&measured), "{wanted:?}: {measured}");
    }
}

/// The rest of a schedule that a strength leaves converges as the whole does: the first step that
/// runs is of first order, but as short as the others. Steps uniform in lambda, so that the step to
/// sigma 0, which is infinitely long there, does not hide it.
#[test]
fn orders_of_convergence_from_a_start_in_the_middle() {
    let lambda = |sigma: f64| ((1.0 - sigma) / sigma).ln();
    let (start, end) = (lambda(0.9), lambda(0.1));
    let rest = |n: usize| {
        let lambdas = (0..=2 * n).map(|k| start + (end - start) * k as f64 / (2 * n) as f64);
        let sigmas = lambdas.map(|lambda| 1.0 / (1.0 + lambda.exp())).collect();
        let whole = FlowSchedule::from_sigmas(sigmas).unwrap();
        let rest = whole.for_strength(0.5).unwrap();
        assert!((rest.sigmas()[0] - 0.5).abs() < 1e-12);
        rest
    };
    let dpm = |order| Solver::Dpm(order, ThirdOrderTerm::Reference);
    for (solver, range) in [
        (Solver::Euler, 0.9..1.1),
        (dpm(Order::First), 0.9..1.1),
        (dpm(Order::Second), 1.8..2.2),
    ] {
        let measured = order(solver, &[16, 32, 64], rest);
        assert!(range.contains(&measured), "{measured}");
    }
}

/// A constant velocity is a straight path: every solver follows it exactly, in one step or many.
#[test]
fn straight_paths_are_exact() {
    let device = Device::flex();
    let x0 = Tensor::<1>::from_floats([0.3, -1.1, 2.0, 0.0, -0.4], &device);
    let noise = Tensor::<1>::from_floats(STARTS, &device);
    let velocity = noise.clone() - x0.clone();
    let expected: Vec<f32> = x0.clone().into_data().try_to_vec().unwrap();
    for steps in [1, 2, 5, 20] {
        for solver in [
            Solver::Euler,
            Solver::Dpm(Order::First, ThirdOrderTerm::Reference),
            Solver::Dpm(Order::Second, ThirdOrderTerm::Reference),
            Solver::Dpm(Order::Third, ThirdOrderTerm::Reference),
            Solver::Dpm(Order::Third, ThirdOrderTerm::Exact),
        ] {
            let schedule = if solver == Solver::Euler {
                FlowSchedule::euler(steps, 3.0).unwrap()
            } else {
                FlowSchedule::dpm_solver(steps, 3.0).unwrap()
            };
            let initial = x0.clone() + velocity.clone() * schedule.sigmas()[0];
            let ours = solve(solver, &schedule, initial, |_, _| Ok(velocity.clone()));
            for (ours, exact) in ours.iter().zip(&expected) {
                assert!((ours - exact).abs() < 2e-6, "{steps} steps: {ours} {exact}");
            }
        }
    }
}

/// A flow network that knows the image, wrapped for TrigFlow, gives it back at any number of
/// steps, whatever noise comes between.
#[test]
fn consistency_sampling_of_a_known_image_is_exact() {
    let device = Device::flex();
    let sigma_data = SigmaData::default();
    let x0 = noise::latents(1, 0, [2, 3, 4, 5], &device);
    let shape = x0.dims();
    let exact: Vec<f32> = x0.clone().into_data().try_to_vec().unwrap();
    for steps in [1, 2, 4] {
        for schedule in [ScmSchedule::default_for(steps), ScmSchedule::paper(steps)] {
            let initial = noise::latents(2, 0, shape, &device) * sigma_data.value();
            let clean = x0.clone();
            // x = (1 - s) x0 + s noise, so noise - x0 = (x - x0) / s
            let predict = trigflow::from_flow(sigma_data, move |x: Tensor<4>, s| {
                Ok::<_, Infallible>((x - clean.clone()) / s)
            });
            let Ok(result) = scm(
                &schedule.unwrap(),
                sigma_data,
                initial,
                predict,
                |step| Ok(noise::step_noise(2, 0, step as u32, shape, &device)),
                |_| StepAction::Continue,
            );
            let latents = result / sigma_data.value();
            let ours: Vec<f32> = latents.into_data().try_to_vec().unwrap();
            for (ours, exact) in ours.iter().zip(&exact) {
                assert!((ours - exact).abs() < 1e-5, "{steps} steps: {ours} {exact}");
            }
        }
    }
}

/// Image-to-image of a known image: start in the middle, arrive at it.
#[test]
fn starting_in_the_middle_arrives_at_the_image() {
    let device = Device::flex();
    let sigma_data = SigmaData::default();
    let x0 = noise::latents(3, 0, [1, 2, 3, 4], &device);
    let fresh = noise::latents(4, 0, [1, 2, 3, 4], &device);
    let exact: Vec<f32> = x0.clone().into_data().try_to_vec().unwrap();

    let flow = FlowSchedule::dpm_solver(10, 3.0)
        .unwrap()
        .from_index(6)
        .unwrap();
    let start = sana_sampler::flow::interpolate(x0.clone(), fresh.clone(), &flow.sigmas()[..1]);
    let velocity = fresh.clone() - x0.clone();
    let Ok(by_flow) = dpm_solver(
        &flow,
        &DpmSolverOptions::default(),
        start.unwrap(),
        |_, _| Ok::<_, Infallible>(velocity.clone()),
        |_| StepAction::Continue,
    );

    let trig = ScmSchedule::default_for(4).unwrap().from_index(2).unwrap();
    let start = trigflow::noised(x0.clone(), fresh, trig.timesteps()[0], sigma_data).unwrap();
    let clean = x0.clone();
    let Ok(by_scm) = scm(
        &trig,
        sigma_data,
        start,
        trigflow::from_flow(sigma_data, move |x: Tensor<4>, s| {
            Ok::<_, Infallible>((x - clean.clone()) / s)
        }),
        |step| Ok(noise::step_noise(4, 0, step as u32, [1, 2, 3, 4], &device)),
        |_| StepAction::Continue,
    );

    for result in [by_flow, by_scm / sigma_data.value()] {
        let ours: Vec<f32> = result.into_data().try_to_vec().unwrap();
        for (ours, exact) in ours.iter().zip(&exact) {
            assert!((ours - exact).abs() < 1e-5, "{ours} {exact}");
        }
    }
}
