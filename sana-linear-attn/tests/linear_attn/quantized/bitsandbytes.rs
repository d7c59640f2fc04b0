//! Matrices of bitsandbytes, with what it makes of them itself.

use burn::tensor::DType;
use safetensors::tensor::Dtype;
use sana_linear_attn::Weights;

use super::{Stored, assert_same, fixture, matrix, opened, stored};

const FILE: &str = "bitsandbytes.safetensors";

/// Bit by bit, in f32 and in the dtype that it was quantized from, where its rows are not whole blocks either.
#[test]
fn values_are_those_of_bitsandbytes() {
    let weights = Weights::open_file(&fixture(FILE)).unwrap();
    let expected = Weights::open_file(&fixture("bitsandbytes_values.safetensors")).unwrap();
    for name in ["nf4", "nested", "fp4"] {
        let theirs = matrix(&expected, &format!("{name}.weight.f32"), DType::F32);
        let weight = format!("{name}.weight");
        assert_same(name, &matrix(&weights, &weight, DType::F32), &theirs);
        if let Some(dtype) = expected.dtype(&weight) {
            assert_eq!(weights.dtype(&weight), Some(dtype), "{name}");
            let theirs = matrix(&expected, &weight, dtype);
            assert_same(name, &matrix(&weights, &weight, dtype), &theirs);
        }
    }
    let theirs = matrix(&expected, "int8.weight", DType::F32);
    let ours = matrix(&weights, "int8.weight", DType::F32);
    assert_same("int8", &ours, &theirs);
}

/// What is left is the tensors of the layers, in their shapes.
#[test]
fn parts_of_one_matrix_are_one_tensor() {
    let weights = Weights::open_file(&fixture(FILE)).unwrap();
    let names: Vec<&str> = weights.names().collect();
    let expected = [
        "fp4.bias",
        "fp4.weight",
        "int8.weight",
        "nested.bias",
        "nested.weight",
        "nf4.bias",
        "nf4.weight",
    ];
    assert_eq!(names, expected);
    assert_eq!(weights.shape("nf4.weight"), Some(&[24, 40][..]));
    assert_eq!(weights.stored_dtype("nf4.weight").as_deref(), Some("nf4"));
    let dtypes: Vec<(String, usize)> = weights.dtypes().into_iter().collect();
    let expected = [("f32", 3), ("fp4", 1), ("int8", 1), ("nf4", 2)];
    assert!(
        dtypes
            .iter()
            .map(|(name, count)| (name.as_str(), *count))
            .eq(expected)
    );
    // Half a byte for each element and four for each block, not what it stands for.
    assert_eq!(weights.byte_len("nf4.weight"), Some(24 * 40 * 2));
    assert!(weights.total_bytes() < 12_000, "{}", weights.total_bytes());
    assert_eq!(weights.bytes("nf4.weight"), None);
}

fn refused(change: impl FnOnce(&mut Vec<Stored>)) -> String {
    let mut tensors = stored(FILE);
    change(&mut tensors);
    opened(&tensors, None).unwrap_err().to_string()
}

fn named<'a>(tensors: &'a mut [Stored], name: &str) -> &'a mut Stored {
    let found = tensors.iter_mut().find(|(found, ..)| found == name);
    found.unwrap_or_else(|| panic!("no {name}"))
}

fn with_state(from: &str, to: &str) -> String {
    refused(|tensors| {
        let (_, _, shape, bytes) = named(tensors, "nf4.weight.quant_state.bitsandbytes__nf4");
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(text.contains(from));
        *bytes = text.replace(from, to).into_bytes();
        *shape = vec![bytes.len()];
    })
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    for (from, to, reason) in [
        ("[24, 40]", "[24, 41]", "expected 492 elements"),
        ("[24, 40]", "[18446744073709551615, 2]", "the shape"),
        ("[24, 40]", "[]", "the shape []"),
        (
            "[24, 40]",
            "[0, 1099511627776, 1099511627776]",
            "it has the shape [0, ",
        ),
        ("\"blocksize\": 64", "\"blocksize\": 0", "blocksize is 0"),
        (
            "\"blocksize\": 64",
            "\"blocksize\": 128",
            "expected 8 elements",
        ),
        ("bfloat16", "float64", "float64"),
        (
            "\"quant_type\": \"nf4\"",
            "\"quant_type\": \"nf3\"",
            "only nf4 and fp4",
        ),
        ("{", "[", "not understood"),
    ] {
        let error = with_state(from, to);
        assert!(
            error.contains(reason) && error.contains("nf4.weight"),
            "{error}"
        );
        assert!(error.starts_with("a file has quantized weights"), "{error}");
    }
    let error =
        refused(|tensors| tensors.retain(|(name, ..)| name != "nested.weight.nested_absmax"));
    assert!(
        error.contains("\"nested.weight.nested_absmax\" is missing"),
        "{error}"
    );
    let error = refused(|tensors| named(tensors, "nf4.weight.absmax").1 = Dtype::I32);
    assert!(error.contains("expected 15 elements of F32"), "{error}");
    let error = refused(|tensors| tensors.retain(|(name, ..)| name != "int8.weight"));
    assert!(error.contains("is not there"), "{error}");
    let error = refused(|tensors| named(tensors, "int8.weight_format").3 = vec![2]);
    assert!(error.contains("not stored by rows"), "{error}");
    let error = refused(|tensors| {
        let (_, _, shape, bytes) = named(tensors, "int8.SCB");
        *shape = vec![11];
        bytes.truncate(44);
    });
    assert!(error.contains("expected 12 elements"), "{error}");
}
