/// The normal deviate of 95 %, two-sided.
const Z: f64 = 1.959_963_984_540_054;

/// Wilson's 95 % interval of a probability in [0, 1] of which `right` of `total` trials are known: the
/// probabilities p with `|right / total - p| <= z sqrt(p (1 - p) / total)`, z = 1.96. `None` for no trials.
///
/// Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
pub(crate) fn wilson(right: usize, total: usize) -> Option<[f64; 2]> {
    if total == 0 {
        return None;
    }
    let (total, share) = (total as f64, right as f64 / total as f64);
    let squared = Z * Z;
    let middle = share + squared / (2.0 * total);
    let half = Z * (share * (1.0 - share) / total + squared / (4.0 * total * total)).sqrt();
    let whole = 1.0 + squared / total;
    Some([
        ((middle - half) / whole).max(0.0),
        ((middle + half) / whole).min(1.0),
    ])
}

#[cfg(test)]
mod tests {
    use super::wilson;

    #[test]
    fn intervals_are_those_of_the_literature() {
        // Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
        for (right, total, expected) in [
            (81, 263, [0.2553, 0.3662]),
            (15, 148, [0.0624, 0.1605]),
            (0, 20, [0.0, 0.1611]),
            (1, 29, [0.0061, 0.1718]),
        ] {
            let found = wilson(right, total).unwrap();
            for (found, expected) in found.into_iter().zip(expected) {
                assert!(
                    (found - expected).abs() < 5e-5,
                    "{right} of {total}: {found}"
                );
            }
        }
        assert_eq!(wilson(0, 0), None);
        assert!((wilson(20, 20).unwrap()[1] - 1.0).abs() < 1e-12);
    }
}
