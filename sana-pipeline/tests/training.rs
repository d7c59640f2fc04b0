//! Training against the reference (`training/` fixture), and what a run promises: it resumes with
//! nothing lost, its data and options are checked.
#![cfg(feature = "train")]

use std::path::Path;

use burn::tensor::{Device, Distribution, Tensor};
use sana_dcae::{BlockType, DcAe, DcAeConfig, PerStage};
use sana_linear_attn::parity::{Fixture, assert_close, device, fixture_path, tolerance, values};
use sana_linear_attn::transformer::F16Clamp;
use sana_linear_attn::{SanaTransformer, SanaTransformerConfig, Weights};
use sana_pipeline::train::{
    AutoencoderOptions, AutoencoderTask, Data, Denoiser, LatentPool, MatrixUpdate, Optimizer,
    OptimizerOptions, Parameters, Run, RunOptions, Schedule, Task, TrainError, TransformerOptions,
    TransformerTask, Workers, flow_loss, share,
};
use sana_text::{
    Gemma2Config, GemmaTokenizer, Instruction, PromptOptions, PromptTokenizer, train_gemma_style,
};

const CRATE: &str = env!("CARGO_MANIFEST_DIR");

fn fixture() -> Fixture {
    Fixture::open(CRATE, "training/io.safetensors")
}

fn model(device: &Device) -> SanaTransformer {
    let folder = fixture_path(CRATE, "training/transformer");
    let config = SanaTransformerConfig::from_file(&folder.join("config.json")).expect("config");
    let weights = Weights::open_folder(&folder, "diffusion_pytorch_model", None).expect("weights");
    config
        .load(&weights, None, F16Clamp::Auto, device)
        .expect("the weights fit")
}

fn workers(count: usize) -> Workers {
    Workers::new(count).expect("threads")
}

#[test]
fn workers_share_all_items() {
    let workers = workers(3);
    assert_eq!(workers.run(|pool| pool), [0, 1, 2]);
    let doubled = workers.share((0..7).collect(), |item| 2 * item);
    assert_eq!(doubled, [0, 6, 12, 2, 8, 4, 10]);
}

fn flat(values: Vec<f64>) -> Vec<f32> {
    values.into_iter().map(|value| value as f32).collect()
}

#[test]
fn times_are_shifted_as_in_the_reference() {
    let f = fixture();
    let shift: f64 = f.metadata("flow_shift").parse().expect("a number");
    for (u, sigma) in f.values("u").into_iter().zip(f.values("sigma")) {
        let ours = sana_sampler::shift_sigma(u, shift);
        assert!(
            (ours - sigma).abs() < 1e-6,
            "shift({u}) = {ours}, reference {sigma}"
        );
    }
}

#[test]
fn loss_and_gradients_equal_the_reference() {
    let (f, device) = (fixture(), device());
    let plain = model(&device);
    let parameters = Parameters::of(&plain);
    let tracked = parameters.write_into(plain, true);
    let loss = flow_loss(
        &tracked,
        f.tensor("x0", &device),
        f.tensor("noise", &device),
        &f.values("sigma"),
        f.tensor::<3>("caption", &device).autodiff(),
        f.tensor::<2>("caption_mask", &device).autodiff(),
    )
    .expect("the fixture's shapes agree");
    assert_close(
        "loss",
        &values(loss.clone().inner()),
        &flat(f.values("loss")),
        tolerance(),
    );

    let gradients = loss.backward();
    let ours = sana_pipeline::train::gradients(&tracked, &gradients);
    let reference: Vec<(String, Vec<f32>)> = parameters
        .names
        .iter()
        .map(|name| (name.clone(), flat(f.values(&format!("gradient.{name}")))))
        .collect();
    let largest = |values: &[f32]| values.iter().fold(0f32, |max, value| max.max(value.abs()));
    let largest_of_all = reference
        .iter()
        .map(|(_, g)| largest(g))
        .fold(0f32, f32::max);
    for ((name, reference), ours) in reference.iter().zip(ours) {
        let ours = values(ours.unwrap_or_else(|| panic!("no gradient reaches {name}")));
        // The bound is 1e-4 of the tensor's own largest gradient, or of a thousandth of the
        // file's largest where that is more: rounding of large gradients reaches small ones.
        let own = largest(reference);
        let scale = own.max(1e-3 * largest_of_all) / own.max(f32::MIN_POSITIVE);
        assert_close(name, &ours, reference, tolerance() * f64::from(scale));
    }
}

