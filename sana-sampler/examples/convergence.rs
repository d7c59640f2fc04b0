//! Solves dx/dsigma = -0.8 x + cos(3 sigma) with every solver on the grid it is sampled with, and
//! prints the error at sigma 0 and, in brackets, the order seen since the row's last number.

use std::convert::Infallible;

use burn::tensor::{Device, Tensor};
use sana_sampler::{
    DpmSolverOptions, FlowSchedule, Order, SamplerError, StepAction, ThirdOrderTerm, Timesteps,
    dpm_solver, flow_euler,
};

fn velocity(x: Tensor<1>, timestep: f64) -> Result<Tensor<1>, Infallible> {
    Ok(x * -0.8 + (3.0 * timestep / 1000.0).cos())
}

fn exact(x: f64, sigma: f64) -> f64 {
    let b = 1.0 / (3.0 + 0.64 / 3.0);
    let particular = |s: f64| b * (0.8 / 3.0 * (3.0 * s).cos() + (3.0 * s).sin());
    (x - particular(sigma)) * (0.8 * sigma).exp() + particular(0.0)
}

fn error(solver: Option<(Order, ThirdOrderTerm)>, steps: usize) -> Result<f64, SamplerError> {
    let initial = Tensor::from_floats([1.2f32], &Device::flex());
    let observe = |_| StepAction::Continue;
    let (grid, Ok(result)) = if let Some((order, third_order_term)) = solver {
        let grid = FlowSchedule::dpm_solver(steps, 1.0)?.with_timesteps(Timesteps::Exact);
        let mut options = DpmSolverOptions::default();
        (options.order, options.third_order_term) = (order, third_order_term);
        let result = dpm_solver(&grid, &options, initial, velocity, observe);
        (grid, result)
    } else {
        let grid = FlowSchedule::euler(steps, 1.0)?;
        let result = flow_euler(&grid, initial, velocity, observe);
        (grid, result)
    };
    Ok((f64::from(result.into_scalar::<f32>()) - exact(1.2, grid.sigmas()[0])).abs())
}

fn main() -> Result<(), SamplerError> {
    for (name, solver) in [
        ("flow Euler", None),
        ("order 1", Some((Order::First, ThirdOrderTerm::Reference))),
        ("order 2", Some((Order::Second, ThirdOrderTerm::Reference))),
        ("order 3", Some((Order::Third, ThirdOrderTerm::Reference))),
        ("3, exact", Some((Order::Third, ThirdOrderTerm::Exact))),
    ] {
        print!("{name:<10}");
        let mut last = None;
        for steps in [8, 16, 32, 64, 128] {
            let error = error(solver, steps)?;
            print!("  {steps}: {error:.1e}");
            if let Some(last) = last.replace(error) {
                print!(" ({:.1})", (last / error).log2());
            }
        }
        println!();
    }
    Ok(())
}
