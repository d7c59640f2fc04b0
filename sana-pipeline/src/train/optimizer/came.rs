use burn::tensor::Tensor;

use super::parameters::take;
use super::quantized::Quantized;

/// Decay of the instability's averages.
const BETA3: f64 = 0.9999;
/// Added to squared gradients.
const EPS_GRADIENT: f64 = 1e-30;
/// Added to the squared distance of an update from the first moment.
const EPS_INSTABILITY: f64 = 1e-16;
/// Root mean square of an update, at most.
const LARGEST_UPDATE: f64 = 1.0;
/// Elements of a matrix from which on its first moment has 8 bits: one more than this.
const SMALLEST_8BIT: usize = 16_384;

/// What CAME keeps of a parameter (Luo et al., arXiv 2307.02047). All of it begins with 0; nothing is
/// corrected for that.
///
/// ```text
/// u = g^2 + e1
/// matrix  R = b2 R + (1 - b2) mean_columns(u)    C = b2 C + (1 - b2) mean_rows(u)
///         v = g / sqrt(R / mean(R)) / sqrt(C)
/// other   V = b2 V + (1 - b2) u                  v = g / sqrt(V)
/// v = v / max(1, rms(v))
/// m = b1 m + (1 - b1) v
/// matrix  s = (v - m)^2 + e2                     S, D as R, C of s with b3
///         update = m / sqrt(S / mean(S)) / sqrt(D)
/// other   update = m
/// ```
#[derive(Debug, Clone)]
pub(in crate::train) enum CameState {
    /// Of a linear layer's or 1x1 convolution's matrix.
    Matrix {
        /// Rows and columns.
        sides: [usize; 2],
        /// `m`.
        moment: Moment,
        /// `R` and `C`, `S` and `D`.
        factors: Box<MatrixFactors>,
    },
    /// Of any other parameter.
    Other {
        /// `m`.
        exp_avg: Tensor<1>,
        /// `V`.
        exp_avg_sq: Tensor<1>,
    },
}

/// The first moment of a matrix.
#[derive(Debug, Clone)]
pub(in crate::train) enum Moment {
    F32(Tensor<1>),
    Bits8(Quantized),
}

/// The averages that replace those of all elements of a matrix.
#[derive(Debug, Clone)]
pub(in crate::train) struct MatrixFactors {
    /// Of the squared gradients.
    pub square: Factors,
    /// Of the squared distances.
    pub instability: Factors,
}

/// The averages over the columns, one for each row, and over the rows.
#[derive(Debug, Clone)]
pub(in crate::train) struct Factors {
    pub row: Tensor<1>,
    pub column: Tensor<1>,
}

impl CameState {
    /// Of a parameter that has no history; with `bits8` large matrices have a first moment of 8 bits.
    pub fn new(value: &Tensor<1>, shape: &[usize], bits8: bool) -> Self {
        let Some([rows, columns]) = matrix(shape) else {
            return Self::Other {
                exp_avg: value.zeros_like(),
                exp_avg_sq: value.zeros_like(),
            };
        };
        let device = value.device();
        let factors = || Factors {
            row: Tensor::zeros([rows], &device),
            column: Tensor::zeros([columns], &device),
        };
        Self::Matrix {
            sides: [rows, columns],
            moment: match bits8 && rows * columns > SMALLEST_8BIT {
                true => Moment::Bits8(Quantized::zeros(rows * columns)),
                false => Moment::F32(value.zeros_like()),
            },
            factors: Box::new(MatrixFactors {
                square: factors(),
                instability: factors(),
            }),
        }
    }

    /// Takes a gradient in and gives the update for a learning rate of one.
    pub fn update(&mut self, gradient: Tensor<1>, [beta1, beta2]: [f64; 2]) -> Tensor<1> {
        match self {
            Self::Matrix {
                sides,
                moment,
                factors,
            } => {
                let MatrixFactors {
                    square,
                    instability,
                } = factors.as_mut();
                let gradient: Tensor<2> = gradient.reshape(*sides);
                square.average(gradient.clone().square() + EPS_GRADIENT, beta2);
                let update = limited(square.scaled(gradient).flatten(0, 1));
                let before = moment.read(&update);
                let exp_avg = before * beta1 + update.clone() * (1.0 - beta1);
                let distance = (update - exp_avg.clone()).square() + EPS_INSTABILITY;
                instability.average(distance.reshape(*sides), BETA3);
                // What is computed on is the moment before it is rounded.
                moment.write(&exp_avg);
                instability.scaled(exp_avg.reshape(*sides)).flatten(0, 1)
            }
            Self::Other {
                exp_avg,
                exp_avg_sq,
            } => {
                let square = gradient.clone().square() + EPS_GRADIENT;
                *exp_avg_sq = take(exp_avg_sq) * beta2 + square * (1.0 - beta2);
                let update = limited(gradient / exp_avg_sq.clone().sqrt());
                *exp_avg = take(exp_avg) * beta1 + update * (1.0 - beta1);
                exp_avg.clone()
            }
        }
    }

