//! CAME against its package (`training/came.safetensors`: came-pytorch 0.1.3), its 8-bit form against
//! a plain computation, and what both keep.

use std::ops::Range;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use sana_linear_attn::parity::{Fixture, assert_close, device, tolerance, values};
use sana_linear_attn::{TorchLinear, Weights};

use super::models::came8bit;
use super::workers;
use crate::train::optimizer::{Optimizer, Parameters};
use crate::train::{OptimizerKind, OptimizerOptions, Run, RunOptions, Task, TrainError};

const CRATE: &str = env!("CARGO_MANIFEST_DIR");

fn options(kind: OptimizerKind, weight_decay: f64) -> OptimizerOptions {
    OptimizerOptions {
        kind,
        weight_decay,
        clip_norm: f64::INFINITY,
        ..OptimizerOptions::default()
    }
}

fn flat(tensor: Vec<f64>) -> Vec<f32> {
    tensor.into_iter().map(|value| value as f32).collect()
}

fn tensor(values: &[f32], device: &Device) -> Tensor<1> {
    Tensor::from_floats(values, device)
}

/// Six steps on a matrix, a table of modulation and a bias vector: gradients of very different
/// sizes, with rows of zeros, and weight decay.
#[test]
fn steps_equal_those_of_the_package() {
    let (f, device) = (Fixture::open(CRATE, "training/came.safetensors"), device());
    let number = |key: &str| -> f64 { f.metadata(key).parse().expect("a number") };
    let names = ["layer.weight", "scale_shift_table", "layer.bias"];
    let start = names.map(|name| tensor(&flat(f.values(&format!("start.{name}"))), &device));
    let [matrix, table, bias] = start;
    let mut parameters = Parameters::new([
        (names[0], &[24, 40], matrix),
        (names[1], &[6, 32], table),
        (names[2], &[37], bias),
    ]);
    let options = options(OptimizerKind::Came, number("weight_decay"));
    let mut optimizer = Optimizer::new(options, &parameters);
    for step in 0..number("steps") as usize {
        let gradient = |name| flat(f.values(&format!("gradient.{step}.{name}")));
        let gradients = names.map(|name| Some(tensor(&gradient(name), &device)));
        optimizer
            .step(
                &mut parameters.values,
                gradients.into(),
                number("learning_rate"),
                &workers(2),
            )
            .expect("finite gradients");
        for (name, ours) in names.into_iter().zip(&parameters.values) {
            let reference = flat(f.values(&format!("updated.{step}.{name}")));
            let what = format!("{name} after step {step}");
            assert_close(&what, &values(ours.clone()), &reference, tolerance());
        }
    }
    let kept = optimizer.states[0].moments.tensors();
    for set in ["exp_avg", "exp_avg_res_row"] {
        let (_, ours) = kept.iter().find(|(name, _)| *name == set).expect(set);
        let ours: Vec<f32> = ours.iter::<f32>().collect();
        let reference = flat(f.values(&format!("{set}.layer.weight")));
        assert_close(set, &ours, &reference, tolerance());
    }
}

fn noise(length: usize, seed: usize) -> Vec<f32> {
    let value = |i: usize| ((i * 7919 + seed * 104_729) as f32 * 0.618).sin();
    (0..length)
        .map(|i| value(i) * (1.0 + (i % 13) as f32))
        .collect()
}

/// A parameter of this shape after three steps.
fn trained(kind: OptimizerKind, shape: &[usize]) -> (Vec<f32>, Vec<&'static str>) {
    let (device, length) = (device(), shape.iter().product());
    let start = tensor(&noise(length, 1), &device);
    let mut parameters = Parameters::new([("weight", shape, start)]);
    let mut optimizer = Optimizer::new(options(kind, 0.0), &parameters);
    for step in 0..3 {
        let gradient = tensor(&noise(length, 2 + step), &device);
        let gradients = vec![Some(gradient)];
        optimizer
            .step(&mut parameters.values, gradients, 0.01, &workers(1))
            .expect("finite gradients");
    }
    let kept = optimizer.states[0].moments.tensors();
    (
        values(parameters.values.remove(0)),
        kept.into_iter().map(|(name, _)| name).collect(),
    )
}

/// A 1x1 convolution is its matrix; other kernels keep all of their second moment.
#[test]
fn what_is_factored() {
    let (matrix, kept) = trained(OptimizerKind::Came, &[24, 40]);
    assert_eq!(
        trained(OptimizerKind::Came, &[24, 40, 1, 1]),
        (matrix, kept)
    );
    for shape in [&[96, 1, 3, 3][..], &[8, 12, 3, 3], &[864]] {
        let (_, kept) = trained(OptimizerKind::Came, shape);
        assert_eq!(kept, ["exp_avg", "exp_avg_sq"], "{shape:?}");
    }
    let bits = |shape: &[usize]| trained(OptimizerKind::Came8Bit, shape).1[0] == "exp_avg_q";
    // Matrices of more than 16,384 elements alone.
    assert!(!bits(&[128, 128]) && bits(&[128, 129]) && bits(&[129, 128, 1, 1]));
    assert!(!bits(&[130, 130, 3, 3]) && !bits(&[20_000]));
}

