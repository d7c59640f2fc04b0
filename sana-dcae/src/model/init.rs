//! Random weights that are the same on every backend.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{DcAe, DcAeConfig};

impl DcAeConfig {
    /// A model as [`init`](Self::init) makes it, in f32, with weights drawn on the host from `seed`:
    /// the same on every backend, whatever is drawn first. Parameters are lazy here too.
    ///
    /// # Panics
    /// As [`init`](Self::init).
    pub fn init_seeded(&self, seed: u64, device: &Device) -> DcAe {
        self.init(device).map(&mut SeededInit {
            seed,
            parameters: 0,
            fan_in: None,
        })
    }
}

/// Replaces what the backend would draw by numbers of one ChaCha stream per parameter.
struct SeededInit {
    seed: u64,
    /// Parameters seen so far: the stream of the next one.
    parameters: u64,
    /// Inputs to one output of the layer whose weight was seen last, for the bias right after it.
    fan_in: Option<usize>,
}

impl ModuleMapper for SeededInit {
    fn enter_module(&mut self, name: &str, _: &str) {
        if name != "bias" {
            self.fan_in = None;
        }
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let stream = self.parameters;
        self.parameters += 1;
        let shape = param.lazy_shape();
        if D > 1 {
            self.fan_in = Some(shape[1..].iter().product());
        }
        // Norms start at constants.
        let Some(fan_in) = self.fan_in else {
            return param;
        };
        let seed = self.seed;
        let dims: [usize; D] = shape.dims();
        let draw = move |device: &Device, require_grad: bool| {
            let values = uniform(seed, stream, fan_in, dims.iter().product());
            let data = TensorData::new(values, dims);
            Tensor::from_data(data, (device, DType::F32)).set_require_grad(require_grad)
        };
        Param::uninitialized(param.id, draw, param.lazy_device(), true, shape)
    }
}

/// PyTorch's default initialisation: uniform in `[-1, 1) / sqrt(fan_in)`.
fn uniform(seed: u64, stream: u64, fan_in: usize, count: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    let bound = 1.0 / (fan_in.max(1) as f64).sqrt();
    std::iter::repeat_with(|| {
        let unit = f64::from(rng.next_u32()) / (1u64 << 32) as f64; // [0, 1)
        (bound * (2.0 * unit - 1.0)) as f32
    })
    .take(count)
    .collect()
}
