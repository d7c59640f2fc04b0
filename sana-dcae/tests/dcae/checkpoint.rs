//! Folders: loading, saving, and what can be wrong with them.

use std::fs;

use burn::module::Module;
use burn::tensor::{DType, Device};
use sana_dcae::{DcAe, DcAeConfig, DcAeError};
use sana_linear_attn::parity::{Fixture, assert_close, built_in_fixture_path, device, values};
use sana_linear_attn::precision::Bf16Gemm;
use sana_linear_attn::{WeightError, Weights};

use crate::{CRATE, LAYOUTS, load, tiny_config, waves};

const WEIGHTS_FILE: &str = "diffusion_pytorch_model.safetensors";

/// The model has exactly the checkpoint's tensors: as many elements as the file, less the counters
/// of batch norms, which have one element each.
#[test]
fn every_element_of_the_file_is_loaded() {
    for layout in LAYOUTS {
        let folder = built_in_fixture_path(CRATE, &format!("dcae/{layout}"));
        let weights = Weights::open_file(&folder.join(WEIGHTS_FILE)).expect("a fixture");
        let counters = weights
            .names()
            .filter(|name| name.ends_with("num_batches_tracked"))
            .count();
        let model = load(layout, &device());
        assert_eq!(
            model.num_params() + counters,
            weights.total_elements(),
            "{layout}"
        );
    }
}

#[test]
fn saving_and_loading_changes_nothing() {
    let device = device();
    for layout in LAYOUTS {
        let model = load(layout, &device);
        let folder = tempfile::tempdir().expect("a temporary folder");
        model.save(folder.path(), None).expect("a writable folder");
        let again = DcAe::load(folder.path(), None, None, &device).expect("what was saved");
        assert_eq!(again.config(), model.config());
        let latents = waves([1, model.config().latent_channels, 1, 2], &device);
        let [ours, theirs] = [&again, &model]
            .map(|model| values(model.decode(latents.clone()).expect("valid latents")));
        assert_eq!(ours, theirs, "{layout}");
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .expect("the folder")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        names.sort();
        assert_eq!(
            names,
            ["config.json", WEIGHTS_FILE],
            "no partial file is left"
        );
    }
}

/// Weights in a half type, norms and sums in f32: bf16 keeps 8 bits of each weight and activation,
/// f16 11, so outputs stay within a few of their steps (2^-8 and 2^-11) of the f32 model's.
#[test]
fn half_precision_parameters() {
    let device = device();
    for (dtype, bound) in [(DType::F16, 1e-2), (DType::BF16, 6e-2)] {
        if !device.supports_dtype(dtype) {
            continue;
        }
        for layout in LAYOUTS {
            let folder = built_in_fixture_path(CRATE, &format!("dcae/{layout}"));
            let model = DcAe::load(&folder, None, Some(dtype), &device).expect("a fixture");
            let model = model.with_compute_dtype(dtype);
            assert_eq!(model.encoder.dtype(), dtype);
            let fixture = Fixture::at(&folder.join("io.safetensors"));
            let latent = model
                .encode_raw(fixture.tensor("image", &device))
                .expect("an image");
            let decoded = model
                .decode_raw(fixture.tensor("latent", &device))
                .expect("a latent");
            for (name, ours) in [("latent", latent), ("decoded", decoded)] {
                assert_eq!(ours.dtype(), DType::F32);
                let reference = values(fixture.tensor::<4>(name, &device));
                assert_close(
                    &format!("{layout} {name} in {dtype:?}"),
                    &values(ours),
                    &reference,
                    bound,
                );
            }
        }
    }
}

