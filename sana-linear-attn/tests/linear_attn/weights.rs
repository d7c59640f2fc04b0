//! The strict loader: every way in which a checkpoint can be wrong is one clear error.

use std::fs;
use std::path::Path;

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Tensor, TensorData};
use sana_linear_attn::parity::values;
use sana_linear_attn::weights::{parameter_shapes, write_tensors};
use sana_linear_attn::{
    KeyMap, LoadOptions, SaveOptions, TorchLinear, WeightError, Weights, load_module, save_module,
};

#[derive(Module, Debug)]
struct Pair {
    first: TorchLinear,
    second: Vec<TorchLinear>,
}

fn pair(device: &Device) -> Pair {
    Pair {
        first: TorchLinear::new(3, 2, true, device),
        second: vec![TorchLinear::new(2, 5, false, device)],
    }
}

fn data(shape: &[usize], value: f32) -> TensorData {
    TensorData::new(vec![value; shape.iter().product()], shape.to_vec())
}

fn right_tensors() -> Vec<(String, TensorData)> {
    vec![
        ("first.weight".to_owned(), data(&[2, 3], 1.0)),
        ("first.bias".to_owned(), data(&[2], 2.0)),
        ("second.0.weight".to_owned(), data(&[5, 2], 3.0)),
    ]
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn load(path: &Path) -> Result<Pair, WeightError> {
    let device = Device::flex();
    load_module(
        pair(&device),
        &Weights::open_file(path)?,
        &LoadOptions::default(),
        &device,
    )
}

#[test]
fn missing_unexpected_and_misshapen_are_one_error() {
    let folder = folder();
    let path = folder.path().join("w.safetensors");
    let mut tensors = right_tensors();
    tensors[0].1 = data(&[3, 2], 1.0);
    tensors[1].0 = "first.bais".to_owned();
    write_tensors(&path, tensors).expect("written");
    let error = load(&path).expect_err("does not fit");
    let WeightError::Mismatch {
        missing,
        unexpected,
        misshapen,
        ..
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!(missing, &["first.bias"]);
    assert_eq!(unexpected, &["first.bais"]);
    assert_eq!(
        misshapen,
        &[("first.weight".to_owned(), vec![2, 3], vec![3, 2])]
    );
    let text = error.to_string();
    for part in [
        "first.bias",
        "first.bais",
        "expected [2, 3] found [3, 2]",
        "w.safetensors",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
}

#[test]
fn what_fits_is_loaded_and_saved_again() {
    let folder = folder();
    let (one, two) = (
        folder.path().join("one.safetensors"),
        folder.path().join("two.safetensors"),
    );
    write_tensors(&one, right_tensors()).expect("written");
    let loaded = load(&one).expect("fits");
    assert_eq!(values(loaded.second[0].weight.val()), [3.0; 10]);
    save_module(&loaded, &two, &SaveOptions::default()).expect("saved");
    let again = Weights::open_file(&two).expect("valid");
    assert_eq!(
        again.names().collect::<Vec<_>>(),
        ["first.bias", "first.weight", "second.0.weight"]
    );
    assert_eq!(again.shape("second.0.weight"), Some(&[5, 2][..]));
    assert_eq!(
        again.bytes("first.bias"),
        Weights::open_file(&one).expect("valid").bytes("first.bias")
    );
    assert_eq!((again.total_elements(), again.total_bytes()), (18, 72));
    assert!(!folder.path().join("two.safetensors.part").exists());
}

#[test]
fn dtypes_are_kept_or_converted() {
    let (folder, device) = (folder(), Device::flex());
    let path = folder.path().join("w.safetensors");
    let tensors = right_tensors()
        .into_iter()
        .map(|(name, data)| (name, data.convert_dtype(DType::BF16)))
        .collect();
    write_tensors(&path, tensors).expect("written");
    let weights = Weights::open_file(&path).expect("valid");
    assert_eq!(
        weights.dtypes().into_iter().collect::<Vec<_>>(),
        [("bf16".to_owned(), 3)]
    );
    for (wanted, found) in [(None, DType::BF16), (Some(DType::F32), DType::F32)] {
        let options = LoadOptions {
            dtype: wanted,
            ..LoadOptions::default()
        };
        let loaded = load_module(pair(&device), &weights, &options, &device).expect("fits");
        assert_eq!(loaded.first.weight.val().dtype(), found);
    }
}

#[test]
fn frozen_parameters_stay_frozen() {
    let (folder, device) = (folder(), Device::flex().autodiff());
    let path = folder.path().join("w.safetensors");
    write_tensors(&path, right_tensors()).expect("written");
    let mut model = pair(&device);
    model.first.weight = model.first.weight.set_require_grad(false);
    let weights = Weights::open_file(&path).expect("valid");
    let loaded = load_module(model, &weights, &LoadOptions::default(), &device).expect("fits");
    let tracked = |param: &Param<Tensor<2>>| param.val().is_require_grad();
    assert!(!tracked(&loaded.first.weight) && tracked(&loaded.second[0].weight));
}

#[test]
fn names_are_mapped_prefixed_and_ignored() {
    let (folder, device) = (folder(), Device::flex());
    let path = folder.path().join("w.safetensors");
    const MAP: KeyMap = KeyMap(&[("second.0", "layers.0.out")]);
    let save = SaveOptions {
        key_map: MAP,
        prefix: "model.",
        ..SaveOptions::default()
    };
    save_module(&pair(&device), &path, &save).expect("saved");
    let weights = Weights::open_file(&path).expect("valid");
    assert!(weights.contains("model.layers.0.out.weight"));
    assert!(
        parameter_shapes(&pair(&device), MAP)
            .iter()
            .any(|(name, _)| name == "layers.0.out.weight")
    );
    let options = LoadOptions {
        key_map: MAP,
        strip_prefix: "model.",
        ..LoadOptions::default()
    };
    load_module(pair(&device), &weights, &options, &device).expect("fits");

    let mut tensors = right_tensors();
    tensors.push(("head.weight".to_owned(), data(&[1], 0.0)));
    tensors.push(("first.count".to_owned(), data(&[1], 0.0)));
    write_tensors(&path, tensors).expect("written");
    let weights = Weights::open_file(&path).expect("valid");
    let options = LoadOptions {
        ignore: &["head.", ".count"],
        ..LoadOptions::default()
    };
    load_module(pair(&device), &weights, &options, &device).expect("the rest is ignored");
}

/// A file in the layout of `torch.save`, written by hand: a dictionary `state_dict` of two tensors
/// next to a number.
#[test]
fn pytorch_files_are_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/weights/tiny.pth");
    let weights = Weights::open_file(&path).expect("a PyTorch file");
    let mut names: Vec<&str> = weights.names().collect();
    names.sort_unstable();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(
        names.iter().all(|name| name.contains("first.")),
        "{names:?}"
    );
    let device = Device::flex();
    let (bias, weight) = (names[0], names[1]);
    assert_eq!(weights.shape(weight), Some(&[2, 3][..]));
    let weight = weights.tensor::<2>(weight, DType::F32, &device);
    assert_eq!(
        values(weight.expect("there")),
        [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    );
    let bias = weights.tensor::<1>(bias, DType::F32, &device);
    assert_eq!(values(bias.expect("there")), [-1.0, 0.5]);
    // Cut off anywhere, it is an error and no panic.
    let whole = fs::read(&path).expect("bytes");
    let folder = folder();
    let cut = folder.path().join("cut.pth");
    for length in 0..whole.len() {
        fs::write(&cut, &whole[..length]).expect("written");
        assert!(Weights::open_file(&cut).is_err(), "{length} bytes");
    }
}

#[test]
fn damaged_files_are_refused() {
    let folder = folder();
    let path = folder.path().join("w.safetensors");
    write_tensors(&path, right_tensors()).expect("written");
    let whole = fs::read(&path).expect("bytes");
    let mut longer = whole.clone();
    longer.push(0);
    let mut huge_header = whole.clone();
    huge_header[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let cases = [
        Vec::new(),
        whole[..4].to_vec(),
        whole[..20].to_vec(),
        whole[..whole.len() - 1].to_vec(),
        longer,
        huge_header,
        b"XK\x03\x04 not safetensors at all".to_vec(),
    ];
    for bytes in cases {
        fs::write(&path, &bytes).expect("written");
        match Weights::open_file(&path) {
            Err(WeightError::Corrupt { path: named, .. }) => assert_eq!(named, path),
            // An empty file cannot be mapped on every system.
            Err(WeightError::Io { .. }) if bytes.is_empty() => {}
            other => panic!("{} bytes: {other:?}", bytes.len()),
        }
    }
    fs::write(&path, b"PK\x03\x04 not safetensors at all").expect("written");
    match Weights::open_file(&path) {
        Err(error @ WeightError::OtherFile { .. }) => {
            let message = error.to_string();
            assert!(message.contains("a zip archive that is not"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        Weights::from_bytes("built-in", whole[..9].to_vec()),
        Err(WeightError::Corrupt { .. })
    ));
}

#[test]
fn integers_are_no_weights() {
    let folder = folder();
    let path = folder.path().join("w.safetensors");
    let mut tensors = right_tensors();
    tensors[1].1 = TensorData::new(vec![1i64, 2], [2]);
    write_tensors(&path, tensors).expect("written");
    let error = load(&path).expect_err("not floats");
    assert!(
        matches!(&error, WeightError::Dtype { name, .. } if name == "first.bias"),
        "{error}"
    );
    let weights = Weights::open_file(&path).expect("valid");
    let tensor = |name| weights.tensor::<1>(name, DType::F32, &Device::flex());
    assert!(matches!(
        tensor("first.bias"),
        Err(WeightError::Dtype { .. })
    ));
    assert!(matches!(
        tensor("nothing"),
        Err(WeightError::NoTensor { .. })
    ));
    assert!(matches!(
        tensor("first.weight"),
        Err(WeightError::Mismatch { .. })
    ));
}

#[test]
fn folders_hold_single_files_variants_or_shards() {
    let folder = folder();
    let open = |variant| Weights::open_folder(folder.path(), "model", variant);
    let error = open(None).expect_err("empty");
    assert!(error.to_string().contains("model.safetensors"), "{error}");
    assert!(matches!(error, WeightError::NoWeights { .. }));
    assert!(matches!(
        Weights::open_file(&folder.path().join("nothing.safetensors")),
        Err(WeightError::Io { .. })
    ));

    let file =
        |name: &str, tensors| write_tensors(&folder.path().join(name), tensors).expect("written");
    file("model.fp16.safetensors", right_tensors());
    assert!(open(Some("fp16")).is_ok());
    assert!(open(None).is_ok(), "the only variant serves");
    assert!(matches!(
        open(Some("bf16")),
        Err(WeightError::NoWeights { .. })
    ));
    file("model.bf16.safetensors", right_tensors());
    assert!(
        matches!(open(None), Err(WeightError::NoWeights { .. })),
        "two variants: which one?"
    );

    let mut tensors = right_tensors();
    file("model-00002-of-00002.safetensors", tensors.split_off(1));
    file("model-00001-of-00002.safetensors", tensors);
    let index = folder.path().join("model.safetensors.index.json");
    let write = |text: &str| fs::write(&index, text).expect("written");
    write(
        r#"{"metadata": {}, "weight_map": {"first.weight": "model-00001-of-00002.safetensors",
            "first.bias": "model-00002-of-00002.safetensors",
            "second.0.weight": "model-00002-of-00002.safetensors"}}"#,
    );
    assert_eq!(open(None).expect("shards").names().count(), 3);

    write(r#"{"weight_map": {"a": "missing.safetensors"}}"#);
    assert!(matches!(open(None), Err(WeightError::Io { .. })));
    for bad in [
        "{",
        "{}",
        r#"{"weight_map": {}}"#,
        r#"{"weight_map": {"a": 1}}"#,
        r#"{"weight_map": {"a": "../model.safetensors"}}"#,
        r#"{"weight_map": {"a": "/etc/passwd"}}"#,
        r#"{"weight_map": {"a": "sub/model.safetensors"}}"#,
        r#"{"weight_map": {"a": "sub\\model.safetensors"}}"#,
        r#"{"weight_map": {"a": ""}}"#,
        r#"{"weight_map": {"a": ".."}}"#,
    ] {
        write(bad);
        let error = open(None).expect_err(bad);
        assert!(matches!(error, WeightError::Index { .. }), "{bad}: {error}");
    }
    let one = "model-00002-of-00002.safetensors";
    fs::copy(
        folder.path().join(one),
        folder.path().join("copy.safetensors"),
    )
    .expect("copied");
    write(&format!(
        r#"{{"weight_map": {{"a": "{one}", "b": "copy.safetensors"}}}}"#
    ));
    let error = open(None).expect_err("a tensor in two shards");
    assert!(error.to_string().contains("is in two shards"), "{error}");
}

#[test]
fn an_unwritable_path_leaves_nothing_behind() {
    let folder = folder();
    let path = folder.path().join("nowhere/w.safetensors");
    let error = write_tensors(&path, right_tensors()).expect_err("no such folder");
    assert!(matches!(error, WeightError::Io { .. }), "{error}");
    let bools = TensorData::new(vec![true], [1]);
    let error = write_tensors(
        &folder.path().join("b.safetensors"),
        vec![("b".to_owned(), bools)],
    );
    assert!(matches!(error, Err(WeightError::Dtype { .. })));
    assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 0);
}
