//! DoRA, LoHa and LoKr.

use super::*;

/// Rows of a matrix, `[rows, columns]`, in f64.
type Matrix = Vec<Vec<f64>>;

fn matrix(data: &TensorData) -> Matrix {
    let columns = data.shape()[1];
    let values = data.as_slice::<f32>().unwrap();
    let rows = values.chunks(columns);
    rows.map(|row| row.iter().map(|value| f64::from(*value)).collect())
        .collect()
}

fn matmul(a: &Matrix, b: &Matrix) -> Matrix {
    let cell = |row: &[f64], column: usize| row.iter().zip(b).map(|(a, b)| a * b[column]).sum();
    let row = |row: &Vec<f64>| (0..b[0].len()).map(|column| cell(row, column)).collect();
    a.iter().map(row).collect()
}

fn pairwise(a: &Matrix, b: &Matrix, f: impl Fn(f64, f64) -> f64) -> Matrix {
    let row = |(a, b): (&Vec<f64>, &Vec<f64>)| a.iter().zip(b).map(|(a, b)| f(*a, *b)).collect();
    a.iter().zip(b).map(row).collect()
}

fn base_weight(layer: &str) -> Matrix {
    let (shape, values) = tensors_of(&weights())[&format!("{layer}.weight")].clone();
    matrix(&TensorData::new(values, [shape[0], shape[1]]))
}

fn assert_changes(name: &str, tensors: &Tensors, scale: f64, changes: &[(&str, Matrix)]) {
    let changes = changes
        .iter()
        .map(|(layer, change)| (format!("{layer}.weight"), change.concat()));
    let expected = changed_by(&[changes.collect()]);
    let ours = with(&[scaled(lora(tensors), scale, LoraMode::Merged)]);
    assert_same(name, &ours, &expected);
    assert_ne!(output(&ours), output(&model()), "{name}");
}

fn refused_unmerged(tensors: &Tensors, kind: &str) {
    let error = ScaledLora::new(lora(tensors), 1.0, LoraMode::Unmerged).unwrap_err();
    assert!(matches!(error, LoraError::NotLowRank { .. }), "{error}");
    assert!(error.to_string().contains(kind), "{error}");
}

/// `W' = m (W + s B A) / |W + s B A|`, with one length for each output, or for each input.
#[test]
fn dora_is_merged_exactly() {
    const CONV: &str = "transformer_blocks.1.ff.conv_point"; // [40, 100]
    const LINEAR: &str = "transformer_blocks.0.attn2.to_k"; // [40, 40]
    // The tensor's name, its layer and shape, and whether the lengths are those of the outputs.
    let cases: [(&str, &str, &[usize], bool); 7] = [
        ("lora_magnitude_vector", LINEAR, &[40], true),
        ("lora_magnitude_vector.default.weight", LINEAR, &[40], true),
        ("lora_magnitude_vector.weight", CONV, &[1, 40, 1, 1], true),
        ("dora_scale", LINEAR, &[40, 1], true),
        ("dora_scale", LINEAR, &[1, 40], false),
        ("dora_scale", CONV, &[40, 1, 1, 1], true),
        ("dora_scale", CONV, &[1, 100, 1, 1], false),
    ];
    for (word, layer, shape, outputs) in cases {
        let weight = base_weight(layer);
        let (d_output, d_input) = (weight.len(), weight[0].len());
        let (down, up) = (
            tensor(&[RANK, d_input], 1.0),
            tensor(&[d_output, RANK], 2.0),
        );
        let lengths: Vec<f32> = numbers(shape.iter().product(), 3.0)
            .iter()
            .map(|value| value + 1.0)
            .collect();
        let s = 0.7 * 6.0 / RANK as f64;
        let product = matmul(&matrix(&up), &matrix(&down));
        let changed = pairwise(&weight, &product, |weight, change| weight + s * change);
        let mut change = changed.clone();
        for row in 0..d_output {
            for column in 0..d_input {
                let squares: f64 = match outputs {
                    true => changed[row].iter().map(|value| value * value).sum(),
                    false => changed.iter().map(|row| row[column] * row[column]).sum(),
                };
                let length = f64::from(lengths[if outputs { row } else { column }]);
                let new = length * changed[row][column] / squares.sqrt();
                change[row][column] = new - weight[row][column];
            }
        }
        let tensors = vec![
            named(layer, "lora_A.weight", &down),
            named(layer, "lora_B.weight", &up),
            named(layer, word, &TensorData::new(lengths, shape.to_vec())),
            alpha(layer, 6.0),
        ];
        assert_changes(
            &format!("{word} {shape:?}"),
            &tensors,
            0.7,
            &[(layer, change)],
        );
        refused_unmerged(&tensors, "DoRA");
    }
    let mut wrong = factors(1.0);
    wrong.push((
        "proj_out.lora_magnitude_vector".to_owned(),
        tensor(&[13], 0.0),
    ));
    let found = mismatch(&lora(&wrong));
    let name = "proj_out.lora_magnitude_vector".to_owned();
    assert_eq!(found.misshapen, [(name, vec![12], vec![13])]);
}

