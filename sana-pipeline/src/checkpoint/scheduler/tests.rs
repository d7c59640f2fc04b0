use serde_json::{Value, json};

use super::json::quote_non_finite;
use super::*;
use crate::error::{CheckpointError, RequestError};

fn read(text: &str) -> Result<Scheduler, CheckpointError> {
    Scheduler::from_json("scheduler_config.json", text)
}

#[test]
fn non_finite_numbers_outside_of_strings_are_quoted() {
    let cases = [
        (r#"{"a": -Infinity}"#, r#"{"a": "-Infinity"}"#),
        (r#"[NaN,Infinity, 1]"#, r#"["NaN","Infinity", 1]"#),
        (
            r#"{"NaN": "-Infinity \" NaN"}"#,
            r#"{"NaN": "-Infinity \" NaN"}"#,
        ),
        (r#"{"a\\": NaN}"#, r#"{"a\\": "NaN"}"#),
        (r#"{"é": NaN, "b": -1.5}"#, r#"{"é": "NaN", "b": -1.5}"#),
        ("", ""),
    ];
    for (text, expected) in cases {
        assert_eq!(quote_non_finite(text), expected);
    }
}

#[test]
fn published_schedulers() {
    let dpm = read(
        r#"{"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "dpmsolver++",
            "beta_end": 0.02, "euler_at_final": true, "flow_shift": 6.0,
            "lambda_min_clipped": -Infinity, "lower_order_final": false,
            "prediction_type": "flow_prediction", "solver_order": 3,
            "timestep_spacing": "linspace", "trained_betas": null, "use_flow_sigmas": true,
            "variance_type": null}"#,
    )
    .unwrap();
    let options = DpmSolverOptions {
        order: Order::Third,
        lower_order_final: false,
        ..DpmSolverOptions::default()
    };
    assert_eq!(
        dpm,
        Scheduler::FlowDpm {
            options,
            shift: 6.0
        }
    );
    let euler = read(
        r#"{"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0,
            "shift_terminal": null, "base_shift": 0.5}"#,
    )
    .unwrap();
    assert_eq!(euler, Scheduler::FlowEuler { shift: 3.0 });
    let scm = read(r#"{"_class_name": "SCMScheduler", "sigma_data": 0.5}"#).unwrap();
    assert_eq!(scm.solver(), Solver::Scm);
    assert_eq!((dpm.default_steps(), scm.default_steps()), (20, 2));
    for scheduler in [dpm, euler, scm] {
        assert_eq!(read(&scheduler.to_json()).unwrap(), scheduler);
    }
}

/// Values of other schedulers that the reference takes for those of this one.
#[test]
fn values_that_the_reference_maps() {
    let dpm = |algorithm: &str, solver: &str| {
        let config = json!({
            "_class_name": DPM,
            "algorithm_type": algorithm,
            "solver_type": solver,
            "prediction_type": "flow_prediction",
            "use_flow_sigmas": true,
            "flow_shift": 3.0,
        });
        read(&config.to_string()).unwrap()
    };
    let plain = dpm("dpmsolver++", "midpoint");
    assert_eq!(dpm("deis", "midpoint"), plain);
    for solver in ["logrho", "bh1", "bh2"] {
        assert_eq!(dpm("deis", solver), plain, "{solver}");
    }
    let euler = json!({"_class_name": EULER, "shift": 3.0, "shift_terminal": 0}).to_string();
    assert_eq!(read(&euler).unwrap(), Scheduler::FlowEuler { shift: 3.0 });
}

#[test]
fn refusals_name_the_option_and_what_is_supported() {
    let dpm = |option: &str, value: Value| {
        let mut config = json!({
            "_class_name": DPM,
            "prediction_type": "flow_prediction",
            "use_flow_sigmas": true,
        });
        config[option] = value;
        config
    };
    let cases = [
        (
            dpm("algorithm_type", json!("sde-dpmsolver++")),
            "\"dpmsolver++\"",
        ),
        (
            dpm("prediction_type", json!("epsilon")),
            "\"flow_prediction\"",
        ),
        (dpm("prediction_type", Value::Null), "\"flow_prediction\""),
        (dpm("use_karras_sigmas", json!(true)), "false"),
        (dpm("use_flow_sigmas", json!(false)), "true"),
        (dpm("solver_type", json!("heun")), "\"midpoint\""),
        (dpm("solver_order", json!(4)), "1, 2 or 3"),
        (dpm("final_sigmas_type", json!("sigma_min")), "\"zero\""),
        (
            dpm("flow_shift", json!("Infinity")),
            "a positive number from 1e-6 to 1e6",
        ),
        (
            dpm("flow_shift", json!(-1)),
            "a positive number from 1e-6 to 1e6",
        ),
        (dpm("lower_order_final", json!("yes")), "true or false"),
        (dpm("num_train_timesteps", json!(500)), "1000"),
        (
            json!({"_class_name": EULER, "use_dynamic_shifting": true}),
            "false",
        ),
        (json!({"_class_name": EULER, "shift_terminal": 0.1}), "null"),
        (
            json!({"_class_name": SCM, "prediction_type": "sample"}),
            "\"trigflow\"",
        ),
    ];
    for (config, supported) in cases {
        let error = read(&config.to_string()).unwrap_err();
        assert!(
            matches!(error, CheckpointError::SchedulerOption { .. }),
            "{config}: {error}"
        );
        let message = error.to_string();
        assert!(message.contains("scheduler_config.json"), "{message}");
        assert!(
            message.ends_with(&format!("supported is {supported}")),
            "{message}"
        );
    }
    let bare = r#"{"_class_name": "SCMScheduler", "sigma_data": Infinity}"#;
    let error = read(bare).unwrap_err().to_string();
    assert!(error.contains("sigma_data is \"Infinity\""), "{error}");
}

#[test]
fn unknown_classes_and_broken_files_are_named() {
    for (text, found) in [
        (r#"{"_class_name": "DDIMScheduler"}"#, "DDIMScheduler"),
        (r#"{"shift": 3.0}"#, ""),
    ] {
        let error = read(text).unwrap_err();
        assert!(
            matches!(&error, CheckpointError::SchedulerClass { found: class, .. } if class == found)
        );
        assert!(error.to_string().contains(SCM), "{error}");
    }
    let error = read("{").unwrap_err();
    assert!(matches!(error, CheckpointError::Json { .. }));
    assert!(
        error.to_string().contains("scheduler_config.json"),
        "{error}"
    );
}

#[test]
fn solvers_fit_the_kind_of_model() {
    let flow = Scheduler::FlowEuler { shift: 3.0 };
    let scm = Scheduler::Scm {
        sigma_data: SigmaData::default(),
    };
    let dpm = Solver::FlowDpm {
        order: Order::Second,
    };
    assert_eq!(
        flow.schedule(dpm, 20, None).unwrap(),
        Schedule::Flow(FlowSchedule::dpm_solver(20, 3.0).unwrap())
    );
    assert_eq!(
        flow.schedule(Solver::FlowEuler, 8, Some(2.0)).unwrap(),
        Schedule::Flow(FlowSchedule::euler(8, 2.0).unwrap())
    );
    assert_eq!(scm.schedule(Solver::Scm, 2, None).unwrap().steps(), 2);
    for (scheduler, solver) in [(flow, Solver::Scm), (scm, dpm), (scm, Solver::FlowEuler)] {
        let error = scheduler.schedule(solver, 2, None).unwrap_err();
        assert!(matches!(error, RequestError::SolverMismatch { .. }));
        assert!(error.to_string().contains(&solver.to_string()), "{error}");
    }
    assert_eq!(
        Solver::FlowDpm {
            order: Order::Third
        }
        .to_string(),
        "flow-dpm (order 3)"
    );
}
