//! Sizes: aspect-ratio buckets, images resized from a bucket, positions at bucket sizes.

use burn::tensor::{DType, Device};
use sana_linear_attn::transformer::sin_cos_positions;
use sana_pipeline::StepAction;
use sana_pipeline::checkpoint::variants;
use sana_pipeline::error::RequestError;
use sana_pipeline::request::Settings;

use super::*;

/// The checkpoint of the fixtures as a model of so many latents on a side.
fn trained_at(sample_size: usize) -> (TempDir, SanaPipeline) {
    let folder = copy_of(&sana_folder());
    let changed = format!("\"sample_size\": {sample_size}");
    let config = "transformer/config.json";
    edit(&folder, config, "\"sample_size\": 32", &changed);
    let pipeline = SanaPipeline::load(folder.path(), &device()).unwrap();
    (folder, pipeline)
}

fn settings(pipeline: &SanaPipeline, request: Request) -> Settings {
    request.validate(pipeline.spec()).unwrap()
}

fn refused(request: Request) -> RequestError {
    request.validate(sana().spec()).unwrap_err()
}

#[test]
fn an_aspect_ratio_is_a_bucket_of_the_model_s_own_table() {
    let cases = [
        (16, [672, 384], [480, 512]),
        (32, [1344, 768], [960, 1024]),
        (64, [2688, 1536], [1920, 2048]),
        (128, [5376, 3072], [3840, 4096]),
        // No table is published for 128 pixels.
        (4, [160, 96], [128, 128]),
    ];
    for (sample_size, wide, tall) in cases {
        let (_folder, pipeline) = trained_at(sample_size);
        let size = |width, height| {
            let settings = settings(&pipeline, Request::new("a").aspect(width, height));
            assert_eq!(settings.output_size, None);
            [settings.width, settings.height]
        };
        assert_eq!(size(16.0, 9.0), wide);
        assert_eq!(size(1.77, 1.0), wide);
        assert_eq!(size(15.0, 16.0), tall);
        assert_eq!(size(1.0, 1.0), pipeline.spec().defaults().size);
        let [widest, _] = size(100.0, 1.0);
        assert_eq!(widest, 2 * pipeline.spec().defaults().size[0]);
    }
}

#[test]
fn a_bucketed_size_is_made_in_its_bucket() {
    let pipeline = sana();
    let of = |width, height| {
        let settings = settings(&pipeline, Request::new("a").bucketed_size(width, height));
        ([settings.width, settings.height], settings.output_size)
    };
    assert_eq!(of(1920, 1080), ([1344, 768], Some([1920, 1080])));
    assert_eq!(of(333, 500), ([832, 1216], Some([333, 500])));
    assert_eq!(of(1, 1), ([1024, 1024], Some([1, 1])));
    // Nothing to resize.
    assert_eq!(of(1024, 1024), ([1024, 1024], None));
    assert_eq!(of(1344, 768), ([1344, 768], None));
    // The last word counts.
    let request = Request::new("a").bucketed_size(333, 500).size(64, 96);
    let settings = settings(&pipeline, request);
    assert_eq!((settings.width, settings.output_size), (64, None));
}

#[test]
fn an_image_of_a_bucket_is_resized_and_cropped() {
    let (_folder, mut pipeline) = trained_at(2);
    let generate = |pipeline: &mut SanaPipeline, request: Request| {
        let request = request.steps(1).guidance(1.0).seed(3);
        let mut keep_running = |_: sana_pipeline::StepInfo<'_>| StepAction::Continue;
        let generation = pipeline.generate(&request, &mut keep_running).unwrap();
        generation.images.into_iter().next().unwrap()
    };
    let whole = generate(&mut pipeline, Request::new("a").size(64, 64));
    let cropped = generate(&mut pipeline, Request::new("a").bucketed_size(64, 60));
    assert_eq!(cropped.dimensions(), (64, 60));
    // As wide as the bucket, so nothing is resized: two rows are cut off on both sides.
    for (x, y, pixel) in cropped.enumerate_pixels() {
        assert_eq!(pixel, whole.get_pixel(x, y + 2));
    }
    let larger = generate(&mut pipeline, Request::new("a").bucketed_size(97, 101));
    assert_eq!(larger.dimensions(), (97, 101));
}

