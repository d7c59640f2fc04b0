//! A ControlNet next to the reference's tiny checkpoint.

use sana_pipeline::{CheckpointError, RequestError};
use std::fs;

use burn::tensor::{DType, Tensor};
use sana_linear_attn::parity::{Fixture, dropped_in_fixtures, tolerance, values};
use sana_linear_attn::transformer::{ConfigError, ControlNetError};
use sana_linear_attn::weights::write_tensors;
use sana_linear_attn::{WeightError, Weights};
use sana_pipeline::create::write_controlnet;
use sana_pipeline::image::{RgbImage, fit};
use sana_pipeline::{
    Component, ControlImage, ControlNetFolder, Generation, MemoryPolicy, PipelineError, StepAction,
};
use sana_sampler::GuidanceInterval;

use super::parity::{Reference, sampled};
use super::*;

const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";
const NETWORKS: [Component; 4] = [
    Component::TextEncoder,
    Component::Transformer,
    Component::Vae,
    Component::ControlNet,
];

/// The crate's own ControlNet.
fn folder() -> PathBuf {
    built_in_fixture_path(CRATE, "pipeline/controlnet/controlnet")
}

fn with(controlnet: &Path) -> LoadOptions {
    LoadOptions {
        controlnet: Some(controlnet.to_path_buf()),
        ..LoadOptions::default()
    }
}

fn controlled() -> SanaPipeline {
    load_with(&sana_folder(), with(&folder()))
}

fn open_error(checkpoint: &Path, controlnet: &Path) -> PipelineError {
    let checkpoint = Checkpoint::open(checkpoint).unwrap();
    SanaPipeline::from_checkpoint(checkpoint, with(controlnet), &device()).unwrap_err()
}

/// An image with no symmetry.
fn image(width: u32, height: u32, seed: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let value = |factor: u32| (x * factor + y * 53 + (x * y * seed) % 97 + seed * 31) as u8;
        [value(7), value(11), value(3)].into()
    })
}

/// [`small`] with a control image of its size.
fn request() -> Request {
    small().control(image(64, 32, 1))
}

fn draw(pipeline: &mut SanaPipeline, request: &Request) -> Generation {
    pipeline
        .generate(request, &mut |_| StepAction::Continue)
        .unwrap()
}

fn latents(pipeline: &mut SanaPipeline, request: &Request) -> Vec<f32> {
    values(sampled(pipeline, request))
}

/// Compares with the reference's latents, with its scale changed by a factor.
fn assert_reference(controlnet: &Reference, checkpoint: &Path, factor: f64) {
    let io = &controlnet.io;
    // The folder `controlnet` in the given one.
    let mut pipeline = load_with(checkpoint, with(&controlnet.folder));
    let image: Tensor<4> = controlnet.tensor("control_image");
    let control = pipeline.autoencoder().unwrap().encode(image).unwrap();
    let scale = io.metadata("controlnet_conditioning_scale");
    let names = io.names();
    let names = names.iter().filter(|name| name.starts_with("latent_steps"));
    let mut compared = 0;
    for name in names {
        let steps = name["latent_steps".len()..].parse().unwrap();
        let request = controlnet
            .guided_request()
            .steps(steps)
            .control(ControlImage::Latents(control.clone()))
            .control_scale(factor * scale.parse::<f64>().unwrap());
        let latents = sampled(&mut pipeline, &request);
        assert_parity(name, latents, controlnet.tensor(name));
        compared += 1;
    }
    assert!(compared > 0, "no latents in {:?}", io.path());
}

#[test]
fn latents_equal_the_reference() {
    // The ControlNet belongs to the checkpoint next to it: both are dropped in, or both are our own.
    let together = dropped_in_fixtures().is_none_or(|folder| {
        let has = |name: &str| folder.join("pipeline").join(name).exists();
        has("controlnet") == has("sana")
    });
    let open = match together {
        true => Reference::open,
        false => Reference::built_in,
    };
    let controlnet = open("controlnet");
    assert!(controlnet.io.metadata("weights").contains("pipeline/sana"));
    assert_reference(&controlnet, &open("sana").folder, 1.0);
}

/// A scale that is off by one in ten is seen, by as much more elsewhere than on the CPU as the
/// bound is wider there.
#[test]
#[should_panic(expected = "differs by")]
fn another_scale_is_seen() {
    let controlnet = Reference::built_in("controlnet");
    assert_reference(&controlnet, &sana_folder(), 1.0 + 1000.0 * tolerance());
}

