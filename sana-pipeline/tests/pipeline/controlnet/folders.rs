//! Folders and weight files of a ControlNet.

use super::*;

/// Where the checkpoint has one, a control image is all that it takes, and without one it is
/// text to image.
#[test]
fn a_checkpoint_s_own() {
    let checkpoint = copy_of(&sana_folder());
    let inner = checkpoint.path().join("controlnet");
    fs::create_dir(&inner).unwrap();
    for file in ["config.json", WEIGHTS] {
        fs::write(inner.join(file), fs::read(folder().join(file)).unwrap()).unwrap();
    }
    let plain = draw(&mut sana(), &small()).images;
    let expected = draw(&mut controlled(), &request()).images;
    assert_ne!(plain, expected);
    for named in [false, true] {
        if named {
            let class = r#"{"controlnet": ["diffusers", "SanaControlNetModel"],"#;
            edit(&checkpoint, "model_index.json", "{", class);
            let other = "\"SanaControlNetPipeline\"";
            edit(&checkpoint, "model_index.json", "\"SanaPipeline\"", other);
        }
        let mut pipeline = SanaPipeline::load(checkpoint.path(), &device()).unwrap();
        assert_eq!(draw(&mut pipeline, &small()).images, plain);
        assert!(!pipeline.is_loaded(Component::ControlNet));
        assert_eq!(draw(&mut pipeline, &request()).images, expected);
        let description = pipeline.checkpoint().unwrap().describe(None).unwrap();
        assert_eq!(description.parts.len(), 6);
        let [.., transformer, vae, controlnet] = description.parts.as_slice() else {
            panic!("{description}")
        };
        assert_eq!(controlnet.part, Component::ControlNet);
        assert!(description.to_string().contains("SanaControlNetModel"));
        let json = serde_json::to_value(&description).unwrap();
        assert_eq!(json["parts"][5]["part"], "controlnet");
        // The two are in memory together.
        let f32 = &description.memory[0];
        let denoising = transformer.parameters + controlnet.parameters;
        assert_eq!(f32.one_stage, 4 * denoising.max(vae.parameters));
    }
    // The one that is named comes first.
    let other = tempfile::tempdir().unwrap();
    write_controlnet(
        &Checkpoint::open(&sana_folder()).unwrap(),
        None,
        1,
        &other.path().join("new"),
        None,
        &device(),
    )
    .unwrap();
    let mut pipeline = load_with(checkpoint.path(), with(&other.path().join("new")));
    assert_eq!(
        pipeline.controlnet_config().unwrap().transformer.num_layers,
        1
    );
    assert_eq!(draw(&mut pipeline, &request()).images, plain);

    // Damaged weights of it are found when the checkpoint is opened.
    fs::write(inner.join(WEIGHTS), "no weights").unwrap();
    let error = SanaPipeline::load(checkpoint.path(), &device()).unwrap_err();
    assert!(
        matches!(
            error,
            PipelineError::Checkpoint(CheckpointError::Weights(_))
        ),
        "{error}"
    );
    assert!(error.to_string().contains("controlnet"), "{error}");
    fs::remove_file(inner.join("config.json")).unwrap();
    let error = SanaPipeline::load(checkpoint.path(), &device()).unwrap_err();
    assert!(matches!(
        error,
        PipelineError::Checkpoint(CheckpointError::Incomplete { .. })
    ));
    assert!(error.to_string().contains("controlnet/config.json"));
}