#[test]
fn sizes_that_are_not_sizes() {
    for (width, height) in [(0, 64), (64, 0), (usize::MAX, 64), (64, 16385)] {
        let error = refused(Request::new("a").bucketed_size(width, height));
        assert!(matches!(error, RequestError::OutputSize { .. }), "{error}");
        assert!(error.to_string().contains("16384"), "{error}");
    }
    for (width, height) in [
        (0.0, 1.0),
        (1.0, -1.0),
        (f64::NAN, 1.0),
        (1.0, f64::INFINITY),
    ] {
        let error = refused(Request::new("a").aspect(width, height));
        assert!(matches!(error, RequestError::Aspect { .. }), "{error}");
        assert!(error.to_string().contains("positive"), "{error}");
    }
    let extreme = Request::new("a").aspect(f64::MIN_POSITIVE, f64::MAX);
    assert_eq!(settings(&sana(), extreme).height, 2048);
    // A bucket is a size like any other to what comes with the request.
    let latents = burn::tensor::Tensor::zeros([1, 32, 2, 2], &device());
    let error = refused(Request::new("a").aspect(1.0, 1.0).latents(latents));
    assert!(matches!(error, RequestError::Shape { .. }), "{error}");
}

#[test]
fn sizes_far_from_what_the_model_was_trained_at_are_reported() {
    let (_folder, pipeline) = trained_at(4);
    let note = |width, height| {
        let settings = settings(&pipeline, Request::new("a").size(width, height));
        pipeline.spec().size_note(settings.size())
    };
    for (width, height) in [(128, 128), (256, 64), (256, 128), (64, 128)] {
        assert_eq!(note(width, height), None, "{width}x{height}");
    }
    for (width, height, ratio) in [(512, 64, "8.00"), (32, 512, "0.06")] {
        let note = note(width, height).unwrap();
        let expected = format!("{ratio} times as wide as high; the model was trained at 0.25 to 4");
        assert!(note.contains(&expected), "{note}");
    }
    let large = note(256, 160).unwrap();
    assert!(large.contains("256x160 has 2.5 times more"), "{large}");
    let small = note(32, 128).unwrap();
    assert!(small.contains("4.0 times fewer"), "{small}");
    assert!(small.contains("128x128"), "{small}");
}

/// Positions of the 2K and 4K models at sizes of their tables, against `get_2d_sincos_pos_embed` of
/// diffusers 0.42.1: rows of the table, at the first token but one, the last and one between.
#[test]
fn positions_of_buckets() {
    const CHANNELS: [usize; 10] = [0, 1, 300, 560, 840, 1120, 1121, 1500, 1680, 2239];
    type Row = ([usize; 2], [f64; 10]);
    #[rustfmt::skip]
    let wide: [Row; 3] = [
        ([0, 1], [0.664834857, 0.655926287, 0.00523405382, 0.746990323, 0.999973536,
                  0.0, 0.0, 0.0, 1.0, 1.0]),
        ([43, 87], [0.426730871, -0.557409942, 0.439789921, 0.904378653, 0.806417763,
                    -0.282497942, -0.965321302, 0.120463103, 0.959267914, 0.999979794]),
        ([22, 3], [0.819062173, 0.838957846, 0.0157015882, -0.573704779, 0.999761999,
                   0.551426709, 0.062032897, 0.0617430322, 0.83422339, 0.999994695]),
    ];
    #[rustfmt::skip]
    let tall: [Row; 3] = [
        ([0, 1], [0.841470957, 0.832545757, 0.00719679473, 0.540302277, 0.999949992,
                  0.0, 0.0, 0.0, 1.0, 1.0]),
        ([255, 63], [0.167355701, -0.757543683, 0.438026309, 0.985896587, 0.808027506,
                     0.794477642, -0.121475615, 0.122771449, 0.607293427, 0.999979019]),
        ([128, 3], [0.141120002, 0.189379543, 0.0215888936, -0.989992499, 0.999550045,
                    0.551426709, 0.062032897, 0.0617430322, 0.83422339, 0.999994695]),
    ];
    for (name, aspect, [height, width], rows) in [
        ("sana-1600m-2kpx", 2.0, [44, 88], wide),
        ("sana-1600m-4kpx", 0.25, [256, 64], tall),
    ] {
        let config = variants::find(name).unwrap().transformer();
        let buckets = sana_pipeline::spec::Buckets::of_model(32 * config.sample_size, 32);
        let size = buckets.nearest(1.0 / aspect);
        assert_eq!(size, [32 * height, 32 * width], "{name}");
        let (base, scale) = (config.sample_size, config.interpolation_scale.unwrap());
        let grid = [height, width];
        let (device, dtype) = (Device::flex(), DType::F32);
        let table = sin_cos_positions(config.width(), grid, base, scale, &device, dtype);
        let table: Vec<f32> = table.into_data().try_into_vec().unwrap();
        assert_eq!(table.len(), height * width * config.width());
        for ([y, x], expected) in rows {
            let row = &table[(y * width + x) * config.width()..][..config.width()];
            for (channel, expected) in CHANNELS.into_iter().zip(expected) {
                let ours = f64::from(row[channel]);
                // Sines of f32 positions up to 64.
                assert!(
                    (ours - expected).abs() < 1e-5,
                    "{name} at {y}, {x}, {channel}: {ours}, expected {expected}"
                );
            }
        }
    }
}