/// An image of any size is fitted and encoded.
#[test]
fn images_are_encoded() {
    let mut pipeline = controlled();
    let of_size = latents(&mut pipeline, &request());
    let encoded = pipeline.encode_image(&image(64, 32, 1)).unwrap();
    let control = pipeline.encode_control(&request()).unwrap().unwrap();
    assert_eq!(values(control), values(encoded.clone()));
    let ready = small().control(ControlImage::Latents(encoded));
    assert_eq!(latents(&mut pipeline, &ready), of_size);

    let large = image(200, 170, 1);
    let fitted = latents(&mut pipeline, &small().control(fit(&large, 64, 32)));
    assert_eq!(latents(&mut pipeline, &small().control(large)), fitted);
    assert_ne!(fitted, of_size);
    assert_ne!(latents(&mut sana(), &small()), of_size);
}

#[test]
fn it_is_loaded_with_the_transformer() {
    let mut pipeline = controlled();
    assert_eq!(
        pipeline.controlnet_config().unwrap().transformer.num_layers,
        2
    );
    let conditioning = pipeline.encode_prompt(&request()).unwrap();
    let loaded = |pipeline: &SanaPipeline| NETWORKS.map(|part| pipeline.is_loaded(part));
    assert_eq!(loaded(&pipeline), [true, false, false, false]);
    let keep_running = &mut |_: sana_pipeline::StepInfo<'_>| StepAction::Continue;
    pipeline
        .sample(&request(), &conditioning, keep_running)
        .unwrap();
    assert_eq!(loaded(&pipeline), [true; 4]);
    assert_eq!(
        pipeline
            .controlnet()
            .unwrap()
            .config()
            .transformer
            .num_layers,
        2
    );

    let mut pipeline = sana();
    assert!(pipeline.controlnet_config().is_none());
    assert!(matches!(
        pipeline.controlnet(),
        Err(PipelineError::Request(RequestError::NoControlNet))
    ));
}

#[test]
fn one_stage_at_a_time_gives_the_same_images() {
    let options = LoadOptions {
        memory: MemoryPolicy::OneStageAtATime,
        ..with(&folder())
    };
    let mut pipeline = load_with(&sana_folder(), options);
    let loaded = |pipeline: &SanaPipeline| NETWORKS.map(|part| pipeline.is_loaded(part));
    let conditioning = pipeline.encode_prompt(&request()).unwrap();
    pipeline.encode_control(&request()).unwrap();
    assert_eq!(loaded(&pipeline), [false, false, true, false]);
    let latents = pipeline
        .sample(&request(), &conditioning, &mut |_| StepAction::Continue)
        .unwrap();
    assert_eq!(loaded(&pipeline), [false, true, false, true]);
    pipeline.decode(latents).unwrap();
    assert_eq!(loaded(&pipeline), [false, false, true, false]);

    let kept = draw(&mut controlled(), &request());
    let released = draw(&mut pipeline, &request());
    assert_eq!(kept.images, released.images);
    for generation in [kept, released] {
        let names: Vec<&str> = generation.stages.iter().map(|stage| stage.name).collect();
        assert_eq!(names, ["text", "control", "denoise", "decode"]);
    }
}

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

