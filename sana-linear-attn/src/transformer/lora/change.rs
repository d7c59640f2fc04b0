//! What a LoRA adds to the weight of a layer.

use burn::tensor::{DType, Device, Tensor};

use crate::layers::LowRank;
use crate::weights::{WeightError, Weights};

use super::check::MagnitudeAxis;
use super::error::LoraError;
use super::file::Lora;
use super::kind::{LOHA, LOKR, LoraKind, Tensors, kind_of};
use super::names::Role;

/// The change of a layer, before the user's scale and alpha are applied.
#[expect(
    clippy::large_enum_variant,
    reason = "a tensor is a handle; one change exists at a time"
)]
enum Factors {
    LowRank { down: Tensor<2>, up: Tensor<2> },
    Dense(Tensor<2>),
}

impl Lora {
    fn matrix(&self, name: &str, device: &Device) -> Result<Tensor<2>, WeightError> {
        match self.weights.shape(name) {
            Some(&[rows, columns, _, _]) => {
                let tensor = self.weights.tensor::<4>(name, DType::F32, device)?;
                Ok(tensor.reshape([rows, columns]))
            }
            _ => self.weights.tensor::<2>(name, DType::F32, device),
        }
    }

    fn tensors(&self, layer: &str) -> Option<&Tensors> {
        let underscored = || self.targets.get(&layer.replace('.', "_"));
        self.targets.get(layer).or_else(underscored)
    }

    /// The kind of its change of a layer, if that is not low rank.
    pub(super) fn dense_kind_of(&self, layer: &str) -> Option<LoraKind> {
        let kind = kind_of(self.tensors(layer)?);
        (kind != LoraKind::Lora).then_some(kind)
    }

    /// The factors of a layer, with what they are multiplied with in addition to the user's scale.
    fn factors(
        &self,
        layer: &str,
        tensors: &Tensors,
        device: &Device,
    ) -> Result<(Factors, f64), LoraError> {
        let matrix = |role: Role| self.matrix(&tensors[&role], device);
        let mut rank = None;
        let factors = match kind_of(tensors) {
            LoraKind::Lora | LoraKind::Dora => {
                let (down, up) = (matrix(Role::Down)?, matrix(Role::Up)?);
                rank = Some(down.dims()[0]);
                Factors::LowRank { down, up }
            }
            LoraKind::LoHa => {
                let [[a1, b1], [a2, b2]] = LOHA;
                let (first, second) = (matrix(b1)?, matrix(b2)?);
                rank = Some(first.dims()[0]);
                let (first, second) = (matrix(a1)?.matmul(first), matrix(a2)?.matmul(second));
                Factors::Dense(first * second)
            }
            LoraKind::LoKr => {
                let mut factor = |[whole, a, b]: [Role; 3]| -> Result<Tensor<2>, LoraError> {
                    if tensors.contains_key(&whole) {
                        return Ok(matrix(whole)?);
                    }
                    let b = matrix(b)?;
                    rank = Some(b.dims()[0]);
                    Ok(matrix(a)?.matmul(b))
                };
                let [first, second] = LOKR;
                let (first, second) = (factor(first)?, factor(second)?);
                let ([r1, c1], [r2, c2]) = (first.dims(), second.dims());
                let kronecker = first.reshape([r1, 1, c1, 1]) * second.reshape([1, r2, 1, c2]);
                Factors::Dense(kronecker.reshape([r1 * r2, c1 * c2]))
            }
        };
        let alpha = tensors.get(&Role::Alpha);
        let alpha = alpha.and_then(|name| scalar(&self.weights, name));
        Ok((factors, self.settings.factor(alpha, layer, rank)))
    }

    /// What it adds to a layer, in f32, all factors multiplied into `up`; `None` when it leaves the
    /// layer as it is or its change is not low rank.
    pub(super) fn term(
        &self,
        layer: &str,
        scale: f64,
        device: &Device,
    ) -> Result<Option<LowRank>, LoraError> {
        let Some(tensors) = self.tensors(layer) else {
            return Ok(None);
        };
        match self.factors(layer, tensors, device)? {
            (Factors::LowRank { down, up }, factor) => Ok(Some(LowRank {
                down,
                up: up * (scale * factor),
            })),
            (Factors::Dense(_), _) => Ok(None),
        }
    }

    /// The change of a layer's weight `[out, in]`, in f32; `None` when it leaves the layer as it is.
    pub(super) fn delta(
        &self,
        layer: &str,
        scale: f64,
        weight: impl FnOnce() -> Tensor<2>,
        device: &Device,
    ) -> Result<Option<Tensor<2>>, LoraError> {
        let Some(tensors) = self.tensors(layer) else {
            return Ok(None);
        };
        let delta = match self.factors(layer, tensors, device)? {
            (Factors::LowRank { down, up }, factor) => (up * (scale * factor)).matmul(down),
            (Factors::Dense(delta), factor) => delta * (scale * factor),
        };
        let Some(name) = tensors.get(&Role::Magnitude) else {
            return Ok(Some(delta));
        };
        let size = delta.dims();
        let Some(axis) = self.magnitude_axis(name, size) else {
            return Ok(Some(delta));
        };
        let magnitude = self.vector(name, device)?;
        let count = magnitude.dims()[0];
        let weight = weight();
        let changed = weight.clone() + delta;
        let squares = changed.clone() * changed.clone();
        let (norm, magnitude) = match axis {
            MagnitudeAxis::Output => (squares.sum_dim(1), magnitude.reshape([count, 1])),
            MagnitudeAxis::Input => (squares.sum_dim(0), magnitude.reshape([1, count])),
        };
        // A row of zeros has no direction and stays as it is.
        let norm = norm.sqrt().clamp_min(f32::MIN_POSITIVE);
        Ok(Some(changed * (magnitude / norm) - weight))
    }

    /// All elements of a tensor in one axis.
    fn vector(&self, name: &str, device: &Device) -> Result<Tensor<1>, WeightError> {
        let flat = [self
            .weights
            .shape(name)
            .unwrap_or_default()
            .iter()
            .product::<usize>()];
        match self.weights.shape(name).map(<[usize]>::len) {
            Some(4) => {
                let tensor = self.weights.tensor::<4>(name, DType::F32, device)?;
                Ok(tensor.reshape(flat))
            }
            Some(2) => {
                let tensor = self.weights.tensor::<2>(name, DType::F32, device)?;
                Ok(tensor.reshape(flat))
            }
            _ => self.weights.tensor::<1>(name, DType::F32, device),
        }
    }
}

/// The value of a float tensor of one element.
fn scalar(weights: &Weights, name: &str) -> Option<f64> {
    match (weights.dtype(name)?, weights.bytes(name)?) {
        (DType::F32, &[a, b, c, d]) => Some(f64::from(f32::from_le_bytes([a, b, c, d]))),
        (DType::F16, &[a, b]) => Some(half::f16::from_le_bytes([a, b]).to_f64()),
        (DType::BF16, &[a, b]) => Some(half::bf16::from_le_bytes([a, b]).to_f64()),
        _ => None,
    }
}
