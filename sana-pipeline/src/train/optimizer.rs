use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// Options of [`AdamW`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AdamWOptions {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay, times the learning rate.
    pub weight_decay: f64,
    /// Largest norm of all gradients together; larger ones are scaled down. None when infinite.
    pub clip_norm: f64,
    /// Decay of the moving average of the parameters.
    pub ema_decay: f64,
}

impl Default for AdamWOptions {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.01,
            clip_norm: 1.0,
            ema_decay: 0.999,
        }
    }
}

/// AdamW (arXiv 1711.05101) with a global gradient clip and a moving average of the parameters.
///
/// ```text
/// m = b1 m + (1 - b1) g          v = b2 v + (1 - b2) g^2
/// p = p (1 - lr wd) - lr m / (1 - b1^n) / (sqrt(v / (1 - b2^n)) + eps)
/// ema = ema + (1 - d) (p - ema),  d = min(decay, (1 + n) / (10 + n))
/// ```
///
/// burn's own optimiser keys its state by parameter ids, which change from process to process;
/// this one keeps it in the module's order, so that a run resumes with nothing lost.
#[derive(Debug, Clone)]
pub struct AdamW {
    /// Its options.
    pub options: AdamWOptions,
    /// Steps taken.
    pub steps: usize,
    /// First moments.
    pub first: Vec<Tensor<1>>,
    /// Second moments.
    pub second: Vec<Tensor<1>>,
    /// Moving average of the parameters.
    pub average: Vec<Tensor<1>>,
}

impl AdamW {
    /// An optimiser for these parameter values.
    pub fn new(options: AdamWOptions, values: &[Tensor<1>]) -> Self {
        let zeros: Vec<Tensor<1>> = values.iter().map(Tensor::zeros_like).collect();
        Self {
            options,
            steps: 0,
            first: zeros.clone(),
            second: zeros,
            average: values.to_vec(),
        }
    }

    /// One step; parameters without a gradient stay. Returns the norm of all gradients together,
    /// before the clip.
    pub fn step(
        &mut self,
        values: &mut [Tensor<1>],
        gradients: Vec<Option<Tensor<1>>>,
        learning_rate: f64,
    ) -> f32 {
        let AdamWOptions {
            beta1,
            beta2,
            eps,
            weight_decay,
            clip_norm,
            ema_decay,
        } = self.options;
        self.steps += 1;
        let n = self.steps as i32;
        let norm = gradients
            .iter()
            .flatten()
            .map(|g| g.clone().square().sum().into_scalar::<f32>())
            .sum::<f32>()
            .sqrt();
        let clip = if f64::from(norm) > clip_norm {
            clip_norm / f64::from(norm)
        } else {
            1.0
        };
        let first_scale = learning_rate / (1.0 - beta1.powi(n));
        let second_scale = 1.0 / (1.0 - beta2.powi(n));
        let keep = ema_decay.min((1.0 + f64::from(n)) / (10.0 + f64::from(n)));

        for (index, gradient) in gradients.into_iter().enumerate() {
            if let Some(gradient) = gradient {
                let gradient = gradient * clip;
                let first = take(&mut self.first[index]) * beta1 + gradient.clone() * (1.0 - beta1);
                let second =
                    take(&mut self.second[index]) * beta2 + gradient.square() * (1.0 - beta2);
                let update =
                    first.clone() * first_scale / ((second.clone() * second_scale).sqrt() + eps);
                values[index] =
                    take(&mut values[index]) * (1.0 - learning_rate * weight_decay) - update;
                self.first[index] = first;
                self.second[index] = second;
            }
            let average = take(&mut self.average[index]);
            self.average[index] = average * keep + values[index].clone() * (1.0 - keep);
        }
        norm
    }
}

/// Moves a tensor out, so that its storage can be reused in place.
fn take(tensor: &mut Tensor<1>) -> Tensor<1> {
    let empty = Tensor::empty([0], &tensor.device());
    std::mem::replace(tensor, empty)
}