/// What training starts from leaves every image as it is, bit for bit.
#[test]
fn a_new_controlnet_changes_no_image() {
    let checkpoint = Checkpoint::open(&sana_folder()).unwrap();
    let place = tempfile::tempdir().unwrap();
    let plain = latents(&mut sana(), &small());
    for (layers, dtype) in [(1, None), (2, None), (2, Some(DType::BF16))] {
        let new = place.path().join(format!("{layers}{dtype:?}"));
        write_controlnet(&checkpoint, None, layers, &new, dtype, &device()).unwrap();
        let mut pipeline = load_with(&sana_folder(), with(&new));
        let request = request().control_scale(100.0);
        assert_eq!(
            latents(&mut pipeline, &request),
            plain,
            "{layers} {dtype:?}"
        );
        assert!(pipeline.is_loaded(Component::ControlNet));
        let description = ControlNetFolder::open(&new)
            .unwrap()
            .describe(None)
            .unwrap();
        assert_eq!((description.blocks, description.width), (layers, 40));
        let stored = if dtype.is_some() { "bf16" } else { "f32" };
        assert_eq!(description.dtypes.keys().collect::<Vec<_>>(), [stored]);
    }
    let again = place.path().join("1None");
    let error = write_controlnet(&checkpoint, None, 1, &again, None, &device()).unwrap_err();
    assert!(matches!(
        error,
        PipelineError::Checkpoint(CheckpointError::Exists { .. })
    ));
    let nowhere = place.path().join("nowhere");
    for layers in [0, 3] {
        let error = write_controlnet(&checkpoint, None, layers, &nowhere, None, &device());
        let error = error.unwrap_err();
        assert!(matches!(
            error,
            PipelineError::Checkpoint(CheckpointError::ControlNet(ControlNetError::Blocks {
                blocks: 3,
                ..
            }))
        ));
    }
    let sprint = Checkpoint::open(&sprint_folder()).unwrap();
    let error = write_controlnet(&sprint, None, 1, &nowhere, None, &device()).unwrap_err();
    let expected = ControlNetError::EmbeddedGuidance;
    assert!(
        matches!(error, PipelineError::Checkpoint(CheckpointError::ControlNet(e)) if e == expected)
    );
    let dtype = Some(DType::I32);
    let error = write_controlnet(&checkpoint, None, 1, &nowhere, dtype, &device()).unwrap_err();
    assert!(matches!(
        error,
        PipelineError::Checkpoint(CheckpointError::WeightDtype { .. })
    ));
    assert!(!nowhere.exists());
}

#[test]
fn scale_and_steps() {
    let plain = latents(&mut sana(), &small().steps(4));
    let request = || request().steps(4);
    let mut pipeline = controlled();
    // No control: neither the ControlNet nor the autoencoder is loaded.
    assert_eq!(latents(&mut pipeline, &request().control_scale(0.0)), plain);
    assert!(!pipeline.is_loaded(Component::ControlNet) && !pipeline.is_loaded(Component::Vae));
    // Shares between two steps.
    let none = request().control_interval(0.3, 0.4);
    assert_eq!(latents(&mut pipeline, &none), plain);
    let all = latents(&mut pipeline, &request());
    let whole = request().control_interval(0.0, 1.0).control_scale(1.0);
    assert_eq!(latents(&mut pipeline, &whole), all);
    let first = latents(&mut pipeline, &request().control_interval(0.0, 0.5));
    let last = latents(&mut pipeline, &request().control_interval(0.5, 1.0));
    let half = latents(&mut pipeline, &request().control_scale(0.5));
    let different = [&plain, &all, &first, &last, &half];
    for (index, one) in different.iter().enumerate() {
        assert!(
            different[..index].iter().all(|other| other != one),
            "{index}"
        );
    }
    let settings = whole.validate(pipeline.spec()).unwrap().control.unwrap();
    assert_eq!(
        (settings.scale, settings.start, settings.end),
        (1.0, 0.0, 1.0)
    );
    assert!(small().validate(sana().spec()).unwrap().control.is_none());
}

/// Image `i` of a batch is the image made alone with its control image, with guidance and
/// without.
#[test]
fn an_image_for_all_or_for_each() {
    let mut pipeline = controlled();
    let texts = ["a red circle", "two green triangles and more"];
    for guidance in [4.5, 1.0] {
        let set = |request: Request| request.size(64, 32).steps(2).guidance(guidance);
        let batch = || set(Request::batch(texts)).count(2).seed(5);
        let each = batch().controls([image(64, 32, 1), image(64, 32, 2)]);
        let each = sampled(&mut pipeline, &each);
        let shared = sampled(&mut pipeline, &batch().control(image(64, 32, 2)));
        for index in 0..4 {
            let alone = |seed| {
                let request = set(Request::new(texts[index / 2])).seed(5 + index as u64);
                request.control(image(64, 32, seed))
            };
            let expected = sampled(&mut pipeline, &alone(index as u32 / 2 + 1));
            let name = format!("image {index}, guidance {guidance}");
            assert_parity(&name, each.clone().narrow(0, index, 1), expected);
            let expected = sampled(&mut pipeline, &alone(2));
            assert_parity(&name, shared.clone().narrow(0, index, 1), expected);
        }
    }
}

