//! What the benchmarks share: the device they run on, criterion's settings, names and timing.
//!
//! A benchmark file is a plain `main` that hands its cases to [`run`]. A case is prepared when it
//! is first measured (a filtered one never is), runs once for a look at its answer, and is then
//! timed between two waits for the device. Its name is `backend/area/op/shape`.
//!
//! Environment: `SANA_BENCH_DEVICE` (`flex`, `cuda`, `cuda:1`, `vulkan`, `wgpu`, `wgpu:cpu`; the
//! first of cuda, vulkan, wgpu, flex whose feature is on by default), `SANA_BENCH_DTYPE` (`f32` by
//! default, `bf16`, `f16`), `SANA_BENCH_BATCH` (1 by default), `SANA_BENCH_SMOKE` (any value: tiny
//! shapes only, as under `cargo bench -- --test`).

use std::env;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, Tensor};
use criterion::{BenchmarkId, Criterion, Throughput};

/// The examples of the workspace's README, compiled as doctests.
#[cfg(all(doctest, feature = "scenes-model"))]
#[doc = include_str!("../../README.md")]
struct Readme;

/// The allocator of the `sana` command.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs the cases that `define` adds, on the device that the environment names, and on a thread of
/// rayon's pool, as the `sana` command does.
pub fn run(define: impl FnOnce(&mut Suite) + Send) -> ExitCode {
    rayon::scope(|_| match Suite::from_env() {
        Ok(mut suite) => {
            define(&mut suite);
            suite.criterion.final_summary();
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    })
}

/// The cases of one benchmark file.
pub struct Suite {
    criterion: Criterion,
    device: Device,
    backend: String,
    dtype: DType,
    batch: usize,
    smoke: bool,
}

/// What is measured: `area/op/shape`, and how much of it one run does.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// The component, such as `attention`.
    pub area: &'a str,
    /// The operation, and which form of it.
    pub op: &'a str,
    /// Shape of the input, as [`shape`] writes it.
    pub shape: &'a str,
    /// Tokens, pixels, steps or images that one run handles; the rate is given in these.
    pub elements: usize,
}

impl Suite {
    fn from_env() -> Result<Self, String> {
        let variable = |name: &str| env::var(name).ok();
        let name = variable("SANA_BENCH_DEVICE").unwrap_or_else(|| default_device().to_owned());
        let device = device(&name)?;
        let dtype = match variable("SANA_BENCH_DTYPE").as_deref() {
            None | Some("f32") => DType::F32,
            Some("bf16") => DType::BF16,
            Some("f16") => DType::F16,
            Some(other) => {
                return Err(format!(
                    "SANA_BENCH_DTYPE={other}: expected f32, bf16 or f16"
                ));
            }
        };
        if !device.supports_dtype(dtype) {
            return Err(format!("{name} does not compute in {dtype:?}"));
        }
        let batch = match variable("SANA_BENCH_BATCH") {
            None => 1,
            Some(text) => match text.parse() {
                Ok(batch) if batch > 0 => batch,
                _ => {
                    return Err(format!(
                        "SANA_BENCH_BATCH={text}: expected a number from 1 on"
                    ));
                }
            },
        };
        let flag = |flag: &str| env::args().any(|argument| argument == flag);
        // Cargo passes --bench to measure; without it criterion runs every case once.
        let smoke = flag("--test") || !flag("--bench") || variable("SANA_BENCH_SMOKE").is_some();
        let backend = match dtype {
            DType::F32 => name,
            dtype => format!("{name}-{}", format!("{dtype:?}").to_lowercase()),
        };
        Ok(Self {
            criterion: Criterion::default()
                .without_plots()
                .sample_size(10)
                .warm_up_time(Duration::from_millis(500))
                .measurement_time(Duration::from_secs(3))
                .configure_from_args(),
            device,
            backend,
            dtype,
            batch,
            smoke,
        })
    }

    /// Where the cases run.
    pub fn device(&self) -> Device {
        self.device.clone()
    }

    /// Whether that is burn's CPU backend.
    pub fn is_cpu(&self) -> bool {
        self.backend.starts_with("flex")
    }

    /// Whether it is CUDA.
    pub fn is_cuda(&self) -> bool {
        self.backend.starts_with("cuda")
    }

    /// Images or prompts at a time.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// The tiny shape and the real ones, or in a smoke run the tiny one alone.
    pub fn shapes<S: Clone>(&self, tiny: S, real: &[S]) -> Vec<S> {
        let real = if self.smoke { &[] } else { real };
        std::iter::once(tiny).chain(real.iter().cloned()).collect()
    }

    /// A module with its parameters in the dtype that is measured.
    pub fn module<M: Module>(&self, module: M) -> M {
        match self.dtype {
            // Parameters that no case reads stay lazy.
            DType::F32 => module,
            dtype => module.map(&mut CastTo(dtype)),
        }
    }

    /// Unit normal numbers, the same in every run.
    pub fn random<const D: usize>(&self, seed: u64, shape: [usize; D]) -> Tensor<D> {
        sana_sampler::noise::latents(seed, 0, shape, &self.device).cast(self.dtype)
    }