#[test]
fn adamw_step_equals_the_reference() {
    let (f, device) = (fixture(), device());
    let mut parameters = Parameters::of(&model(&device));
    let gradients = parameters
        .names
        .iter()
        .map(|name| {
            let values = flat(f.values(&format!("gradient.{name}")));
            Some(Tensor::<1>::from_floats(values.as_slice(), &device))
        })
        .collect();
    let options = OptimizerOptions {
        weight_decay: 0.01,
        clip_norm: f64::INFINITY,
        ..OptimizerOptions::default()
    };
    let mut optimizer = Optimizer::new(options, &parameters);
    optimizer.step(&mut parameters.values, gradients, 1e-3, &workers(1));
    for (name, ours) in parameters.names.iter().zip(parameters.values) {
        let reference = flat(f.values(&format!("updated.{name}")));
        assert_close(name, &values(ours), &reference, tolerance());
    }
}

#[test]
fn gradients_are_clipped_together() {
    let device = device();
    let tensor = |values: &[f32]| Tensor::<1>::from_floats(values, &device);
    let mut parameters = Parameters {
        names: vec!["a".to_owned(), "b".to_owned()],
        shapes: vec![vec![1], vec![1]],
        values: vec![tensor(&[0.0]), tensor(&[0.0])],
    };
    let options = OptimizerOptions {
        clip_norm: 1.0,
        ..OptimizerOptions::default()
    };
    let mut optimizer = Optimizer::new(options, &parameters);
    let norm = optimizer.step(
        &mut parameters.values,
        vec![Some(tensor(&[3.0])), Some(tensor(&[4.0]))],
        0.1,
        &workers(2),
    );
    assert_eq!(norm, 5.0);
    let moment = values(optimizer.states[1].first.clone())[0];
    assert!((moment - 0.1 * 0.8).abs() < 1e-6, "first moment {moment}");
}

/// A DC-AE of two stages, small enough to train in a test.
fn tiny_autoencoder(device: &Device) -> DcAe {
    let config = DcAeConfig {
        encoder_block_types: PerStage::All(BlockType::Res),
        decoder_block_types: PerStage::All(BlockType::Res),
        encoder_block_out_channels: vec![8, 16],
        decoder_block_out_channels: vec![8, 16],
        encoder_layers_per_block: vec![1, 1],
        decoder_layers_per_block: vec![1, 1],
        encoder_qkv_multiscales: vec![vec![], vec![]],
        decoder_qkv_multiscales: vec![vec![], vec![]],
        latent_channels: 4,
        ..DcAeConfig::default()
    };
    config.init(device)
}

fn task(device: &Device) -> AutoencoderTask {
    AutoencoderTask {
        data: Data::Scenes { size: 16 },
        options: AutoencoderOptions {
            batch: 4,
            ..AutoencoderOptions::default()
        },
        device: device.clone(),
    }
}

fn options(steps: usize) -> RunOptions {
    RunOptions {
        steps,
        schedule: Schedule {
            learning_rate: 3e-3,
            warmup: 2,
            last: 0.1,
        },
        optimizer: OptimizerOptions::default(),
        replicas: 2,
        save_every: 3,
    }
}

#[test]
fn a_stopped_run_goes_on_as_if_it_had_not_been() {
    stops_and_goes_on(options);
}

#[test]
fn so_does_one_with_muon() {
    stops_and_goes_on(muon);
}