#[test]
fn folders_that_do_not_fit() {
    let place = tempfile::tempdir().unwrap();
    let error = open_error(&sana_folder(), &place.path().join("nowhere"));
    assert!(matches!(
        error,
        PipelineError::Checkpoint(CheckpointError::NoFolder { .. })
    ));

    let error = open_error(&sana_folder(), place.path());
    assert!(matches!(
        error,
        PipelineError::Checkpoint(CheckpointError::NotControlNet { .. })
    ));
    assert!(error.to_string().contains("config.json"), "{error}");
    assert!(!ControlNetFolder::is_one(place.path()));
    assert!(ControlNetFolder::is_one(&folder()));

    let error = open_error(&sana_folder(), &sana_folder().join("transformer"));
    assert!(matches!(
        error,
        PipelineError::Checkpoint(CheckpointError::ComponentClass {
            component: Component::ControlNet,
            ..
        })
    ));
    assert!(
        error.to_string().contains("SanaTransformer2DModel"),
        "{error}"
    );

    let error = open_error(&sprint_folder(), &folder());
    assert!(matches!(
        error,
        PipelineError::Checkpoint(CheckpointError::ControlNet(
            ControlNetError::EmbeddedGuidance
        ))
    ));
    assert!(error.to_string().contains("Sana-Sprint"), "{error}");

    let copy = copy_of(&folder());
    fs::write(copy.path().join("config.json"), "[]").unwrap();
    let error = open_error(&sana_folder(), copy.path());
    assert!(
        matches!(
            error,
            PipelineError::Checkpoint(CheckpointError::Json { .. })
        ),
        "{error}"
    );
    assert!(!ControlNetFolder::is_one(copy.path()));

    let cases = [
        ("\"num_layers\": 2", "\"num_layers\": 3"),
        ("\"caption_channels\": 48", "\"caption_channels\": 40"),
        ("\"in_channels\": 32", "\"in_channels\": 16"),
        ("\"dropout\": 0.0", "\"dropout\": 0.5"),
    ];
    for (from, to) in cases {
        let copy = copy_of(&folder());
        edit(&copy, "config.json", from, to);
        let error = open_error(&sana_folder(), copy.path());
        let as_expected =
            match &error {
                PipelineError::Checkpoint(CheckpointError::ControlNet(
                    ControlNetError::Blocks { found, .. },
                )) => *found == 3,
                PipelineError::Checkpoint(CheckpointError::ControlNet(
                    ControlNetError::Differs { found, .. },
                )) => [40, 16].contains(found),
                PipelineError::Checkpoint(CheckpointError::Config(
                    ConfigError::InvalidControlNet(text),
                )) => text.contains("dropout"),
                _ => false,
            };
        assert!(as_expected, "{to}: {error}");
    }

    let copy = copy_of(&folder());
    fs::remove_file(copy.path().join(WEIGHTS)).unwrap();
    let error = open_error(&sana_folder(), copy.path());
    assert!(matches!(
        error,
        PipelineError::Checkpoint(CheckpointError::Weights(WeightError::NoWeights { .. }))
    ));
    // Tensors of another number of blocks are found before they are read.
    let copy = copy_of(&folder());
    edit(
        &copy,
        "config.json",
        "\"num_layers\": 2",
        "\"num_layers\": 1",
    );
    let error = open_error(&sana_folder(), copy.path());
    assert!(matches!(
        error,
        PipelineError::Checkpoint(CheckpointError::Weights(WeightError::Mismatch { .. }))
    ));
    assert!(error.to_string().contains("controlnet_blocks.1.weight"));
}

/// Weight files of a variant, and shards with their index.
#[test]
fn forms_of_weight_files() {
    let expected = latents(&mut controlled(), &request());
    let copy = copy_of(&folder());
    let file = copy.path().join(WEIGHTS);
    let fp16 = WEIGHTS.replace(".safetensors", ".fp16.safetensors");
    fs::rename(&file, copy.path().join(&fp16)).unwrap();
    let options = LoadOptions {
        variant: Some("fp16".to_owned()),
        ..with(copy.path())
    };
    let mut pipeline = load_with(&sana_folder(), options);
    // Its name says that it was trained in f16, and the limit is far above these values.
    assert_eq!(latents(&mut pipeline, &request()), expected);

    let weights = Weights::open_file(&copy.path().join(&fp16)).unwrap();
    fs::remove_file(copy.path().join(&fp16)).unwrap();
    let whole = Fixture::at(&folder().join(WEIGHTS));
    let names: Vec<&str> = weights.names().collect();
    let (first, second) = names.split_at(names.len() / 2);
    let mut map = serde_json::Map::new();
    for (number, names) in [(1, first), (2, second)] {
        let shard = format!("diffusion_pytorch_model-{number:05}-of-00002.safetensors");
        let tensors = names.iter().map(|name| {
            map.insert((*name).to_owned(), shard.clone().into());
            let values: Vec<f32> = whole.values(name).iter().map(|v| *v as f32).collect();
            let data = burn::tensor::TensorData::new(values, whole.shape(name));
            ((*name).to_owned(), data)
        });
        let tensors = tensors.collect();
        write_tensors(&copy.path().join(&shard), tensors).unwrap();
    }
    let index = serde_json::json!({ "metadata": {}, "weight_map": map });
    let path = copy.path().join(format!("{WEIGHTS}.index.json"));
    fs::write(path, index.to_string()).unwrap();
    let mut pipeline = load_with(&sana_folder(), with(copy.path()));
    assert_eq!(latents(&mut pipeline, &request()), expected);
}

#[test]
fn values_that_are_not_finite() {
    let copy = copy_of(&folder());
    poison(&copy.path().join(WEIGHTS), "controlnet_blocks.1.bias");
    let mut pipeline = load_with(&sana_folder(), with(copy.path()));
    let conditioning = pipeline.encode_prompt(&request()).unwrap();
    let error = pipeline.sample(&request(), &conditioning, &mut |_| StepAction::Continue);
    assert!(matches!(
        error,
        Err(PipelineError::StepNotFinite { step: 1, .. })
    ));

    let nan = ControlImage::Latents(Tensor::full([1, 32, 1, 2], f32::NAN, &device()));
    let error = controlled().encode_control(&small().control(nan));
    assert!(matches!(
        error,
        Err(PipelineError::NotFinite {
            stage: "control",
            ..
        })
    ));
}

/// In f16 where the transformer is.
#[test]
fn f16_like_the_transformer() {
    let options = LoadOptions {
        dtype: Some(DType::F16),
        ..with(&folder())
    };
    let mut pipeline = load_with(&sana_folder(), options);
    assert_eq!(pipeline.controlnet().unwrap().dtype(), DType::F16);
    assert!(pipeline.notes().is_empty());
}