    /// Measures one case: `prepare` makes its state, `operation` is timed, `check` sees the first
    /// answer and panics if it is wrong.
    pub fn measure<S, T>(
        &mut self,
        case: Case<'_>,
        prepare: impl FnOnce(&Self) -> S,
        mut operation: impl FnMut(&mut S) -> T,
        check: impl FnOnce(&mut S, T),
    ) {
        let mut criterion = std::mem::take(&mut self.criterion);
        let mut group = criterion.benchmark_group(format!("{}/{}", self.backend, case.area));
        group.throughput(Throughput::Elements(case.elements as u64));
        let mut start = Some((prepare, check));
        let mut state = None;
        group.bench_function(BenchmarkId::new(case.op, case.shape), |bencher| {
            if let Some((prepare, check)) = start.take() {
                let state = state.insert(prepare(self));
                let answer = operation(state);
                check(state, answer);
            }
            let Some(state) = &mut state else { return };
            bencher.iter_custom(|iterations| {
                wait_for(&self.device);
                let begun = Instant::now();
                for _ in 0..iterations {
                    black_box(operation(state));
                }
                wait_for(&self.device);
                begun.elapsed()
            });
        });
        group.finish();
        self.criterion = criterion;
        drop(state);
        self.device.memory_cleanup();
    }
}

struct CastTo(DType);

impl ModuleMapper for CastTo {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let dtype = self.0;
        param.map(|tensor| tensor.cast(dtype))
    }
}

fn wait_for(device: &Device) {
    device
        .sync()
        .unwrap_or_else(|error| panic!("waiting for the device: {error:?}"));
}

/// A shape as names have it: `1x1024x2240`.
pub fn shape<const D: usize>(dims: [usize; D]) -> String {
    dims.map(|dim| dim.to_string()).join("x")
}

/// Panics unless every value is finite and the shape is the expected one.
///
/// # Panics
/// If they are not.
pub fn assert_finite<const D: usize>(answer: Tensor<D>, expected: [usize; D]) {
    assert_eq!(answer.dims(), expected, "shape of the answer");
    let values = values(answer);
    assert!(
        values.iter().all(|value| value.is_finite()),
        "an answer that is not finite"
    );
}

/// Panics unless `max |answer - expected| <= bound * max |expected|`.
///
/// # Panics
/// If the two differ by more, or in shape.
pub fn assert_close<const D: usize>(answer: Tensor<D>, expected: Tensor<D>, bound: f32) {
    assert_eq!(answer.dims(), expected.dims(), "shape of the answer");
    let (answer, expected) = (values(answer), values(expected));
    let largest = expected
        .iter()
        .fold(0f32, |largest, value| largest.max(value.abs()));
    let difference = answer
        .iter()
        .zip(&expected)
        .fold(0f32, |worst, (a, b)| worst.max((a - b).abs()));
    assert!(
        difference <= bound * largest,
        "the answer is wrong by {difference:e}, its largest magnitude is {largest:e}"
    );
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let data = tensor.into_data().convert::<f32>();
    data.try_into_vec()
        .unwrap_or_else(|error| panic!("reading an answer: {error:?}"))
}

impl Suite {
    /// Bound for [`assert_close`] between two forms of one operation: only the order of sums
    /// differs in f32, while 16-bit floats round every intermediate (bf16 has 8 bits of mantissa)
    /// and CUDA multiplies f32 in TF32.
    pub fn bound(&self) -> f32 {
        match self.dtype {
            DType::F32 if self.is_cpu() => 1e-4,
            DType::F32 => 5e-3,
            _ => 5e-2,
        }
    }
}

fn default_device() -> &'static str {
    if cfg!(feature = "cuda") {
        "cuda"
    } else if cfg!(feature = "vulkan") {
        "vulkan"
    } else if cfg!(feature = "wgpu") {
        "wgpu"
    } else {
        "flex"
    }
}

/// The device of a name, see the crate's documentation.
fn device(name: &str) -> Result<Device, String> {
    let (backend, index) = name.split_once(':').unwrap_or((name, ""));
    match (backend, index) {
        #[cfg(feature = "flex")]
        ("flex", "") => Ok(Device::flex()),
        #[cfg(feature = "cuda")]
        ("cuda", index) => match index {
            "" => Ok(Device::cuda(0)),
            index => index
                .parse::<usize>()
                .map(Device::cuda)
                .map_err(|_| format!("SANA_BENCH_DEVICE={name}: expected cuda or cuda:N")),
        },
        #[cfg(feature = "vulkan")]
        ("vulkan", "") => Ok(Device::vulkan(burn::tensor::DeviceKind::DefaultDevice)),
        #[cfg(feature = "wgpu")]
        ("wgpu", "") => Ok(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
        #[cfg(feature = "wgpu")]
        ("wgpu", "cpu") => Ok(Device::wgpu(burn::tensor::DeviceKind::Cpu)),
        _ => Err(format!(
            "SANA_BENCH_DEVICE={name}: expected flex, cuda, cuda:N, vulkan, wgpu or wgpu:cpu, with \
             the cargo feature of that name on"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_joined() {
        assert_eq!(shape([1, 1024, 2240]), "1x1024x2240");
        assert_eq!(shape([7]), "7");
    }

    #[cfg(feature = "flex")]
    #[test]
    fn devices_by_name() {
        assert_eq!(device("flex").expect("the feature is on"), Device::flex());
        for wrong in ["", "flex:0", "tpu", "wgpu:gpu", "cuda:x"] {
            let error = device(wrong).expect_err(wrong);
            assert!(error.contains(wrong), "{error}");
        }
    }

    #[cfg(feature = "flex")]
    #[test]
    #[should_panic(expected = "wrong by")]
    fn a_wrong_answer_is_noticed() {
        let ones = Tensor::<1>::ones([4], &Device::flex());
        assert_close(ones.clone() * 1.01, ones, 1e-3);
    }
}