fn muon(steps: usize) -> RunOptions {
    let mut options = options(steps);
    options.optimizer.matrices = MatrixUpdate::Muon;
    options
}

fn stops_and_goes_on(options: impl Fn(usize) -> RunOptions) {
    let device = device();
    let start = tiny_autoencoder(&device);
    // Both runs start from the same values.
    let start = Parameters::of(&start).write_into(start, false);
    let (whole, stopped) = (
        tempfile::tempdir().expect("folder"),
        tempfile::tempdir().expect("folder"),
    );
    let task = task(&device);

    let mut run = Run::open(whole.path(), start.clone(), options(8)).expect("run");
    run.train(&task, |_, _| true).expect("trains");
    let expected = Parameters::of(&run.averaged_model());

    let mut run = Run::open(stopped.path(), start.clone(), options(8)).expect("run");
    run.train(&task, |_, progress| progress.step < 5)
        .expect("trains");
    drop(run);
    let mut run =
        Run::open(stopped.path(), tiny_autoencoder(&device), options(8)).expect("resumes");
    assert_eq!(run.step(), 5);
    run.train(&task, |_, _| true).expect("trains");
    let found = Parameters::of(&run.averaged_model());

    for ((name, found), expected) in found.names.iter().zip(found.values).zip(expected.values) {
        assert_eq!(values(found), values(expected), "{name}");
    }
    let log = |folder: &Path| {
        let text = std::fs::read_to_string(folder.join("log.csv")).expect("log");
        let lines = text
            .lines()
            .map(|line| line.rsplit_once(',').expect("columns").0.to_owned());
        lines.collect::<Vec<_>>() // all but the seconds
    };
    assert_eq!(log(stopped.path()), log(whole.path()));
    assert!(stopped.path().join("loss.png").is_file());
}

#[test]
fn steps_after_the_last_save_are_taken_again() {
    let (device, folder) = (device(), tempfile::tempdir().expect("folder"));
    let task = task(&device);
    let mut run = Run::open(folder.path(), tiny_autoencoder(&device), options(3)).expect("run");
    run.train(&task, |_, _| true).expect("trains");
    let log = folder.path().join("log.csv");
    let text = std::fs::read_to_string(&log).expect("log");
    std::fs::write(&log, text + "4,1.0,1.0,0.001,0.1\n").expect("a line of an unsaved step");
    let run = Run::open(folder.path(), tiny_autoencoder(&device), options(9)).expect("resumes");
    assert_eq!(run.step(), 3);
    assert_eq!(
        std::fs::read_to_string(&log).expect("log").lines().count(),
        4
    );
}

#[test]
fn a_run_keeps_its_optimizer() {
    let (device, folder) = (device(), tempfile::tempdir().expect("folder"));
    let task = task(&device);
    let mut run = Run::open(folder.path(), tiny_autoencoder(&device), muon(1)).expect("run");
    run.train(&task, |_, _| true).expect("trains");
    let error = Run::open(folder.path(), tiny_autoencoder(&device), options(2)).expect_err("other");
    let message = error.to_string();
    assert!(message.contains("is Muon, not AdamW"), "{message}");
}

/// The update of a hidden matrix is orthogonal and as large as the learning rate says, whatever
/// the gradient's size; the rest follows AdamW.
#[test]
fn muon_updates_matrices_alone() {
    let device = device();
    device.seed(5);
    let matrix = Tensor::<1>::random([32 * 48], Distribution::Normal(0.0, 1.0), &device);
    let zeros = |length: usize| Tensor::<1>::zeros([length], &device);
    let mut parameters = Parameters {
        names: vec!["layer.weight".to_owned(), "layer.bias".to_owned()],
        shapes: vec![vec![32, 48], vec![32]],
        values: vec![zeros(32 * 48), zeros(32)],
    };
    let options = OptimizerOptions {
        matrices: MatrixUpdate::Muon,
        ..OptimizerOptions::default()
    };
    let mut optimizer = Optimizer::new(options, &parameters);
    let gradients = vec![Some(matrix), Some(zeros(32) + 7.0)];
    optimizer.step(&mut parameters.values, gradients, 0.01, &workers(3));
    let [matrix, bias] = parameters.values.try_into().expect("two");
    // AdamW's first step is the learning rate against the sign.
    for value in values(bias) {
        assert!((value + 0.01).abs() < 1e-6, "bias {value}");
    }
    // 32 singular values of about one over 32 x 48 entries, times 0.2 sqrt(48).
    let rms = matrix.square().mean().sqrt().into_scalar::<f32>();
    let expected = 0.01 * 0.2;
    assert!((0.8..1.15).contains(&(rms / expected)), "rms {rms}");
}