/// On the CPU 16-bit parameters are computed with in f32: what f32 parameters of the same values
/// give, bit for bit.
#[test]
fn half_parameters_are_widened_on_the_cpu() {
    let device = Device::flex();
    for dtype in [DType::F16, DType::BF16] {
        for layout in LAYOUTS {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let full = load(layout, &device);
            full.save(folder.path(), Some(dtype)).expect("saved");
            let model = |dtype| DcAe::load(folder.path(), None, Some(dtype), &device);
            let narrow = model(dtype)
                .expect("just saved")
                .with_bf16_gemm(Bf16Gemm::Widened);
            let wide = model(DType::F32).expect("just saved");
            assert_eq!(narrow.decoder.dtype(), dtype);
            assert_eq!(narrow.compute_dtype(), DType::F32);
            let fixture = built_in_fixture_path(CRATE, &format!("dcae/{layout}/io.safetensors"));
            let fixture = Fixture::at(&fixture);
            let run = |model: &DcAe| {
                let image = fixture.tensor("image", &device);
                let latent = fixture.tensor("latent", &device);
                let mut all = values(model.encode_raw(image).expect("an image"));
                all.extend(values(model.decode_raw(latent).expect("a latent")));
                all
            };
            let ours = run(&narrow);
            assert!(ours == run(&wide), "{layout} in {dtype:?}");
            assert!(ours != run(&full), "{layout} in {dtype:?}");
        }
    }
}

#[test]
fn missing_folder_is_named() {
    let error = DcAe::load("no/such/vae", None, None, &device()).expect_err("no folder");
    assert!(matches!(error, DcAeError::ReadConfig { .. }), "{error}");
    assert!(error.to_string().contains("no/such/vae"), "{error}");
}

#[test]
fn config_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("config.json");
    for (text, reason) in [
        ("{", "EOF"),
        (r#"{"latent_channels": 0}"#, "latent_channels is 0"),
    ] {
        fs::write(&path, text).expect("a writable folder");
        let error = DcAe::load(folder.path(), None, None, &device()).expect_err(text);
        assert!(matches!(error, DcAeError::ConfigFile { .. }), "{error}");
        let message = error.to_string();
        assert!(
            message.contains("config.json") && message.contains(reason),
            "{message}"
        );
    }
}

#[test]
fn folder_without_weights() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("config.json"), tiny_config().to_json()).expect("writable");
    let error = DcAe::load(folder.path(), None, None, &device()).expect_err("no weights");
    assert!(
        matches!(error, DcAeError::Weights(WeightError::NoWeights { .. })),
        "{error}"
    );
}

#[test]
fn weights_of_another_layout() {
    let device = device();
    let folder = built_in_fixture_path(CRATE, "dcae/f32_sana");
    let weights = Weights::open_file(&folder.join(WEIGHTS_FILE)).expect("a fixture");
    let mut config = DcAeConfig::from_file(folder.join("config.json")).expect("a fixture");
    config.decoder_layers_per_block[0] += 1;
    config.encoder_layers_per_block[1] += 1;
    let error = DcAe::from_weights(&config, &weights, None, &device).expect_err("other layers");
    let DcAeError::Weights(error @ WeightError::Mismatch { .. }) = error else {
        panic!("{error}")
    };
    let message = error.all_names().unwrap_or_else(|| error.to_string());
    for name in [
        "decoder.up_blocks.0.2.conv1.weight",
        "encoder.down_blocks.1.2.conv.weight",
    ] {
        assert!(message.contains(name), "{message}");
    }
}

#[test]
fn from_weights_checks_the_config() {
    let folder = built_in_fixture_path(CRATE, "dcae/f32_sana");
    let weights = Weights::open_file(&folder.join(WEIGHTS_FILE));
    let config = DcAeConfig {
        scaling_factor: -1.0,
        ..DcAeConfig::f32c32_sana_1_0()
    };
    let error = DcAe::from_weights(&config, &weights.expect("a fixture"), None, &device());
    assert!(matches!(error, Err(DcAeError::ConfigValue { .. })));
}

#[test]
fn folder_that_cannot_be_written() {
    let model = tiny_config().init(&device());
    let error = model.save("no/such/folder", None).expect_err("no folder");
    assert!(
        matches!(error, DcAeError::Weights(WeightError::Io { .. })),
        "{error}"
    );

    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir(folder.path().join("config.json")).expect("a folder in the file's place");
    let error = model
        .save(folder.path(), None)
        .expect_err("config.json is a folder");
    assert!(matches!(error, DcAeError::WriteConfig { .. }), "{error}");
    assert!(!folder.path().join("config.json.part").exists());
}
