//! What a request says of its control image.

use super::*;

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
                    Err(RequestError::NoControlImage { .. }) => latents(&mut sana(), &request),
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

fn refused(pipeline: &SanaPipeline, request: Request) -> RequestError {
    request.validate(pipeline.spec()).unwrap_err()
}

#[test]
fn requests_that_do_not_fit() {
    let pipeline = controlled();
    let error = refused(&sana(), request());
    assert!(matches!(error, RequestError::NoControlNet));
    assert!(error.to_string().contains("no ControlNet"), "{error}");

    let error = refused(&pipeline, small());
    assert!(matches!(error, RequestError::NoControlImage { .. }));
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
        matches!(error, RequestError::ControlCount { expected: e, found: f } if (e, f) == (expected, found))
    );
    for scale in [-0.1, f64::NAN, f64::INFINITY] {
        let error = refused(&pipeline, request().control_scale(scale));
        assert!(matches!(error, RequestError::ControlScale { .. }));
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
        assert!(matches!(error, RequestError::ControlInterval { .. }));
        assert!(
            error.to_string().contains(&format!("{start}..{end}")),
            "{error}"
        );
    }
    for (width, height) in [(0, 0), (0, 7), (7, 0)] {
        let error = refused(&pipeline, small().control(RgbImage::new(width, height)));
        assert!(matches!(error, RequestError::EmptyImage { .. }));
        assert!(error.to_string().contains("control image"), "{error}");
    }
    for shape in [[1, 32, 2, 2], [2, 32, 1, 2], [1, 31, 1, 2]] {
        let wrong = ControlImage::Latents(Tensor::zeros(shape, &device()));
        let error = refused(&pipeline, small().control(wrong));
        assert!(matches!(
            error,
            RequestError::Shape {
                what: "the control latents",
                ..
            }
        ));
    }
}