#[test]
fn training_lowers_the_loss() {
    lowers_the_loss(options(40));
}

#[test]
fn training_with_muon_lowers_the_loss() {
    lowers_the_loss(muon(40));
}

fn lowers_the_loss(options: RunOptions) {
    let (device, folder) = (device(), tempfile::tempdir().expect("folder"));
    let mut run = Run::open(folder.path(), tiny_autoencoder(&device), options).expect("run");
    let mut losses = Vec::new();
    run.train(&task(&device), |_, progress| {
        losses.push(progress.loss);
        true
    })
    .expect("trains");
    let mean = |losses: &[f32]| losses.iter().sum::<f32>() / losses.len() as f32;
    let (first, last) = (mean(&losses[..8]), mean(&losses[32..]));
    assert!(last < 0.7 * first, "loss went from {first} to {last}");
}

/// With `decoder_only`, latents stay what they are while pictures get better.
#[test]
fn the_encoder_can_stay_as_it_is() {
    let (device, folder) = (device(), tempfile::tempdir().expect("folder"));
    let start = tiny_autoencoder(&device);
    let start = Parameters::of(&start).write_into(start, false);
    let mut task = task(&device);
    task.options.decoder_only = true;
    let mut run = Run::open(folder.path(), start.clone(), options(3)).expect("run");
    run.train(&task, |_, _| true).expect("trains");
    let (before, after) = (
        Parameters::of(&start),
        Parameters::of(&run.averaged_model()),
    );
    let pairs = before.values.into_iter().zip(after.values);
    for (name, (before, after)) in before.names.iter().zip(pairs) {
        let same = values(before) == values(after);
        assert_eq!(same, name.starts_with("encoder."), "{name}");
    }
}

#[test]
fn replicas_share_the_batch() {
    let device = device();
    let start = tiny_autoencoder(&device);
    let start = Parameters::of(&start).write_into(start, true);
    let task = task(&device);
    let loss = |parts: usize| -> f32 {
        let part = |part| {
            task.loss(&start, 0, part, parts)
                .expect("loss")
                .into_scalar::<f32>()
        };
        (0..parts).map(part).sum::<f32>() / parts as f32
    };
    let (one, four) = (loss(1), loss(4));
    assert!(
        (one - four).abs() < 1e-4 * one,
        "one part {one}, four parts {four}"
    );
}

/// Shares of unequal size count by their size, and more replicas than samples do no harm.
#[test]
fn uneven_shares_count_by_their_size() {
    let device = device();
    let start = tiny_autoencoder(&device);
    let start = Parameters::of(&start).write_into(start, false);
    let mut task = task(&device);
    task.options.batch = 3;
    let trained = |replicas: usize| {
        let folder = tempfile::tempdir().expect("folder");
        let options = RunOptions {
            replicas,
            ..options(2)
        };
        let mut run = Run::open(folder.path(), start.clone(), options).expect("run");
        let mut last = 0.0;
        run.train(&task, |_, progress| {
            last = progress.loss;
            true
        })
        .expect("trains");
        last
    };
    let one = trained(1);
    for replicas in [2, 8] {
        let loss = trained(replicas);
        assert!(
            (loss - one).abs() < 1e-4 * one,
            "one replica {one}, {replicas} replicas {loss}"
        );
    }
}

