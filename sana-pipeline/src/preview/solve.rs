//! Least squares.

/// The sums that a linear map of `inputs + 1` values, the last of which is 1, to three is fitted from.
#[derive(Debug)]
pub(super) struct Sums {
    /// Of products of two inputs, row by row.
    squares: Vec<f64>,
    /// Of products of an input and an output.
    products: Vec<[f64; 3]>,
    size: usize,
}

/// Share of the mean square of the inputs that is added to each: keeps channels that hardly vary from
/// large factors.
const RIDGE: f64 = 1e-4;

impl Sums {
    pub fn new(inputs: usize) -> Self {
        let size = inputs + 1;
        Self {
            squares: vec![0.0; size * size],
            products: vec![[0.0; 3]; size],
            size,
        }
    }

    /// Adds a sample.
    pub fn add(&mut self, inputs: impl Iterator<Item = f32>, outputs: [f64; 3]) {
        let inputs: Vec<f64> = inputs.map(f64::from).chain([1.0]).collect();
        for (row, input) in inputs.iter().enumerate() {
            let squares = &mut self.squares[row * self.size..(row + 1) * self.size];
            for (square, other) in squares.iter_mut().zip(&inputs) {
                *square += input * other;
            }
            for (product, output) in self.products[row].iter_mut().zip(outputs) {
                *product += input * output;
            }
        }
    }

    /// The map with the least squared error, and a ridge on all but the constant: for each input its
    /// factors, the constant last. `None` where the sums are not finite or there are no samples.
    pub fn solve(&self) -> Option<Vec<[f64; 3]>> {
        let size = self.size;
        let mut lower = self.squares.clone();
        let mean =
            (0..size - 1).map(|i| lower[i * size + i]).sum::<f64>() / (size - 1).max(1) as f64;
        for i in 0..size - 1 {
            lower[i * size + i] += (RIDGE * mean).max(f64::MIN_POSITIVE.sqrt());
        }
        // Cholesky: squares = lower lower^T.
        for i in 0..size {
            for j in 0..=i {
                let known: f64 = (0..j)
                    .map(|k| lower[i * size + k] * lower[j * size + k])
                    .sum();
                let rest = lower[i * size + j] - known;
                lower[i * size + j] = match i == j {
                    // Also refuses NaN.
                    true if rest > 0.0 && rest.is_finite() => rest.sqrt(),
                    true => return None,
                    false => rest / lower[j * size + j],
                };
            }
        }
        let column = |column: usize| {
            let products = self.products.iter().map(|row| row[column]);
            substituted(&lower, products.collect())
        };
        let [red, green, blue] = [0, 1, 2].map(column);
        let solution: Vec<[f64; 3]> = (0..size).map(|i| [red[i], green[i], blue[i]]).collect();
        let finite = solution
            .as_flattened()
            .iter()
            .all(|value| value.is_finite());
        finite.then_some(solution)
    }
}

/// Solves `lower lower^T x = right`.
fn substituted(lower: &[f64], right: Vec<f64>) -> Vec<f64> {
    let (size, mut x) = (right.len(), right);
    for i in 0..size {
        let known: f64 = (0..i).map(|k| lower[i * size + k] * x[k]).sum();
        x[i] = (x[i] - known) / lower[i * size + i];
    }
    for i in (0..size).rev() {
        let known: f64 = (i + 1..size).map(|k| lower[k * size + i] * x[k]).sum();
        x[i] = (x[i] - known) / lower[i * size + i];
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_map_is_found_again() {
        let (factors, constant) = ([[0.5, -1.0, 0.25], [2.0, 0.0, -0.5]], [0.1, 0.2, 0.3]);
        let mut sums = Sums::new(2);
        assert!(sums.solve().is_none());
        for step in 0..50 {
            let inputs = [(f64::from(step) * 0.7).sin(), (f64::from(step) * 1.3).cos()];
            let output = |color: usize| {
                constant[color] + inputs[0] * factors[0][color] + inputs[1] * factors[1][color]
            };
            sums.add(
                inputs.iter().map(|value| *value as f32),
                [0, 1, 2].map(output),
            );
        }
        let found = sums.solve().unwrap();
        for (found, expected) in found.iter().zip([factors[0], factors[1], constant]) {
            for (found, expected) in found.iter().zip(expected) {
                // The ridge, and inputs in f32.
                assert!((found - expected).abs() < 1e-3, "{found} {expected}");
            }
        }
        sums.add([f32::NAN, 0.0].into_iter(), [0.0; 3]);
        assert!(sums.solve().is_none());
    }
}
