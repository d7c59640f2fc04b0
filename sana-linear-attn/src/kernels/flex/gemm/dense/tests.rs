//! The forms in f32 against sums in f64, whichever of them the processor prefers.

use super::*;

fn waves(count: usize, seed: f32) -> Vec<f32> {
    let value = |i| (i as f32 * 0.731 + seed + (i as f32 * 0.0131).cos()).sin();
    (0..count).map(value).collect()
}

#[test]
fn each_form_of_f32() {
    let shapes = [
        [1, 1, 1],
        [1, 13, 6],
        [16, 6, 32],
        [33, 13, 34],
        [70, 97, 62],
        [1100, 7, 5], // more rows than are packed at a time
    ];
    let forms = [
        (Form::Avx512, is_x86_feature_detected!("avx512f")),
        (Form::Avx2, Avx2::is_supported()),
    ];
    for (form, _) in forms.into_iter().filter(|(_, supported)| *supported) {
        for [rows, columns, depth] in shapes {
            let (x, bias) = (waves(rows * depth, 1.0), waves(columns, 3.0));
            let weight = waves(columns * depth, 2.0);
            let bytes: Vec<u8> = weight.iter().flat_map(|w| w.to_ne_bytes()).collect();
            for silu in [false, true] {
                let shape = [rows, columns, depth];
                // SAFETY: the form is supported.
                let ours = unsafe { gemm_as(form, shape, &x, &bytes, Some(&bias), silu) };
                let mut ours = ours.into_iter();
                for x in x.chunks(depth) {
                    for (w, bias) in weight.chunks(depth).zip(&bias) {
                        let products = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w));
                        let y = products.sum::<f64>() + f64::from(*bias);
                        let y = if silu { y / (1.0 + (-y).exp()) } else { y };
                        let ours = ours.next().map(f64::from).unwrap_or(f64::NAN);
                        assert!(
                            (ours - y).abs() < 2e-5,
                            "{form:?}, {shape:?}: {ours}, not {y}"
                        );
                    }
                }
                assert_eq!(ours.next(), None);
            }
        }
    }
}