/// Several threads share a device's tensors on the CPU alone.
#[test]
fn replicas_are_for_the_cpu() {
    let (device, folder) = (device(), tempfile::tempdir().expect("folder"));
    let opened = Run::open(folder.path(), tiny_autoencoder(&device), options(1));
    if device == Device::flex() {
        opened.expect("two replicas on the CPU");
    } else {
        let message = opened.expect_err("refused").to_string();
        assert_eq!(message, "replicas must be 1 on a GPU, got 2");
    }
}

/// A text encoder and a transformer small enough to train in a test, and a pool of made-up latents.
fn tiny_denoiser(device: &Device, instruction: Option<&str>) -> (Denoiser, TransformerTask) {
    let captions = ["a red circle", "two blue squares", "a green triangle"];
    let json = train_gemma_style(captions, 280).expect("tokenizer");
    let tokenizer = GemmaTokenizer::from_bytes("test", json.as_bytes()).expect("tokenizer");
    let text = Gemma2Config {
        hidden_size: 16,
        intermediate_size: 24,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        head_dim: 8,
        query_pre_attn_scalar: 8,
        vocab_size: tokenizer.vocab_size(),
        ..Gemma2Config::gemma_2_2b()
    };
    let transformer = SanaTransformerConfig {
        in_channels: 4,
        out_channels: Some(4),
        num_layers: 2,
        num_attention_heads: 2,
        attention_head_dim: 8,
        num_cross_attention_heads: 2,
        cross_attention_head_dim: 8,
        cross_attention_dim: 16,
        caption_channels: 16,
        sample_size: 2,
        ..SanaTransformerConfig::default()
    };
    let options = PromptOptions {
        instruction: instruction.map(|line| Instruction::custom([line])),
        max_tokens: 12,
    };
    device.seed(11);
    let latents = (0..3 * 4 * 2 * 3).map(|i| (i as f32 * 0.7).sin()).collect();
    let model = Denoiser {
        text_encoder: text.init_seeded(3, device).expect("text encoder"),
        transformer: transformer.init(device),
    };
    let task = TransformerTask {
        pool: LatentPool::new([4, 2, 3], latents, captions.map(str::to_owned).to_vec()),
        tokenizer: PromptTokenizer::new(tokenizer, options).expect("tokenizer"),
        options: TransformerOptions {
            batch: 5,
            caption_dropout: 0.5,
            ..TransformerOptions::default()
        },
        device: device.clone(),
    };
    // Fixed values: lazy ones would be drawn at every clone.
    (Parameters::of(&model).write_into(model, false), task)
}

/// With and without an instruction, some captions dropped: the loss is the same however the batch
/// is cut, so every picture keeps its own caption, time and noise.
#[test]
fn pictures_keep_their_captions() {
    let device = device();
    for instruction in [None, Some("two red ")] {
        let (model, task) = tiny_denoiser(&device, instruction);
        let model = Parameters::of(&model).write_into(model, true);
        let loss = |parts: usize| -> f32 {
            let part = |part| {
                let weight = share(task.batch(), part, parts).len() as f32 / task.batch() as f32;
                let loss = task.loss(&model, 0, part, parts).expect("loss");
                loss.into_scalar::<f32>() * weight
            };
            (0..parts).map(part).sum()
        };
        let (one, five) = (loss(1), loss(5));
        assert!(
            (one - five).abs() < 1e-4 * one,
            "{instruction:?}: one part {one}, five parts {five}"
        );
        let mut all_dropped = task;
        all_dropped.options.caption_dropout = 1.0;
        let dropped = all_dropped.loss(&model, 0, 0, 1).expect("loss");
        let dropped = dropped.into_scalar::<f32>();
        assert!((dropped - one).abs() > 1e-6, "captions make no difference");
    }
}

