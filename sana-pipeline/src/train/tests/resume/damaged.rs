//! What killed runs leave, and states that cannot be.

use super::*;

/// A crash between the files of a save, or in one of them, costs no more than the steps since the
/// save before.
#[test]
fn an_interrupted_save_does_no_harm() {
    let (device, folder) = (device(), tempfile::tempdir().expect("folder"));
    let open = || Run::open(folder.path(), tiny_autoencoder(&device), options(3));
    let mut run = open().expect("run");
    run.train(&task(&device), |_, _| true).expect("trains");
    let (state, meta) = (
        folder.path().join("state.safetensors"),
        folder.path().join("state.json"),
    );
    for name in ["state.safetensors.part", "state.json.part"] {
        std::fs::write(folder.path().join(name), "half").expect("what a crash leaves");
    }
    assert_eq!(open().expect("resumes").step(), 3);

    // The options are written first: with them alone, the run has not begun.
    let saved = std::fs::read(&state).expect("state");
    std::fs::remove_file(&state).expect("removed");
    assert_eq!(open().expect("starts").step(), 0);

    std::fs::write(&state, &saved[..saved.len() / 2]).expect("half a state");
    let error = open().expect_err("refused").to_string();
    assert!(error.contains("state.safetensors"), "{error}");
    std::fs::write(&state, saved).expect("state");
    std::fs::write(&meta, "{\"step\": 3").expect("half of the options");
    let error = open().expect_err("refused").to_string();
    assert!(
        error.contains("cannot resume from") && error.contains("state.json"),
        "{error}"
    );
}

/// A run that was killed before its first save, or while it saved, leaves no line twice and no
/// file behind.
#[test]
fn what_a_killed_run_leaves_is_cleaned() {
    let (device, folder) = (device(), tempfile::tempdir().expect("folder"));
    let path = |name: &str| folder.path().join(name);
    let open = |steps| Run::open(folder.path(), tiny_autoencoder(&device), options(steps));
    open(4).expect("run");
    let header = "step,loss,gradient_norm,learning_rate,seconds\n";
    let line = |step: usize| format!("{step},1.0,1.0,0.001,0.1\n");
    let lines = format!("{header}{}{}2,1.0,1", line(1), line(2));
    std::fs::write(path("log.csv"), lines).expect("log");
    let leftover = ".sana-0123456789abcdef.part";
    std::fs::write(path(leftover), "half").expect("what a kill leaves");
    let others = ["notes.part", ".tmpAb3dE9", "other.safetensors"];
    for name in others {
        std::fs::write(path(name), "mine").expect("what somebody keeps");
    }
    let mut run = open(4).expect("run");
    assert!(!path("log.csv").exists());
    assert!(!path(leftover).exists());
    for name in others {
        assert!(path(name).exists(), "{name}");
    }
    run.train(&task(&device), |_, _| true).expect("trains");

    // Doubled and torn lines of later crashes go too.
    let log = std::fs::read_to_string(path("log.csv")).expect("log");
    let torn = format!("{log}{}{}3,1.0", line(3), line(4));
    std::fs::write(path("log.csv"), torn).expect("log");
    open(9).expect("run");
    assert_eq!(std::fs::read_to_string(path("log.csv")).expect("log"), log);

    // A log that is somebody else's is not touched.
    std::fs::write(path("log.csv"), "when,what\n").expect("log");
    let error = open(9).expect_err("refused").to_string();
    assert!(error.contains("not the log of a run"), "{error}");
    assert_eq!(
        std::fs::read_to_string(path("log.csv")).unwrap(),
        "when,what\n"
    );
}

/// Any JSON as the options and any tensors as the state: errors, never panics.
#[test]
fn impossible_states_are_refused() {
    let (device, folder) = (device(), tempfile::tempdir().expect("folder"));
    let open = || Run::open(folder.path(), tiny_autoencoder(&device), options(3));
    let mut run = open().expect("run");
    run.train(&task(&device), |_, _| true).expect("trains");
    let (state, meta) = (
        folder.path().join("state.safetensors"),
        folder.path().join("state.json"),
    );
    let good = std::fs::read_to_string(&meta).expect("options");
    for json in [
        "",
        "[]",
        "null",
        "{}",
        "3",
        "\"x\"",
        "{\"step\": -1}",
        "[[[[",
    ] {
        std::fs::write(&meta, json).expect("options");
        let error = open().expect_err("refused");
        assert!(matches!(error, TrainError::State { .. }), "{json}: {error}");
    }
    let mut value: serde_json::Value = serde_json::from_str(&good).unwrap();
    for (key, wrong) in [
        ("settings", serde_json::json!([1])),
        ("changes", serde_json::json!({"a": 1})),
        ("step", serde_json::json!(-3)),
        ("options", serde_json::json!({"steps": 1e300})),
    ] {
        let kept = std::mem::replace(&mut value[key], wrong);
        std::fs::write(&meta, value.to_string()).expect("options");
        let error = open().expect_err("refused");
        assert!(matches!(error, TrainError::State { .. }), "{key}: {error}");
        value[key] = kept;
    }
    std::fs::write(&meta, good).expect("options");

    let saved = Weights::open_file(&state).expect("state");
    let tensors: Vec<(String, burn::tensor::TensorData)> = saved
        .names()
        .map(|name| {
            let tensor: burn::tensor::Tensor<1> = saved
                .tensor(name, burn::tensor::DType::F32, &device)
                .expect("tensor");
            let data: Vec<f32> = tensor.into_data().iter::<f32>().collect();
            let length = data.len();
            (
                name.to_owned(),
                burn::tensor::TensorData::new(data, [length]),
            )
        })
        .collect();
    drop(saved);
    let first = |set: &str| {
        let mut names = tensors.iter().map(|(name, _)| name.clone());
        names.find(|name| name.starts_with(set)).expect("a tensor")
    };
    let cases = [
        ("step".to_owned(), vec![f32::NAN], "its step is NaN"),
        ("step".to_owned(), vec![-1.0], "its step is -1"),
        ("step".to_owned(), vec![0.5], "its step is 0.5"),
        ("step".to_owned(), vec![1e30], "its step is"),
        ("step".to_owned(), vec![], "its step is NaN"),
        (first("exp_avg."), vec![1.0], "values instead of"),
        (
            first("average."),
            vec![f32::INFINITY; 0],
            "0 values instead of",
        ),
    ];
    let write = |name: &str, wrong: Vec<f32>| {
        let mut changed = tensors.clone();
        let place = changed.iter_mut().find(|(found, _)| found == name);
        let length = wrong.len();
        place.expect("a tensor").1 = burn::tensor::TensorData::new(wrong, [length]);
        sana_linear_attn::weights::write_tensors(&state, changed).expect("state");
        open().expect_err("refused").to_string()
    };
    for (name, wrong, expected) in cases {
        let message = write(&name, wrong);
        assert!(message.contains(expected), "{name}: {message}");
    }
    for (set, wrong) in [
        ("exp_avg_sq.", -1.0),
        ("exp_avg.", f32::NAN),
        ("value.", f32::INFINITY),
    ] {
        let name = first(set);
        let (_, data) = tensors.iter().find(|(found, _)| *found == name).unwrap();
        let mut values: Vec<f32> = data.iter::<f32>().collect();
        values[0] = wrong;
        let message = write(&name, values);
        assert!(
            message.contains(&format!("a value of {name} is {wrong}")),
            "{message}"
        );
    }
}
