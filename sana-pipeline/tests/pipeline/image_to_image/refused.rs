//! What does not fit together.

use super::*;

fn refused(request: Request) -> RequestError {
    let mut pipeline = sana();
    let error = request.validate(pipeline.spec()).unwrap_err();
    // Found before anything is loaded.
    assert!(pipeline.generate(&request, &mut keep_running).is_err());
    let networks = [
        Component::TextEncoder,
        Component::Transformer,
        Component::Vae,
    ];
    assert!(!networks.iter().any(|part| pipeline.is_loaded(*part)));
    error
}

fn refused_edit(request: Request) -> ImageToImageError {
    match refused(request) {
        RequestError::ImageToImage(error) => error,
        other => panic!("{other}"),
    }
}

#[test]
fn options_without_a_image() {
    let latents = Tensor::zeros([1, 32, 2, 3], &device());
    for (request, expected) in [
        (small().strength(0.5), "a strength"),
        (small().mask(mask(hole)), "a mask"),
        (small().image_latents(latents).mask(mask(hole)), "a mask"),
    ] {
        let error = refused_edit(request);
        assert_eq!(error, ImageToImageError::NoImage { option: expected });
        assert!(error.to_string().contains("needs an image"), "{error}");
    }
}

#[test]
fn images_and_masks_that_do_not_fit() {
    let prompts = || Request::batch(["a", "b", "c"]);
    let two = prompts().images([photo(1), photo(2)]);
    let expected = ImageToImageError::ImageCount {
        expected: 3,
        found: 2,
    };
    assert_eq!(refused_edit(two), expected);
    let empty = small().image(RgbImage::new(0, 5));
    let expected = ImageToImageError::EmptyImage {
        index: 0,
        width: 0,
        height: 5,
    };
    assert_eq!(refused_edit(empty.clone()), expected);
    assert_eq!(refused_edit(empty.mask(GrayImage::new(0, 5))), expected);

    let error = refused_edit(edit().mask(GrayImage::new(64, 96)));
    let expected = ImageToImageError::MaskSize {
        mask: [64, 96],
        image: [96, 64],
    };
    assert_eq!(error, expected);
    assert!(error.to_string().contains("64x96"), "{error}");

    let black = mask(|_, _| false);
    let grey = GrayImage::from_pixel(96, 64, [127].into());
    // Its white is in what is cut off.
    let cut_off = mask(|x, _| x < 10);
    for request in [
        edit().mask(black),
        edit().mask(grey),
        edit().size(32, 64).mask(cut_off),
    ] {
        let error = refused_edit(request);
        assert!(
            matches!(error, ImageToImageError::EmptyMask { .. }),
            "{error}"
        );
        assert!(
            error.to_string().contains("nothing to regenerate"),
            "{error}"
        );
    }
}

#[test]
fn strengths_that_do_not_work() {
    for found in [0.0, -1.0, 1.5] {
        let error = refused(edit().strength(found));
        let expected = SamplerError::InvalidStrength { found };
        assert!(matches!(error, RequestError::Sampler(error) if error == expected));
    }
    let nan = refused(edit().strength(f64::NAN)).to_string();
    assert!(nan.contains("above 0 and at most 1, found NaN"), "{nan}");
    let error = refused(edit().strength(0.2));
    assert!(error.to_string().contains("none of 4 steps"), "{error}");
    let error = edit().steps(1).validate(sprint().spec()).unwrap_err();
    assert!(matches!(
        error,
        RequestError::Sampler(SamplerError::StrengthTooSmall { steps: 1, .. })
    ));
}