#[test]
fn a_transformer_run_resumes_too() {
    let device = device();
    let (start, task) = tiny_denoiser(&device, None);
    let (whole, stopped) = (
        tempfile::tempdir().expect("folder"),
        tempfile::tempdir().expect("folder"),
    );
    let mut run = Run::open(whole.path(), start.clone(), muon(6)).expect("run");
    run.train(&task, |_, _| true).expect("trains");
    let expected = Parameters::of(&run.averaged_model());
    let mut run = Run::open(stopped.path(), start.clone(), muon(6)).expect("run");
    run.train(&task, |_, progress| progress.step < 3)
        .expect("trains");
    let mut run = Run::open(stopped.path(), start, muon(6)).expect("resumes");
    run.train(&task, |_, _| true).expect("trains");
    let found = Parameters::of(&run.averaged_model());
    for ((name, found), expected) in found.names.iter().zip(found.values).zip(expected.values) {
        assert_eq!(values(found), values(expected), "{name}");
    }
}

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

#[test]
fn a_loss_that_is_not_finite_stops_the_run() {
    let (device, folder) = (device(), tempfile::tempdir().expect("folder"));
    let mut task = task(&device);
    task.options.latent_decay = 1e300; // infinite in f32
    let mut run = Run::open(folder.path(), tiny_autoencoder(&device), options(3)).expect("run");
    let error = run.train(&task, |_, _| true).expect_err("diverges");
    assert!(
        matches!(error, TrainError::Diverged { step: 0, .. }),
        "{error}"
    );
    assert!(
        error.to_string().contains("lower the learning rate"),
        "{error}"
    );
    assert!(!folder.path().join("state.safetensors").exists());
}

#[test]
fn bad_options_are_refused() {
    let (device, folder) = (device(), tempfile::tempdir().expect("folder"));
    let open = |options| Run::open(folder.path(), tiny_autoencoder(&device), options);
    let cases = [
        (
            RunOptions {
                steps: 0,
                ..options(1)
            },
            "steps must be at least 1, got 0",
        ),
        (
            RunOptions {
                replicas: 0,
                ..options(1)
            },
            "replicas must be at least 1, got 0",
        ),
        (
            RunOptions {
                save_every: 0,
                ..options(1)
            },
            "save_every must be at least 1, got 0",
        ),
        (
            RunOptions {
                schedule: Schedule {
                    learning_rate: f64::NAN,
                    warmup: 0,
                    last: 1.0,
                },
                ..options(1)
            },
            "learning_rate must be positive, got NaN",
        ),
        (
            RunOptions {
                optimizer: OptimizerOptions {
                    ema_decay: 1.0,
                    ..OptimizerOptions::default()
                },
                ..options(1)
            },
            "ema_decay must be in [0, 1), got 1",
        ),
        (
            RunOptions {
                optimizer: OptimizerOptions {
                    clip_norm: 0.0,
                    ..OptimizerOptions::default()
                },
                ..options(1)
            },
            "clip_norm must be positive, got 0",
        ),
    ];
    for (options, message) in cases {
        let error = open(options).expect_err("refused");
        assert_eq!(error.to_string(), message);
    }
}

/// A task is asked before its first step.
#[test]
fn bad_task_options_are_refused() {
    let (device, folder) = (device(), tempfile::tempdir().expect("folder"));
    let mut run = Run::open(folder.path(), tiny_autoencoder(&device), options(1)).expect("run");
    let mut refused = |change: fn(&mut AutoencoderOptions)| {
        let mut task = task(&device);
        change(&mut task.options);
        let error = run.train(&task, |_, _| true).expect_err("refused");
        error.to_string()
    };
    assert_eq!(refused(|o| o.batch = 0), "batch must be at least 1, got 0");
    assert_eq!(
        refused(|o| o.absolute = -1.0),
        "absolute must be 0 or more, got -1"
    );
    assert_eq!(
        refused(|o| o.latent_decay = f64::INFINITY),
        "latent_decay must be 0 or more, got inf"
    );

    let (start, task) = tiny_denoiser(&device, None);
    let folder = tempfile::tempdir().expect("folder");
    let mut run = Run::open(folder.path(), start, options(1)).expect("run");
    let mut task = task;
    let mut refused = |change: fn(&mut TransformerOptions)| {
        task.options = TransformerOptions::default();
        change(&mut task.options);
        let error = run.train(&task, |_, _| true).expect_err("refused");
        error.to_string()
    };
    assert_eq!(refused(|o| o.batch = 0), "batch must be at least 1, got 0");
    assert_eq!(
        refused(|o| o.caption_dropout = f64::NAN),
        "caption_dropout must be in [0, 1], got NaN"
    );
    assert!(refused(|o| o.flow_shift = 0.0).contains("shift"));
}

