//! Guidance: its interval, perturbed attention, projection.

use super::*;

#[test]
fn guidance_is_applied_in_its_interval_only() {
    let mut pipeline = sana();
    let request = || small().steps(4).guidance(4.5);
    let interval = |start, end| GuidanceInterval::new(start, end).unwrap();
    let guided = sampled(&mut pipeline, &request());
    let plain = sampled(&mut pipeline, &request().guidance(1.0));
    let whole = sampled(
        &mut pipeline,
        &request().guidance_interval(interval(0.0, 1.0)),
    );
    let nowhere = sampled(
        &mut pipeline,
        &request().guidance_interval(interval(0.0, 0.0)),
    );
    let partly = sampled(
        &mut pipeline,
        &request().guidance_interval(interval(0.0, 0.9)),
    );
    assert_parity("everywhere", whole, guided.clone());
    assert_parity("nowhere", nowhere, plain.clone());
    for other in [guided, plain] {
        let difference: f32 = (partly.clone() - other).abs().max().into_scalar();
        assert!(difference > 1e-4);
    }
}

/// Asserts that two runs end apart.
#[track_caller]
fn assert_apart(a: &Tensor<4>, b: &Tensor<4>) {
    let difference: f32 = (a.clone() - b.clone()).abs().max().into_scalar();
    assert!(difference > 1e-4, "{difference:e}");
}

#[test]
fn perturbed_attention_has_the_interval_of_guidance() {
    let mut pipeline = sana();
    let request = || small().steps(4).guidance(4.5).perturbed_attention(2.0);
    let interval = |start, end| GuidanceInterval::new(start, end).unwrap();
    let perturbed = sampled(&mut pipeline, &request());
    let guided = sampled(&mut pipeline, &request().perturbed_attention(0.0));
    let plain = small().steps(4).guidance(1.0);
    let plain = sampled(&mut pipeline, &plain);
    let nowhere = request().guidance_interval(interval(0.0, 0.0));
    let nowhere = sampled(&mut pipeline, &nowhere);
    let partly = request().guidance_interval(interval(0.0, 0.9));
    let partly = sampled(&mut pipeline, &partly);
    assert_parity("nowhere", nowhere, plain.clone());
    assert_apart(&perturbed, &guided);
    for other in [&perturbed, &guided, &plain] {
        assert_apart(&partly, other);
    }
}

/// Perturbed attention guides without classifier-free guidance, and needs no negative prompt then.
#[test]
fn perturbed_attention_alone() {
    let mut pipeline = sana();
    let request = || small().steps(3).guidance(1.0);
    let perturbed = request().perturbed_attention(2.0);
    let conditioning = pipeline.encode_prompt(&perturbed).unwrap();
    assert!(conditioning.negative.is_none());
    let plain = sampled(&mut pipeline, &request());
    assert_apart(&sampled(&mut pipeline, &perturbed), &plain);

    // An image of a batch is the image made alone.
    let batch = Request::batch(["a red circle", "two green triangles and more"])
        .size(64, 32)
        .steps(2)
        .negative("blurry")
        .perturbed_attention(2.0)
        .seed(5);
    let latents = sampled(&mut pipeline, &batch);
    let second = Request::new("two green triangles and more")
        .size(64, 32)
        .steps(2)
        .negative("blurry")
        .perturbed_attention(2.0)
        .seed(6);
    let second = sampled(&mut pipeline, &second);
    assert_parity("the second", latents.narrow(0, 1, 1), second);
}

#[test]
fn projected_guidance_without_its_parts_is_classifier_free() {
    let mut pipeline = sana();
    let request = || small().steps(4).guidance(6.0);
    let options = |eta, norm, momentum| AdaptiveProjection::new(eta, norm, momentum).unwrap();
    let guided = sampled(&mut pipeline, &request());
    let whole = request().projection(options(1.0, f64::INFINITY, 0.0));
    assert_parity("whole", sampled(&mut pipeline, &whole), guided.clone());
    let changed = [
        options(0.0, f64::INFINITY, 0.0),
        options(1.0, 1e-3, 0.0),
        options(1.0, f64::INFINITY, -0.5),
        AdaptiveProjection::default(),
    ];
    let changed = changed.map(|options| sampled(&mut pipeline, &request().projection(options)));
    for other in &changed {
        assert_apart(other, &guided);
    }
    // Every run starts without momentum.
    let again = request().projection(AdaptiveProjection::default());
    let again = sampled(&mut pipeline, &again);
    assert_parity("again", again, changed[3].clone());

    // Without classifier-free guidance there is nothing to project, next to which perturbed
    // attention continues.
    for scale in [0.0, 2.0] {
        let plain = request().guidance(1.0).perturbed_attention(scale);
        let projected = plain.clone().projection(AdaptiveProjection::default());
        let plain = sampled(&mut pipeline, &plain);
        assert_parity("plain", sampled(&mut pipeline, &projected), plain);
    }
    let both = request().perturbed_attention(2.0);
    let whole = both.clone().projection(options(1.0, f64::INFINITY, 0.0));
    let both = sampled(&mut pipeline, &both);
    assert_parity("both", sampled(&mut pipeline, &whole), both);
}