/// The element-wise product of two matmuls.
#[test]
fn loha_is_merged_exactly() {
    let layer = "transformer_blocks.1.ff.conv_point"; // [40, 100]
    let factors = [
        ("hada_w1_a", tensor(&[40, 2], 1.0)),
        ("hada_w1_b", tensor(&[2, 100], 2.0)),
        ("hada_w2_a", tensor(&[40, 2], 3.0)),
        ("hada_w2_b", tensor(&[2, 100], 4.0)),
    ];
    let [a1, b1, a2, b2] = [0, 1, 2, 3].map(|index| matrix(&factors[index].1));
    let s = 2.5 * 8.0 / 2.0;
    let change = pairwise(&matmul(&a1, &b1), &matmul(&a2, &b2), |one, other| {
        s * one * other
    });
    let mut tensors: Tensors = factors
        .iter()
        .map(|(word, data)| named(layer, word, data))
        .collect();
    tensors.push(alpha(layer, 8.0));
    assert_changes("loha", &tensors, 2.5, &[(layer, change)]);
    refused_unmerged(&tensors, "LoHa");
    tensors.remove(3);
    let missing = mismatch(&lora(&tensors)).missing;
    assert_eq!(missing, [format!("{layer}.hada_w2_b")]);
}

/// A Kronecker product; alpha counts where a factor is a matmul.
#[test]
fn lokr_is_merged_exactly() {
    let layer = "transformer_blocks.1.ff.conv_point"; // [40, 100]
    let (w1, w2) = (tensor(&[4, 5], 1.0), tensor(&[10, 20], 2.0));
    let (w1_a, w1_b) = (tensor(&[4, 2], 3.0), tensor(&[2, 5], 4.0));
    let (w2_a, w2_b) = (tensor(&[10, 2], 5.0), tensor(&[2, 20], 6.0));
    let first = [
        vec![("lokr_w1", &w1)],
        vec![("lokr_w1_a", &w1_a), ("lokr_w1_b", &w1_b)],
    ];
    let second = [
        vec![("lokr_w2", &w2)],
        vec![("lokr_w2_a", &w2_a), ("lokr_w2_b", &w2_b)],
    ];
    let value = |factors: &[(&str, &TensorData)]| match factors {
        [(_, whole)] => matrix(whole),
        [(_, a), (_, b), ..] => matmul(&matrix(a), &matrix(b)),
        [] => unreachable!(),
    };
    for first in &first {
        for second in &second {
            let whole = first.len() + second.len() == 2;
            let s = if whole { 0.9 } else { 0.9 * 5.0 / 2.0 };
            let (one, two) = (value(first), value(second));
            let cell = |row: usize, column: usize| {
                s * one[row / 10][column / 20] * two[row % 10][column % 20]
            };
            let row = |row: usize| (0..100).map(|column| cell(row, column)).collect();
            let change: Matrix = (0..40).map(row).collect();
            let mut tensors: Tensors = first
                .iter()
                .chain(second)
                .map(|(word, data)| named(layer, word, data))
                .collect();
            tensors.push(alpha(layer, 5.0));
            assert_changes("lokr", &tensors, 0.9, &[(layer, change)]);
            refused_unmerged(&tensors, "LoKr");
        }
    }
    let wrong = vec![named(layer, "lokr_w1", &w1), named(layer, "lokr_w2", &w1)];
    let found = mismatch(&lora(&wrong));
    let name = format!("{layer}.lokr_w2");
    assert_eq!(found.misshapen, [(name, vec![10, 20], vec![4, 5])]);
    let half = vec![
        named(layer, "lokr_w1", &w1),
        named(layer, "lokr_w2_a", &w2_a),
    ];
    let missing = mismatch(&lora(&half)).missing;
    assert_eq!(missing, [format!("{layer}.lokr_w2_b")]);
}
