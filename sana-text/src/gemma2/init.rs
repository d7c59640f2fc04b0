//! Random weights of a new stack.

use burn::module::{Initializer, Param};
use burn::tensor::{DType, Device, Tensor, TensorData};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};
use sana_linear_attn::TorchLinear;
use sana_linear_attn::precision::Bf16Gemm;

/// Source of a new stack's weight matrices: normal with the config's standard deviation.
pub(super) struct MatrixInit<'a> {
    device: &'a Device,
    std: f64,
    /// Draws on the host, the same on every backend. Without it, the matrices are lazy and drawn
    /// by the backend when first read.
    rng: Option<ChaCha8Rng>,
}

impl<'a> MatrixInit<'a> {
    pub(super) fn device(&self) -> &'a Device {
        self.device
    }

    pub(super) fn lazy(std: f64, device: &'a Device) -> Self {
        Self {
            device,
            std,
            rng: None,
        }
    }

    pub(super) fn seeded(seed: u64, std: f64, device: &'a Device) -> Self {
        Self {
            device,
            std,
            rng: Some(ChaCha8Rng::seed_from_u64(seed)),
        }
    }

    pub(super) fn matrix(&mut self, rows: usize, columns: usize) -> Param<Tensor<2>> {
        let Some(rng) = &mut self.rng else {
            return Initializer::Normal {
                mean: 0.0,
                std: self.std,
            }
            .init([rows, columns], self.device);
        };
        let normal = Normal::new(0.0, self.std as f32).expect("validated standard deviation");
        let values: Vec<f32> = normal.sample_iter(rng).take(rows * columns).collect();
        let data = TensorData::new(values, [rows, columns]);
        Param::from_tensor(Tensor::from_data(data, (self.device, DType::F32)))
    }

    pub(super) fn linear(&mut self, d_input: usize, d_output: usize) -> TorchLinear {
        TorchLinear {
            weight: self.matrix(d_output, d_input),
            bias: None,
            low_rank: Vec::new(),
            quantized: None,
            bf16_gemm: Bf16Gemm::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sana_linear_attn::parity::device;

    #[test]
    fn seeded_weights_have_the_asked_deviation() {
        let device = device();
        let mut init = MatrixInit::seeded(5, 0.1, &device);
        let first = init
            .matrix(60, 50)
            .val()
            .into_data()
            .try_into_vec::<f32>()
            .unwrap();
        let again = MatrixInit::seeded(5, 0.1, &device).matrix(60, 50);
        assert_eq!(
            first,
            again.val().into_data().try_into_vec::<f32>().unwrap()
        );
        let second = init
            .matrix(60, 50)
            .val()
            .into_data()
            .try_into_vec::<f32>()
            .unwrap();
        assert_ne!(first, second);
        let variance = first.iter().map(|v| v * v).sum::<f32>() / first.len() as f32;
        assert!((variance.sqrt() - 0.1).abs() < 0.005, "{variance}");
    }
}