#[test]
fn a_state_of_another_model_is_refused() {
    let (device, folder) = (device(), tempfile::tempdir().expect("folder"));
    let mut run = Run::open(folder.path(), tiny_autoencoder(&device), options(1)).expect("run");
    run.train(&task(&device), |_, _| true).expect("trains");
    let mut other = tiny_autoencoder(&device).config().clone();
    other.latent_channels = 8;
    let error = Run::open(folder.path(), other.init(&device), options(1)).expect_err("refused");
    assert!(matches!(error, TrainError::State { .. }), "{error}");
    assert!(
        error.to_string().contains("values, the model has"),
        "{error}"
    );
}

#[test]
fn a_folder_of_pictures_is_read() {
    let folder = tempfile::tempdir().expect("folder");
    let picture = image::RgbImage::from_pixel(40, 20, image::Rgb([255, 0, 0]));
    picture.save(folder.path().join("a.png")).expect("picture");
    std::fs::write(folder.path().join("a.txt"), " a red field \n").expect("caption");
    let check = || {
        let data = Data::open_folder(folder.path(), 8).expect("data");
        let sample = data.sample(&mut rand::rng()).expect("sample");
        assert_eq!(sample.caption, "a red field");
        assert_eq!(sample.pixels.len(), 3 * 8 * 8);
        assert!(sample.pixels[..64].iter().all(|&red| red == 1.0));
        assert!(sample.pixels[64..].iter().all(|&other| other == -1.0));
    };
    check();
    let line = r#"{"file_name": "a.png", "text": "a red field"}"#;
    std::fs::write(folder.path().join("metadata.jsonl"), line).expect("metadata");
    std::fs::remove_file(folder.path().join("a.txt")).expect("removed");
    check();
}

#[test]
fn a_folder_that_holds_no_data_is_refused() {
    let folder = tempfile::tempdir().expect("folder");
    let refused = || {
        Data::open_folder(folder.path(), 8)
            .expect_err("refused")
            .to_string()
    };
    assert!(
        refused().contains("expected NAME.png with NAME.txt"),
        "{}",
        refused()
    );
    let metadata = folder.path().join("metadata.jsonl");
    std::fs::write(&metadata, "{\"file_name\": \"../a.png\", \"text\": \"\"}").expect("metadata");
    assert!(
        refused().contains("line 1: \"../a.png\" leaves the folder"),
        "{}",
        refused()
    );
    std::fs::write(&metadata, "\n{\"file_name\": 3}").expect("metadata");
    assert!(refused().contains("line 2"), "{}", refused());
    // Every picture is looked at before the training starts.
    let line = r#"{"file_name": "gone.png", "text": "a red field"}"#;
    std::fs::write(&metadata, line).expect("metadata");
    assert!(refused().contains("gone.png"), "{}", refused());
    std::fs::write(folder.path().join("gone.png"), "no picture").expect("file");
    let error = Data::open_folder(folder.path(), 8).expect_err("refused");
    assert!(matches!(error, TrainError::Picture { .. }), "{error}");
    let missing = Data::open_folder(&folder.path().join("nowhere"), 8).expect_err("refused");
    assert!(matches!(missing, TrainError::Io { .. }), "{missing}");
}
