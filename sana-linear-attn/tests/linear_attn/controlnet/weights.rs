//! Weights of ControlNets: new ones, loading, dtypes.

use super::*;

/// What training starts from changes nothing, exactly, in any dtype of the weights.
#[test]
fn a_new_controlnet_changes_nothing() {
    for dtype in [DType::F32, DType::BF16] {
        let mut pair = Pair::built_in();
        let folder = built_in_fixture_path(CRATE, "transformer/controlnet/transformer");
        let weights = Weights::open_folder(&folder, STEM, None).unwrap();
        let config = pair.transformer.config().clone();
        let loaded = config.load(&weights, Some(dtype), F16Clamp::Auto, &device());
        pair.transformer = loaded.unwrap();
        for layers in [1, 2] {
            pair.controlnet = SanaControlNet::from_transformer(&pair.transformer, layers).unwrap();
            assert_eq!(pair.controlnet.dtype(), dtype);
            let residuals = pair.residuals(1.0);
            assert_eq!(residuals.len(), layers);
            for residual in &residuals {
                assert!(values(residual.clone()).iter().all(|value| *value == 0.0));
            }
            assert_eq!(
                values(pair.output(&residuals)),
                values(pair.output(&[])),
                "{dtype:?}"
            );
        }
    }
}

/// It has the transformer's weights, so its blocks do what the transformer's do.
#[test]
fn a_new_controlnet_has_the_transformer_s_blocks() {
    let pair = Pair::built_in();
    let controlnet = SanaControlNet::from_transformer(&pair.transformer, 2).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(format!("{STEM}.safetensors"));
    save_module(&controlnet, &path, &SaveOptions::default()).unwrap();
    let saved = Weights::open_file(&path).unwrap();
    let source = built_in_fixture_path(CRATE, "transformer/controlnet/transformer");
    let source = Weights::open_folder(&source, STEM, None).unwrap();
    let shapes = parameter_shapes(&controlnet, Default::default());
    assert_eq!(shapes.len(), saved.names().count());
    for name in saved.names() {
        let bytes = saved.bytes(name).unwrap();
        if name.starts_with("input_block") || name.starts_with("controlnet_blocks") {
            assert!(bytes.iter().all(|byte| *byte == 0), "{name}");
        } else {
            assert_eq!(Some(bytes), source.bytes(name), "{name}");
        }
    }
    // Read again as a checkpoint's.
    let config = controlnet.config().clone();
    config
        .load(&saved, None, F16Clamp::Auto, &device())
        .unwrap();
}

/// A transformer's weights are no ControlNet's.
#[test]
fn loading_is_strict() {
    let folder = built_in_fixture_path(CRATE, "transformer/controlnet");
    let config = SanaControlNetConfig::from_file(&folder.join("controlnet/config.json")).unwrap();
    let weights = Weights::open_folder(&folder.join("transformer"), STEM, None).unwrap();
    let error = config
        .load(&weights, None, F16Clamp::Auto, &device())
        .unwrap_err();
    assert!(matches!(error, WeightError::Mismatch { .. }));
    let text = error.all_names().unwrap();
    for name in [
        "controlnet_blocks.1.bias",
        "input_block.weight",
        "transformer_blocks.2.attn1.to_q.weight",
        "proj_out.weight",
    ] {
        assert!(text.contains(name), "{name} in {text}");
    }
}

/// Weights in 16 bits are computed with in 16 bits, or widened.
#[test]
fn dtypes() {
    let pair = Pair::built_in();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(format!("{STEM}.bf16.safetensors"));
    let options = SaveOptions {
        dtype: Some(DType::BF16),
        ..SaveOptions::default()
    };
    save_module(&pair.controlnet, &path, &options).unwrap();
    let weights = Weights::open_folder(folder.path(), STEM, Some("bf16")).unwrap();
    let config = pair.controlnet.config();
    let load = |dtype| {
        config
            .load(&weights, dtype, F16Clamp::Auto, &device())
            .unwrap()
    };
    assert_eq!(load(None).dtype(), DType::BF16);
    let widened = load(Some(DType::F32));
    assert_eq!(widened.dtype(), DType::F32);
    let pair = Pair {
        controlnet: widened,
        ..pair
    };
    for (index, residual) in pair.residuals(pair.scale()).into_iter().enumerate() {
        let expected: Tensor<3> = pair.tensor(&format!("residual_{index}"));
        // bf16 keeps 8 bits of each weight.
        assert_close("bf16", &values(residual), &values(expected), 3e-2);
    }
    // Residuals in f32 go into a transformer that computes in bf16.
    let bf16 = SanaTransformerConfig::from_file(
        &built_in_fixture_path(CRATE, "transformer/controlnet/transformer").join("config.json"),
    )
    .unwrap();
    let source = built_in_fixture_path(CRATE, "transformer/controlnet/transformer");
    let source = Weights::open_folder(&source, STEM, None).unwrap();
    let transformer = bf16.load(&source, Some(DType::BF16), F16Clamp::Auto, &device());
    let residuals = pair.residuals(1.0);
    let pair = Pair {
        transformer: transformer.unwrap(),
        ..pair
    };
    let output = values(pair.output(&residuals));
    assert!(output.iter().all(|value| value.is_finite()));
}