/// Mean of squares of each row, or of each column.
fn means(squares: &[f64], columns: usize, rows: bool) -> Vec<f64> {
    let count = squares.len() / columns;
    let (sums, over) = match rows {
        true => (count, columns),
        false => (columns, count),
    };
    let mut means = vec![0.0; sums];
    for (index, square) in squares.iter().enumerate() {
        means[if rows {
            index / columns
        } else {
            index % columns
        }] += square / over as f64;
    }
    means
}

/// The plain form of the 8-bit steps, in f64 but for what is stored.
fn plain_8bit(shape: [usize; 2]) -> Vec<f64> {
    let [rows, columns] = shape;
    let length = rows * columns;
    let mut p: Vec<f64> = noise(length, 1).into_iter().map(f64::from).collect();
    let mut m = vec![0.0; length];
    let (mut r, mut c) = (vec![0.0; rows], vec![0.0; columns]);
    let (mut s, mut d) = (r.clone(), c.clone());
    let average = |old: &mut Vec<f64>, new: Vec<f64>, beta: f64| {
        for (old, new) in old.iter_mut().zip(new) {
            *old = beta * *old + (1.0 - beta) * new;
        }
    };
    let scaled = |x: &[f64], row: &[f64], column: &[f64]| -> Vec<f64> {
        let mean = row.iter().sum::<f64>() / rows as f64;
        let scale = |i: usize| (row[i / columns] / mean).sqrt() * column[i % columns].sqrt();
        x.iter().enumerate().map(|(i, x)| x / scale(i)).collect()
    };
    for step in 0..3 {
        let g: Vec<f64> = noise(length, 2 + step).into_iter().map(f64::from).collect();
        let u: Vec<f64> = g.iter().map(|g| g * g + 1e-30).collect();
        average(&mut r, means(&u, columns, true), 0.999);
        average(&mut c, means(&u, columns, false), 0.999);
        let v = scaled(&g, &r, &c);
        let rms = (v.iter().map(|v| v * v).sum::<f64>() / length as f64).sqrt();
        let v: Vec<f64> = v.iter().map(|v| v / rms.max(1.0)).collect();
        for (m, v) in m.iter_mut().zip(&v) {
            *m = 0.9 * *m + 0.1 * v;
        }
        let distance: Vec<f64> = v
            .iter()
            .zip(&m)
            .map(|(v, m)| (v - m).powi(2) + 1e-16)
            .collect();
        average(&mut s, means(&distance, columns, true), 0.9999);
        average(&mut d, means(&distance, columns, false), 0.9999);
        for (p, update) in p.iter_mut().zip(scaled(&m, &s, &d)) {
            *p -= 0.01 * update;
        }
        for block in m.chunks_mut(2048) {
            let (min, max) = block
                .iter()
                .fold((f64::MAX, f64::MIN), |(min, max), value| {
                    (min.min(*value), max.max(*value))
                });
            let scale = (max - min) / 255.0;
            for value in block {
                *value = ((*value - min) / scale).round() * scale + min;
            }
        }
    }
    p
}

#[test]
fn eight_bits_follow_the_plain_computation() {
    let shape = [130, 140];
    let (ours, _) = trained(OptimizerKind::Came8Bit, &shape);
    let plain = plain_8bit(shape);
    let (mut far, mut largest) = (0, 0f64);
    for (ours, plain) in ours.iter().zip(&plain) {
        let difference = (f64::from(*ours) - plain).abs();
        largest = largest.max(difference);
        far += usize::from(difference > 1e-4);
    }
    // Where f32 and f64 round to different levels, an update differs by less than a level.
    assert!(
        far < ours.len() / 1000 && largest < 0.05,
        "{far}, {largest}"
    );
    // Eight bits are seen: all of them in 32 give other values, though near ones.
    let (wide, _) = trained(OptimizerKind::Came, &shape);
    let differences = ours.iter().zip(&wide).map(|(a, b)| (a - b).abs());
    let most = differences.fold(0f32, f32::max);
    assert!(most > 1e-4 && most < 0.1, "{most}");
}

fn state_bytes(kind: OptimizerKind) -> usize {
    let device = device();
    let zeros = |length| Tensor::<1>::zeros([length], &device);
    // Parts of a block of 512 channels.
    let parameters = Parameters::new([
        ("to_q.weight", &[512, 512], zeros(512 * 512)),
        (
            "conv_inverted.weight",
            &[2560, 512, 1, 1],
            zeros(2560 * 512),
        ),
        ("conv_depth.weight", &[2560, 1, 3, 3], zeros(2560 * 9)),
        ("scale_shift_table", &[6, 512], zeros(6 * 512)),
        ("conv_inverted.bias", &[2560], zeros(2560)),
    ]);
    let optimizer = Optimizer::new(options(kind, 0.0), &parameters);
    optimizer
        .states
        .iter()
        .map(|state| state.moments.bytes())
        .sum()
}

