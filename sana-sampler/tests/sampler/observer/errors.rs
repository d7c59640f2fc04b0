//! Errors of networks, observers and noise, and what is refused.

use super::*;

#[test]
fn an_error_of_the_network_ends_the_run_at_once() {
    for solver in solvers::<&'static str>() {
        let mut observed = 0;
        let result = solver(
            initial(),
            &mut |x, timestep| match timestep {
                timestep if timestep < 1.0 || (2.0..950.0).contains(&timestep) => Err("no memory"),
                _ => Ok(x),
            },
            &mut |_| {
                observed += 1;
                StepAction::Continue
            },
        );
        assert_eq!(result.unwrap_err(), "no memory");
        assert!((1..STEPS).contains(&observed));
    }
}

#[test]
fn an_error_of_the_observer_ends_the_run_at_once() {
    let schedule = FlowSchedule::euler(STEPS, 3.0).unwrap();
    let scm_schedule = ScmSchedule::default_for(STEPS).unwrap();
    let options = DpmSolverOptions::default();
    let network = |x: Tensor<2>, _| Ok(x);
    let mut observed = Vec::new();
    let mut observe = |step: Step<2>| {
        observed.push(step.index);
        match step.index {
            1 => Err("the window was closed"),
            _ => Ok(StepAction::Continue),
        }
    };
    let noise = |_| Ok(initial());
    for result in [
        flow_euler(&schedule, initial(), network, &mut observe),
        dpm_solver(&schedule, &options, initial(), network, &mut observe),
        scm(
            &scm_schedule,
            SigmaData::default(),
            initial(),
            network,
            noise,
            &mut observe,
        ),
    ] {
        assert_eq!(result.unwrap_err(), "the window was closed");
    }
    assert_eq!(observed, [0, 1, 0, 1, 0, 1]);
}

#[test]
fn an_error_of_the_noise_ends_the_run_at_once() {
    let schedule = ScmSchedule::default_for(STEPS).unwrap();
    let result = scm(
        &schedule,
        SigmaData::default(),
        initial(),
        |x, _| Ok(x),
        |step| match step {
            1 => Err("no noise"),
            _ => Ok(initial()),
        },
        |_| StepAction::Continue,
    );
    assert_eq!(result.unwrap_err(), "no noise");
}

/// The step to timestep 0 needs no noise, so none is asked for.
#[test]
fn no_noise_is_asked_at_the_last_step() {
    let mut asked = Vec::new();
    let Ok(_) = scm(
        &ScmSchedule::default_for(STEPS).unwrap(),
        SigmaData::default(),
        initial(),
        field,
        |step| {
            asked.push(step);
            Ok(initial())
        },
        |_| StepAction::Continue,
    );
    assert_eq!(asked, [0, 1, 2]);
}

#[test]
fn a_velocity_of_another_shape_is_not_broadcast() {
    for solver in solvers::<Infallible>() {
        let panic = std::panic::catch_unwind(|| {
            solver(initial(), &mut |x, _| Ok(x.narrow(0, 0, 1)), &mut |_| {
                StepAction::Continue
            })
        })
        .unwrap_err();
        let message = panic.downcast_ref::<String>().unwrap();
        assert!(
            message.contains("must have the shape of the sample [2, 3], found [1, 3]"),
            "{message}"
        );
    }
}

#[test]
fn noising_refuses_another_shape() {
    let noise = initial().narrow(1, 0, 2);
    assert_eq!(
        trigflow::noised(initial(), noise, 1.0, SigmaData::default()).unwrap_err(),
        SamplerError::ShapeMismatch {
            name: "the noise",
            expected: vec![2, 3],
            found: vec![2, 2]
        }
    );
}

/// Messages carry the values and read as one lower-case clause.
#[test]
fn error_messages() {
    let messages = [
        (
            SamplerError::ZeroSteps,
            "a schedule needs at least one step, found 0",
        ),
        (
            SamplerError::InvalidShift { found: f64::NAN },
            "the flow shift must be positive and finite, found NaN",
        ),
        (
            FlowSchedule::from_sigmas(vec![0.9, 0.5, 0.6]).unwrap_err(),
            "sigmas must decrease strictly, but sigmas[2] = 0.6 follows 0.5",
        ),
        (
            ScmSchedule::from_timesteps(vec![3.0, 0.0]).unwrap_err(),
            "timesteps[0] must be in [0, 1.5708], found 3",
        ),
    ];
    for (error, message) in messages {
        assert_eq!(error.to_string(), message);
    }
}