#[test]
fn tensors_that_do_not_fit() {
    let zeros = |shape| Tensor::<4>::zeros(shape, &device());
    let ready = |shape| Request::new("a").image_latents(zeros(shape)).size(96, 64);
    ready([1, 32, 2, 3]).validate(sana().spec()).unwrap();
    for shape in [[1, 16, 2, 3], [1, 32, 3, 2], [2, 32, 2, 3]] {
        match refused(ready(shape)) {
            RequestError::Shape { what, found, .. } => {
                assert_eq!(what, "the image's latents");
                assert_eq!(found, shape);
            }
            other => panic!("{other}"),
        }
    }
    let settings = Request::new("a").image_latents(zeros([1, 32, 2, 3]));
    let settings = settings.validate(sana().spec()).unwrap();
    assert_eq!([settings.width, settings.height], [96, 64]);

    // Two of the four steps of Sprint run, and one of them adds noise.
    let noise = |number| vec![zeros([1, 32, 2, 3]); number];
    let request = |number| edit().strength(0.5).step_noise(noise(number));
    request(1).validate(sprint().spec()).unwrap();
    let error = request(0).validate(sprint().spec()).unwrap_err();
    assert!(matches!(
        error,
        RequestError::StepNoiseCount {
            steps: 2,
            expected: 1,
            found: 0
        }
    ));

    let request = edit().mask(mask(hole));
    let composite = |drawn| sana().composite(&request, drawn).unwrap_err();
    for drawn in [vec![], vec![photo(1); 2], vec![RgbImage::new(32, 32)]] {
        let error = composite(drawn);
        assert!(
            matches!(error, PipelineError::Request(RequestError::Shape { .. })),
            "{error}"
        );
    }
    // Without a mask there is nothing to put back.
    let drawn = vec![photo(200)];
    assert_eq!(sana().composite(&edit(), drawn.clone()).unwrap(), drawn);
}

#[test]
fn an_image_that_gives_values_that_are_not_finite() {
    let latents = Tensor::<4>::full([1, 32, 2, 3], f32::INFINITY, &device());
    let request = Request::new("a").image_latents(latents).steps(4);
    let error = sana().generate(&request, &mut keep_running).unwrap_err();
    assert!(matches!(
        error,
        PipelineError::NotFinite {
            stage: "encode",
            ..
        }
    ));
}

#[test]
fn schedules_by_name() {
    let sprint = sprint();
    let schedule = |steps, times| {
        let request = small().steps(steps).timesteps(times);
        request
            .validate(sprint.spec())
            .map(|settings| settings.schedule)
    };
    for steps in [1, 2, 4] {
        let paper = Schedule::Scm(ScmSchedule::paper(steps).unwrap());
        let ours = schedule(steps, ScmTimesteps::Paper).unwrap();
        assert_eq!(ours, paper);
        let reference = Schedule::Scm(ScmSchedule::default_for(steps).unwrap());
        assert_eq!(schedule(steps, ScmTimesteps::Reference).unwrap(), reference);
        assert_ne!(ours, reference);
    }
    let error = schedule(3, ScmTimesteps::Paper).unwrap_err();
    assert!(matches!(
        error,
        RequestError::Sampler(SamplerError::NoPaperTimesteps { found: 3 })
    ));
    assert!(error.to_string().contains("the reference's"), "{error}");

    let error = refused(small().timesteps(ScmTimesteps::Paper));
    assert!(matches!(
        error,
        RequestError::TimestepsMismatch {
            timesteps: ScmTimesteps::Paper
        }
    ));
    assert!(error.to_string().contains("Sana-Sprint"), "{error}");
    small()
        .timesteps(ScmTimesteps::Reference)
        .validate(sana().spec())
        .unwrap();
}

#[test]
fn a_mask_needs_the_exact_size() {
    let mut pipeline = sana();
    let request = edit().mask(mask(hole)).bucketed_size(90, 61);
    let error = pipeline.generate(&request, &mut keep_running).unwrap_err();
    let expected =
        PipelineError::Request(RequestError::ImageToImage(ImageToImageError::MaskInBucket));
    assert_eq!(error.to_string(), expected.to_string());
    let exact = request.size(96, 64);
    assert!(pipeline.generate(&exact, &mut keep_running).is_ok());
}