    /// The float tensors that it holds, by name.
    pub fn floats(&self) -> Vec<(&'static str, &Tensor<1>)> {
        match self {
            Self::Matrix {
                moment, factors, ..
            } => {
                let MatrixFactors {
                    square,
                    instability,
                } = factors.as_ref();
                let mut tensors = vec![
                    (SQUARE_ROW, &square.row),
                    (SQUARE_COLUMN, &square.column),
                    (INSTABILITY_ROW, &instability.row),
                    (INSTABILITY_COLUMN, &instability.column),
                ];
                if let Moment::F32(exp_avg) = moment {
                    tensors.push((EXP_AVG, exp_avg));
                }
                tensors
            }
            Self::Other {
                exp_avg,
                exp_avg_sq,
            } => vec![(EXP_AVG, exp_avg), (EXP_AVG_SQ, exp_avg_sq)],
        }
    }

    /// The first moment of 8 bits, if it has one.
    pub fn quantized(&self) -> Option<&Quantized> {
        match self {
            Self::Matrix {
                moment: Moment::Bits8(quantized),
                ..
            } => Some(quantized),
            _ => None,
        }
    }

    /// [`floats`](Self::floats), to be written to.
    pub fn floats_mut(&mut self) -> Vec<(&'static str, &mut Tensor<1>)> {
        match self {
            Self::Matrix {
                moment, factors, ..
            } => {
                let MatrixFactors {
                    square,
                    instability,
                } = factors.as_mut();
                let mut tensors = vec![
                    (SQUARE_ROW, &mut square.row),
                    (SQUARE_COLUMN, &mut square.column),
                    (INSTABILITY_ROW, &mut instability.row),
                    (INSTABILITY_COLUMN, &mut instability.column),
                ];
                if let Moment::F32(exp_avg) = moment {
                    tensors.push((EXP_AVG, exp_avg));
                }
                tensors
            }
            Self::Other {
                exp_avg,
                exp_avg_sq,
            } => vec![(EXP_AVG, exp_avg), (EXP_AVG_SQ, exp_avg_sq)],
        }
    }

    /// [`quantized`](Self::quantized), to be written to.
    pub fn quantized_mut(&mut self) -> Option<&mut Quantized> {
        match self {
            Self::Matrix {
                moment: Moment::Bits8(quantized),
                ..
            } => Some(quantized),
            _ => None,
        }
    }
}

/// Names of what is saved.
pub(in crate::train) const EXP_AVG: &str = "exp_avg";
pub(in crate::train) const EXP_AVG_SQ: &str = "exp_avg_sq";
const SQUARE_ROW: &str = "exp_avg_sq_row";
const SQUARE_COLUMN: &str = "exp_avg_sq_col";
const INSTABILITY_ROW: &str = "exp_avg_res_row";
const INSTABILITY_COLUMN: &str = "exp_avg_res_col";

impl Moment {
    fn read(&mut self, like: &Tensor<1>) -> Tensor<1> {
        match self {
            Self::F32(exp_avg) => take(exp_avg),
            Self::Bits8(quantized) => quantized.read(&like.device()),
        }
    }

    fn write(&mut self, exp_avg: &Tensor<1>) {
        match self {
            Self::F32(place) => *place = exp_avg.clone(),
            Self::Bits8(quantized) => *quantized = Quantized::of(exp_avg),
        }
    }
}

impl Factors {
    fn average(&mut self, values: Tensor<2>, beta: f64) {
        let [rows, columns] = values.dims();
        let row = values.clone().mean_dim(1).reshape([rows]);
        let column = values.mean_dim(0).reshape([columns]);
        self.row = take(&mut self.row) * beta + row * (1.0 - beta);
        self.column = take(&mut self.column) * beta + column * (1.0 - beta);
    }

    /// Values over the root of what the factors stand for.
    fn scaled(&self, values: Tensor<2>) -> Tensor<2> {
        let row = self.row.clone() / self.row.clone().mean();
        let row = row.sqrt().unsqueeze_dim::<2>(1); // [rows, 1]
        let column = self.column.clone().sqrt().unsqueeze::<2>(); // [1, columns]
        values / row / column
    }
}

/// The update with a root mean square of at most one.
fn limited(update: Tensor<1>) -> Tensor<1> {
    let rms = update.clone().square().mean().sqrt();
    update / (rms / LARGEST_UPDATE).clamp_min(1.0)
}

/// Rows and columns of a parameter that is kept by its factors: a matrix, or the kernel of a 1x1
/// convolution. Others, such as depthwise kernels, are not, as in the authors' code; the package
/// `came-pytorch` factors the last two axes of whatever has two.
fn matrix(shape: &[usize]) -> Option<[usize; 2]> {
    match *shape {
        [rows, columns] | [rows, columns, 1, 1] => Some([rows, columns]),
        _ => None,
    }
}
