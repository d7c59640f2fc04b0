use burn::tensor::Tensor;

/// Coefficients of the quintic `a x + b x^3 + c x^5`: five rounds bring every singular value from
/// [0.01, 1] to about [0.7, 1.2].
const QUINTIC: (f64, f64, f64) = (3.4445, -4.7750, 2.0315);
const ROUNDS: usize = 5;

/// Makes all singular values of a matrix about one, by Newton-Schulz iteration:
///
/// ```text
/// X_0 = G / |G|_F
/// X_{k+1} = a X + (b A + c A^2) X,   A = X X^T
/// ```
///
/// K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024).
///
/// # Shapes
/// - input and output `[rows, columns]`
pub(super) fn orthogonalize(matrix: Tensor<2>) -> Tensor<2> {
    let [rows, columns] = matrix.dims();
    // The products are of the smaller side.
    if rows > columns {
        return orthogonalize(matrix.transpose()).transpose();
    }
    let (a, b, c) = QUINTIC;
    let norm = matrix.clone().square().sum().sqrt().clamp_min(1e-20);
    let mut x = matrix / norm.reshape([1, 1]);
    for _ in 0..ROUNDS {
        let gram = x.clone().matmul(x.clone().transpose());
        let factor = gram.clone() * b + gram.clone().matmul(gram) * c;
        x = x.clone() * a + factor.matmul(x);
    }
    x
}

/// The matrix `[outputs, inputs]` of a parameter that Muon is meant for: a hidden layer's linear or
/// full convolution kernel. Embeddings, and layers with few inputs or outputs, are not.
pub(super) fn hidden_matrix(name: &str, shape: &[usize]) -> Option<[usize; 2]> {
    const SMALLEST: usize = 16;
    let (&rows, rest) = shape.split_first()?;
    let columns = rest.iter().product();
    let hidden = rest.len() == 1 || rest.len() == 3 && rest[0] >= SMALLEST;
    let fits = rows >= SMALLEST && columns >= SMALLEST && hidden && !name.contains("embed");
    fits.then_some([rows, columns])
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution};

    fn device() -> Device {
        sana_linear_attn::parity::device()
    }

    /// Rows (or columns) of the result are nearly orthonormal, for wide and tall matrices, and
    /// whatever the scale.
    #[test]
    fn singular_values_become_one() {
        let device = device();
        device.seed(3);
        for (shape, scale) in [([16, 40], 1.0), ([40, 16], 1e-6), ([24, 24], 1e4)] {
            let matrix = Tensor::<2>::random(shape, Distribution::Normal(0.0, scale), &device);
            let x = orthogonalize(matrix);
            assert_eq!(x.dims(), shape);
            // The sum of squared singular values: one for each of the smaller side.
            let sum = x.clone().square().sum().into_scalar::<f32>();
            let smaller = shape[0].min(shape[1]) as f32;
            assert!(
                (0.6..1.3).contains(&(sum / smaller)),
                "{shape:?}: mean square singular value {}",
                sum / smaller
            );
            // No vector is stretched beyond the iteration's bound.
            let probe = Tensor::<2>::random([shape[1], 8], Distribution::Normal(0.0, 1.0), &device);
            let before = probe.clone().square().sum_dim(0).sqrt();
            let after = x.matmul(probe).square().sum_dim(0).sqrt();
            let most = (after / before).max().into_scalar::<f32>();
            assert!(most < 1.25, "{shape:?}: stretched by {most}");
        }
    }

    #[test]
    fn zero_stays_zero() {
        let zero = Tensor::<2>::zeros([16, 20], &device());
        assert_eq!(orthogonalize(zero).abs().max().into_scalar::<f32>(), 0.0);
    }

    #[test]
    fn which_parameters_are_hidden_matrices() {
        let matrix = hidden_matrix;
        assert_eq!(
            matrix("blocks.0.attn1.to_q.weight", &[128, 96]),
            Some([128, 96])
        );
        assert_eq!(
            matrix("up_blocks.3.0.conv.weight", &[64, 32, 3, 3]),
            Some([64, 288])
        );
        assert_eq!(matrix("conv_depth.weight", &[640, 1, 3, 3]), None);
        assert_eq!(matrix("conv_in.weight", &[64, 3, 3, 3]), None);
        assert_eq!(matrix("embed_tokens.weight", &[400, 128]), None);
        assert_eq!(matrix("scale_shift_table", &[6, 128]), None);
        assert_eq!(matrix("norm.weight", &[128]), None);
    }
}