#[test]
fn state_is_half_and_an_eighth_of_that_of_adamw() {
    let adamw = state_bytes(OptimizerKind::AdamW) as f64;
    let matrices = (512 * 512 + 2560 * 512) as f64;
    assert!(adamw > 8.0 * matrices);
    let came = state_bytes(OptimizerKind::Came) as f64 / adamw;
    assert!((0.5..0.53).contains(&came), "{came}");
    let bits8 = state_bytes(OptimizerKind::Came8Bit) as f64 / adamw;
    assert!((0.125..0.16).contains(&bits8), "{bits8}");
}

/// A layer that learns to be the identity on what it is shown.
struct Identity(Device);

impl Task for Identity {
    type Model = TorchLinear;

    fn batch(&self) -> usize {
        4
    }

    fn validate(&self) -> Result<(), TrainError> {
        Ok(())
    }

    fn loss(
        &self,
        model: &TorchLinear,
        step: usize,
        samples: Range<usize>,
    ) -> Result<Tensor<1>, TrainError> {
        let rows: Vec<f32> = samples
            .clone()
            .flat_map(|sample| noise(140, 9 * step + sample))
            .collect();
        let x = tensor(&rows, &self.0)
            .reshape([1, samples.len(), 140])
            .autodiff();
        let y: Tensor<3> = model.forward(x.clone());
        Ok((y - x).square().mean())
    }
}

fn layer(device: &Device) -> TorchLinear {
    let layer = TorchLinear::new(140, 140, true, device);
    let mut parameters = Parameters::of(&layer);
    for value in &mut parameters.values {
        *value = tensor(&noise(value.dims()[0], 4), device) * 0.01;
    }
    parameters.write_into(layer, false)
}

fn run(folder: &std::path::Path, options: RunOptions) -> Run<TorchLinear> {
    Run::open(folder, layer(&device()), options).expect("run")
}

fn averaged<M: Module + Sync>(run: &Run<M>) -> Vec<Vec<f32>> {
    let values_of = Parameters::of(&run.averaged_model()).values;
    values_of.into_iter().map(values).collect()
}

/// The levels are saved as they are, in 8 bits, and a stopped run continues exactly.
#[test]
fn a_run_with_8_bits_resumes_exactly() {
    let (whole, stopped) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let task = Identity(device());
    let mut expected = run(whole.path(), came8bit(8));
    let mut losses = Vec::new();
    expected
        .train(&task, |_, progress| {
            losses.push(progress.loss);
            true
        })
        .expect("trains");
    assert!(losses[7] < losses[0], "{losses:?}");
    run(stopped.path(), came8bit(8))
        .train(&task, |_, progress| progress.step < 5)
        .expect("trains");
    let mut resumed = run(stopped.path(), came8bit(8));
    assert_eq!(resumed.step(), 5);
    resumed.train(&task, |_, _| true).expect("trains");
    assert_eq!(averaged(&resumed), averaged(&expected));

    let file = stopped.path().join("state.safetensors");
    let state = Weights::open_file(&file).expect("state");
    assert_eq!(state.byte_len("exp_avg_q.weight"), Some(140 * 140));
    assert_eq!(state.shape("exp_avg_scale.weight"), Some(&[10][..]));
    assert!(!state.contains("exp_avg_sq.weight") && state.contains("exp_avg_sq_row.weight"));
    assert!(resumed.optimizer_bytes() < 140 * 140 + 8 * 10 + 4 * 4 * 140 + 8 * 140 + 1);
    drop(state);

    // Levels that are not there, and the state of another optimizer, are refused.
    let bytes = std::fs::read(&file).expect("state");
    let name = b"exp_avg_q.weight";
    let at = bytes
        .windows(name.len())
        .position(|found| found == name)
        .expect("its name");
    let mut other = bytes.clone();
    other[at] = b'x';
    std::fs::write(&file, other).expect("written");
    let error = Run::open(stopped.path(), layer(&device()), came8bit(8)).expect_err("refused");
    assert!(
        error.to_string().contains("exp_avg_q.weight has 0 bytes"),
        "{error}"
    );
    std::fs::write(&file, bytes).expect("written");
    let mut came = came8bit(8);
    came.optimizer.kind = OptimizerKind::Came;
    let error = Run::open(stopped.path(), layer(&device()), came).expect_err("refused");
    assert!(
        error.to_string().contains("is Came8Bit, not Came"),
        "{error}"
    );
}