/// Next to perturbed attention, and in and outside the interval of guidance.
#[test]
fn it_combines_with_guidance() {
    let mut pipeline = controlled();
    let mut found: Vec<Vec<f32>> = Vec::new();
    for request in [small(), request()] {
        for guidance in [4.5, 1.0] {
            for perturbed in [0.0, 2.0] {
                let request = request.clone().guidance(guidance);
                let request = request.perturbed_attention(perturbed).perturbed_blocks([1]);
                let made = match request.validate(pipeline.spec()) {
                    // Without an image there is to be no ControlNet.
                    Err(PipelineError::Request(RequestError::NoControlImage { .. })) => {
                        latents(&mut sana(), &request)
                    }
                    settings => {
                        assert!(settings.unwrap().control.is_some());
                        latents(&mut pipeline, &request)
                    }
                };
                assert!(made.iter().all(|value| value.is_finite()));
                assert!(!found.contains(&made));
                found.push(made);
            }
        }
    }
    // The last of two steps lies below this noise level, where there is no guidance.
    let interval = GuidanceInterval::new(0.9, 1.0).unwrap();
    let made = latents(&mut pipeline, &request().guidance_interval(interval));
    assert!(!found.contains(&made));
    let nowhere = GuidanceInterval::new(0.0, 0.0).unwrap();
    let made = sampled(&mut pipeline, &request().guidance_interval(nowhere));
    let expected = sampled(&mut pipeline, &request().guidance(1.0));
    assert_parity("no guidance", made, expected);
}

fn refused(pipeline: &SanaPipeline, request: Request) -> PipelineError {
    request.validate(pipeline.spec()).unwrap_err()
}

#[test]
fn requests_that_do_not_fit() {
    let pipeline = controlled();
    let error = refused(&sana(), request());
    assert!(matches!(
        error,
        PipelineError::Request(RequestError::NoControlNet)
    ));
    assert!(error.to_string().contains("no ControlNet"), "{error}");

    let error = refused(&pipeline, small());
    assert!(matches!(
        error,
        PipelineError::Request(RequestError::NoControlImage { .. })
    ));
    assert!(
        error.to_string().contains("needs a control image"),
        "{error}"
    );
    // Before anything is loaded.
    let mut untouched = controlled();
    assert!(
        untouched
            .generate(&small(), &mut |_| StepAction::Continue)
            .is_err()
    );
    assert!(!NETWORKS.iter().any(|part| untouched.is_loaded(*part)));

    let three = Request::batch(["a", "b", "c"]).controls([image(32, 32, 1), image(32, 32, 2)]);
    let error = refused(&pipeline, three);
    let (expected, found) = (3, 2);
    assert!(
        matches!(error, PipelineError::Request(RequestError::ControlCount { expected: e, found: f }) if (e, f) == (expected, found))
    );
    for scale in [-0.1, f64::NAN, f64::INFINITY] {
        let error = refused(&pipeline, request().control_scale(scale));
        assert!(matches!(
            error,
            PipelineError::Request(RequestError::ControlScale { .. })
        ));
        assert!(error.to_string().contains(&scale.to_string()), "{error}");
    }
    let intervals = [
        [0.5, 0.5],
        [0.6, 0.5],
        [-0.1, 1.0],
        [0.0, 1.1],
        [f64::NAN, 1.0],
    ];
    for [start, end] in intervals {
        let error = refused(&pipeline, request().control_interval(start, end));
        assert!(matches!(
            error,
            PipelineError::Request(RequestError::ControlInterval { .. })
        ));
        assert!(
            error.to_string().contains(&format!("{start}..{end}")),
            "{error}"
        );
    }
    for (width, height) in [(0, 0), (0, 7), (7, 0)] {
        let error = refused(&pipeline, small().control(RgbImage::new(width, height)));
        assert!(matches!(
            error,
            PipelineError::Request(RequestError::EmptyImage { .. })
        ));
        assert!(error.to_string().contains("control image"), "{error}");
    }
    for shape in [[1, 32, 2, 2], [2, 32, 1, 2], [1, 31, 1, 2]] {
        let wrong = ControlImage::Latents(Tensor::zeros(shape, &device()));
        let error = refused(&pipeline, small().control(wrong));
        assert!(matches!(
            error,
            PipelineError::Request(RequestError::Shape {
                what: "the control latents",
                ..
            })
        ));
    }
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
    // Tensors of another number of blocks are found when they are read.
    let copy = copy_of(&folder());
    edit(
        &copy,
        "config.json",
        "\"num_layers\": 2",
        "\"num_layers\": 1",
    );
    let mut pipeline = load_with(&sana_folder(), with(copy.path()));
    let error = pipeline.controlnet().unwrap_err();
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
