//! Every trajectory of `fixtures/schedulers`, state by state. The files are found by listing the
//! folder, so one that is dropped in is one more test.

use std::{convert::Infallible, path::PathBuf};

use burn::tensor::{Device, Tensor};
use sana_linear_attn::parity::{
    Fixture, assert_close, assert_parity, device, dropped_in_fixtures, values,
};
use sana_sampler::{
    DpmSolverOptions, FlowSchedule, Order, ScmTimesteps, SigmaData, Step, StepAction, dpm_solver,
    flow_euler, scm,
};

/// The fixtures of one solver: those of the crate, and those of `SANA_FIXTURES`.
fn fixtures(prefix: &str) -> Vec<Fixture> {
    let own = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures"));
    let mut paths: Vec<PathBuf> = [Some(own), dropped_in_fixtures()]
        .into_iter()
        .flatten()
        .filter_map(|root| std::fs::read_dir(root.join("schedulers")).ok())
        .flatten()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with(prefix) && name.ends_with(".safetensors")
        })
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no fixture {prefix}*");
    paths.iter().map(|path| Fixture::at(path)).collect()
}

fn number<T: std::str::FromStr>(fixture: &Fixture, key: &str) -> T {
    let text = fixture.metadata(key);
    text.parse()
        .unwrap_or_else(|_| panic!("{key} = {text} of {}", fixture.path().display()))
}

/// The field that stands for the network in every trajectory. The files' metadata has it as a
/// formula in words, so it is written out here.
fn velocity(x: Tensor<4>, timestep: f64) -> Result<Tensor<4>, Infallible> {
    let level = timestep / 1000.0;
    Ok((x.clone() * 1.3 + level).sin() * (0.5 + level) - x * 0.2)
}

fn assert_numbers(name: &str, ours: &[f64], reference: &[f64]) {
    assert_eq!(ours.len(), reference.len(), "{name}");
    for (ours, reference) in ours.iter().zip(reference) {
        // the reference's grids went through f32
        assert!(
            (ours - reference).abs() <= 2e-7 * reference.abs(),
            "{name}: {ours} against {reference}"
        );
    }
}

fn assert_schedule(fixture: &Fixture, schedule: &FlowSchedule) {
    let name = fixture.path().display();
    assert_numbers(
        &format!("{name} sigmas"),
        schedule.sigmas(),
        &fixture.values("sigmas"),
    );
    assert_numbers(
        &format!("{name} timesteps"),
        schedule.timesteps(),
        &fixture.values("timesteps"),
    );
}

/// An observer that keeps every step.
fn keep(steps: &mut Vec<Step<4>>) -> impl FnMut(Step<4>) -> StepAction<4> {
    |step| {
        steps.push(step);
        StepAction::Continue
    }
}

/// Compares one tensor of the fixture with what was kept of each step, and the steps' own fields
/// with the schedule.
fn assert_steps(
    fixture: &Fixture,
    timesteps: &[f64],
    steps: &[Step<4>],
    name: &str,
    of: fn(&Step<4>) -> &Tensor<4>,
) {
    for (index, step) in steps.iter().enumerate() {
        assert_eq!((step.index, step.steps), (index, steps.len()));
        assert_eq!(step.timestep, timesteps[index]);
    }
    let ours = steps.iter().map(|step| of(step).clone()).collect();
    assert_parity(
        &format!("{} {name}", fixture.path().display()),
        Tensor::stack::<5>(ours, 0),
        fixture.tensor::<5>(name, &device()),
    );
}

#[test]
fn flow_dpm_solver() {
    for fixture in fixtures("dpm_") {
        let schedule =
            FlowSchedule::dpm_solver(number(&fixture, "steps"), number(&fixture, "shift")).unwrap();
        assert_schedule(&fixture, &schedule);
        let exact: Vec<f64> = fixture.values("timesteps");
        assert_eq!(schedule.timesteps(), exact, "floored timesteps are exact");
        let options = DpmSolverOptions {
            order: Order::try_from(number::<usize>(&fixture, "order")).unwrap(),
            ..Default::default()
        };
        let initial = fixture.tensor("initial", &device());
        let mut steps = Vec::new();
        let Ok(result) = dpm_solver(&schedule, &options, initial, velocity, keep(&mut steps));
        assert_steps(&fixture, &exact, &steps, "states", |step| &step.latents);
        assert_parity("result", result, steps.last().unwrap().latents.clone());
    }
}

#[test]
fn euler() {
    for fixture in fixtures("euler_") {
        let schedule =
            FlowSchedule::euler(number(&fixture, "steps"), number(&fixture, "shift")).unwrap();
        assert_schedule(&fixture, &schedule);
        let initial = fixture.tensor("initial", &device());
        let mut steps = Vec::new();
        let Ok(result) = flow_euler(&schedule, initial, velocity, keep(&mut steps));
        assert_steps(&fixture, schedule.timesteps(), &steps, "states", |step| {
            &step.latents
        });
        assert_parity("result", result, steps.last().unwrap().latents.clone());
    }
}

#[test]
fn consistency_sampling() {
    for fixture in fixtures("scm_") {
        let timesteps = fixture.values("timesteps");
        let schedule = ScmTimesteps::Reference
            .schedule(timesteps.len() - 1)
            .unwrap();
        assert_numbers("timesteps", schedule.timesteps(), &timesteps);
        let sigma_data = SigmaData::new(number(&fixture, "sigma_data")).unwrap();
        let noise = fixture.tensor::<5>("noise", &device());
        let mut steps = Vec::new();
        let Ok(result) = scm(
            &schedule,
            sigma_data,
            fixture.tensor("initial", &device()),
            |x, timestep| velocity(x, 500.0 * timestep),
            |step| Ok::<_, Infallible>(noise.clone().narrow(0, step, 1).squeeze_dim(0)),
            keep(&mut steps),
        );
        for (name, of) in [
            (
                "states",
                (|step| &step.latents) as fn(&Step<4>) -> &Tensor<4>,
            ),
            ("denoised", |step| &step.denoised),
        ] {
            assert_steps(&fixture, schedule.timesteps(), &steps, name, of);
        }
        assert_parity("result", result, steps.last().unwrap().denoised.clone());
    }
}

/// The comparison is able to fail: a third order with the exact weight is not the reference's. The
/// two differ by 1.5e-3 of the largest value, less than the bounds of GPUs: this runs on the CPU.
#[test]
#[should_panic(expected = "differs")]
fn another_third_order_is_seen() {
    for fixture in fixtures("dpm_order3") {
        let schedule =
            FlowSchedule::dpm_solver(number(&fixture, "steps"), number(&fixture, "shift")).unwrap();
        let options = DpmSolverOptions {
            order: Order::Third,
            third_order_term: sana_sampler::ThirdOrderTerm::Exact,
            ..Default::default()
        };
        let cpu = Device::flex();
        let initial = fixture.tensor("initial", &cpu);
        let mut steps = Vec::new();
        let Ok(_) = dpm_solver(&schedule, &options, initial, velocity, keep(&mut steps));
        let ours = steps.into_iter().map(|step| step.latents).collect();
        let ours = values(Tensor::stack::<5>(ours, 0));
        let reference = values(fixture.tensor::<5>("states", &cpu));
        assert_close("states", &ours, &reference, 1e-4);
    }
}
