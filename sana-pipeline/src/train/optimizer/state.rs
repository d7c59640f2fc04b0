use burn::tensor::{Tensor, TensorData};

use super::came::{CameState, EXP_AVG, EXP_AVG_SQ};
use super::kind::OptimizerKind;
use super::muon::hidden_matrix;
use super::parameters::Parameters;
use super::quantized::Quantized;

/// What the optimizer keeps of a parameter.
#[derive(Debug, Clone)]
pub(in crate::train) struct ParameterState {
    /// What the update is made of.
    pub moments: Moments,
    /// Moving average of the parameter.
    pub average: Tensor<1>,
}

/// Moments of the gradients of a parameter.
#[derive(Debug, Clone)]
pub(in crate::train) enum Moments {
    AdamW {
        exp_avg: Tensor<1>,
        exp_avg_sq: Tensor<1>,
    },
    Muon {
        /// The momentum.
        exp_avg: Tensor<1>,
        /// The matrix that the parameter is taken for.
        matrix: [usize; 2],
    },
    Came(CameState),
}

impl ParameterState {
    /// Of a parameter that has no history.
    pub fn new(kind: OptimizerKind, parameters: &Parameters, index: usize) -> Self {
        let (value, shape) = (&parameters.values[index], &parameters.shapes[index]);
        let adamw = || Moments::AdamW {
            exp_avg: value.zeros_like(),
            exp_avg_sq: value.zeros_like(),
        };
        let moments = match kind {
            OptimizerKind::AdamW => adamw(),
            OptimizerKind::Muon => match hidden_matrix(&parameters.names[index], shape) {
                None => adamw(),
                Some(matrix) => Moments::Muon {
                    exp_avg: value.zeros_like(),
                    matrix,
                },
            },
            OptimizerKind::Came => Moments::Came(CameState::new(value, shape, false)),
            OptimizerKind::Came8Bit => Moments::Came(CameState::new(value, shape, true)),
        };
        Self {
            moments,
            average: value.clone(),
        }
    }
}

impl Moments {
    /// All that is kept, by name, as it is saved.
    pub fn tensors(&self) -> Vec<(&'static str, TensorData)> {
        let floats = self.floats().into_iter();
        let floats = floats.map(|(name, tensor)| (name, tensor.clone().into_data()));
        let quantized = self.quantized().map(Quantized::tensors);
        quantized.into_iter().flatten().chain(floats).collect()
    }

    /// The float tensors, by name.
    fn floats(&self) -> Vec<(&'static str, &Tensor<1>)> {
        match self {
            Self::AdamW {
                exp_avg,
                exp_avg_sq,
            } => vec![(EXP_AVG, exp_avg), (EXP_AVG_SQ, exp_avg_sq)],
            Self::Muon { exp_avg, .. } => vec![(EXP_AVG, exp_avg)],
            Self::Came(state) => state.floats(),
        }
    }

    fn quantized(&self) -> Option<&Quantized> {
        match self {
            Self::Came(state) => state.quantized(),
            _ => None,
        }
    }

    /// The float tensors, by name, to be written to.
    pub fn floats_mut(&mut self) -> Vec<(&'static str, &mut Tensor<1>)> {
        match self {
            Self::AdamW {
                exp_avg,
                exp_avg_sq,
            } => vec![(EXP_AVG, exp_avg), (EXP_AVG_SQ, exp_avg_sq)],
            Self::Muon { exp_avg, .. } => vec![(EXP_AVG, exp_avg)],
            Self::Came(state) => state.floats_mut(),
        }
    }

    /// What is kept in 8 bits.
    pub fn quantized_mut(&mut self) -> Option<&mut Quantized> {
        match self {
            Self::Came(state) => state.quantized_mut(),
            _ => None,
        }
    }

    /// Bytes of all of it. Nothing is read from the device.
    pub fn bytes(&self) -> usize {
        let floats = self.floats().into_iter();
        let floats = floats.map(|(_, tensor)| tensor.dims()[0] * tensor.dtype().size());
        floats.sum::<usize>() + self.quantized().map_or(0, Quantized::bytes)
    }
}
