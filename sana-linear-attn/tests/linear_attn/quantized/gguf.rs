//! GGUF files, with what the package `gguf` makes of their blocks.

use burn::tensor::DType;
use sana_linear_attn::Weights;
use sana_linear_attn::parity::{GgufValue, device, gguf_file};

use super::{assert_same, fixture, matrix};

const TYPES: [&str; 13] = [
    "f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q2_k", "q3_k", "q4_k", "q5_k",
    "q6_k",
];

#[test]
fn values_are_those_of_the_package() {
    let weights = Weights::open_file(&fixture("gguf.gguf")).unwrap();
    let expected = Weights::open_file(&fixture("gguf.safetensors")).unwrap();
    assert_eq!(weights.names().count(), TYPES.len());
    for name in TYPES {
        assert_eq!(weights.stored_dtype(name).as_deref(), Some(name));
        assert_eq!(weights.shape(name), Some(&[3, 256][..]));
        let ours = matrix(&weights, name, DType::F32);
        assert_same(name, &ours, &matrix(&expected, name, DType::F32));
    }
    // Rows on their own, as those of an embedding table.
    let rows = weights.encoded_rows("q6_k", &[2, 0]).unwrap().unwrap();
    let all = matrix(&expected, "q6_k", DType::F32);
    assert_eq!(rows, [&all[512..], &all[..256]].concat());
    assert_eq!(weights.encoded_rows("q6_k", &[3]).unwrap(), None);
    assert_eq!(weights.metadata("general.architecture"), Some("gemma2"));
    assert_eq!(weights.metadata("gemma2.embedding_length"), Some("256"));
}

/// A tensor of one axis has blocks as well, whatever part of it is asked for.
#[test]
fn one_axis_of_blocks() {
    let block: Vec<u8> = [0x00, 0x3c].into_iter().chain(0..32).collect();
    let twice = [block.clone(), block].concat();
    let file = gguf_file(&[], &[("a".to_owned(), vec![64], 8, twice)]);
    let weights = Weights::from_bytes("x.gguf", file).unwrap();
    let tensor = weights.tensor::<1>("a", DType::F32, &device()).unwrap();
    let values: Vec<f32> = tensor.into_data().try_into_vec().unwrap();
    assert!(
        values
            .iter()
            .zip(0..64)
            .all(|(&value, place)| value == (place % 32) as f32)
    );
    let some = weights.encoded_rows("a", &[40, 3]).unwrap().unwrap();
    assert_eq!(some, [8.0, 3.0]);
}

/// Cut off anywhere, it is an error that names the file.
#[test]
fn truncated_files_are_refused() {
    let whole = std::fs::read(fixture("gguf.gguf")).unwrap();
    for length in (4..whole.len() - 32).step_by(5) {
        let error = Weights::from_bytes("cut.gguf", whole[..length].to_vec()).unwrap_err();
        let error = error.to_string();
        assert!(
            error.starts_with("cut.gguf is not a usable GGUF file: "),
            "{error}"
        );
    }
}

/// Numbers that promise more than there is: nothing is allocated for them.
#[test]
fn files_that_lie_are_refused() {
    let tensor =
        |name: &str, shape: &[usize], kind| (name.to_owned(), shape.to_vec(), kind, vec![0; 68]);
    let plain = [tensor("a", &[2, 32], 8)];
    let refused = |file: Vec<u8>| Weights::from_bytes("x.gguf", file).unwrap_err().to_string();
    let huge = usize::MAX / 2 + 1;
    for (shape, kind, reason) in [
        (vec![3, 32], 8, "lies at bytes"),
        (vec![1, 31], 8, "in blocks of 32"),
        (vec![huge, 32], 8, "in blocks of 32"),
        (vec![1 << 40, 1 << 20], 0, "lies at bytes"),
        (vec![1 << 62, 1], 0, "in blocks of 1"),
        (vec![1; 5], 0, "5 axes"),
        // Nothing at all, with axes whose product has no place.
        (vec![4, huge, 0], 0, "in blocks of 1"),
        (
            vec![1, 256],
            23,
            "stored as IQ4_XS, which is not supported; use a file in Q8_0",
        ),
        (vec![1, 256], 999, "stored as type 999"),
    ] {
        let error = refused(gguf_file(&[], &[tensor("a", &shape, kind)]));
        assert!(error.contains(reason), "{shape:?}: {error}");
    }
    let error = refused(gguf_file(&[], &[plain[0].clone(), plain[0].clone()]));
    assert!(error.contains("is there twice"), "{error}");
    let file = gguf_file(&[("general.alignment", GgufValue::U32(3))], &plain);
    assert!(refused(file).contains("general.alignment is 3"));

    let good = gguf_file(&[], &plain);
    assert!(Weights::from_bytes("x.gguf", good.clone()).is_ok());
    let with = |place: usize, bytes: &[u8]| {
        let mut file = good.clone();
        file[place..place + bytes.len()].copy_from_slice(bytes);
        refused(file)
    };
    assert!(with(4, &[1, 0, 0, 0]).contains("version 1"));
    assert!(with(4, &[0, 0, 0, 3]).contains("big-endian"));
    assert!(with(8, &[255; 8]).contains("18446744073709551615 tensors"));
    assert!(with(16, &[255; 8]).contains("entries of metadata"));
    assert!(with(24, &[255; 8]).contains("ends within its header"));
    // Lists in lists, without end.
    let mut nested = b"GGUF".to_vec();
    nested.extend(3u32.to_le_bytes());
    nested.extend([0u64, 1, 1].map(u64::to_le_bytes).concat());
    nested.push(b'k');
    nested.extend(9u32.to_le_bytes());
    for _ in 0..100_000 {
        nested.extend(9u32.to_le_bytes());
        nested.extend(1u64.to_le_bytes());
    }
    assert!(refused(nested).contains("lists"), "lists in lists");
}

/// Every byte of a header changed in some ways: refused or read, but never a panic.
#[test]
fn damaged_headers_do_no_harm() {
    let whole = std::fs::read(fixture("gguf.gguf")).unwrap();
    let header = whole.len() - 8960;
    for place in 0..header {
        for change in [0xff, 0x01, 0x80] {
            let mut file = whole.clone();
            file[place] ^= change;
            let Ok(weights) = Weights::from_bytes("damaged", file) else {
                continue;
            };
            let elements = weights.total_elements();
            assert!(elements <= 4 * whole.len(), "{elements} elements");
        }
    }
}
