//! Images made larger in a second pass.

use super::*;

#[test]
fn only_the_larger_images_are_delivered() {
    let mut pipeline = sana();
    let request = small().count(2).seed(5).hires(2.0);
    let settings = request.validate(pipeline.spec()).unwrap();
    assert_eq!(settings.size(), [64, 32]);
    let hires = settings.hires.unwrap();
    assert_eq!(
        (hires.width, hires.height, hires.strength, hires.steps),
        (128, 64, 0.5, 1)
    );
    let (mut delivered, mut steps) = (Vec::new(), Vec::new());
    let made = pipeline.generate_each(
        &request,
        &mut |step: StepInfo<'_>| {
            steps.push((step.index, step.steps));
            StepAction::Continue
        },
        &mut |index, image| {
            delivered.push((index, image.dimensions()));
            Ok(())
        },
    );
    let made = made.unwrap();
    assert_eq!(delivered, [(0, (128, 64)), (1, (128, 64))]);
    assert_eq!(steps, [(0, 2), (1, 2), (0, 1)]);
    assert_eq!(made.seeds, [5, 6]);
    // The second image is that of its seed made alone.
    let alone = small().seed(6).hires(2.0);
    let alone = pipeline.generate(&alone, &mut keep_running).unwrap();
    let close = sana_pipeline::image::psnr(&alone.images[0], &made.images[1]).unwrap();
    assert!(close > 60.0, "{close}");
}

#[test]
fn a_run_that_is_stopped_in_the_first_pass_ends_there() {
    let mut delivered = 0;
    let made = sana().generate_each(
        &small().hires(2.0),
        &mut |_: StepInfo<'_>| StepAction::Stop,
        &mut |_, image| {
            delivered += 1;
            assert_eq!(image.dimensions(), (64, 32));
            Ok(())
        },
    );
    let made = made.unwrap();
    assert!(made.stopped);
    assert_eq!((delivered, made.images[0].dimensions()), (1, (64, 32)));
}

#[test]
fn the_memory_is_that_of_the_larger_images() {
    let pipeline = sana();
    let need = |request: Request| {
        let estimate = pipeline.memory_estimate(&request).unwrap();
        estimate.one_stage_at_a_time(false)
    };
    let (first, larger) = (small().size(512, 256), small().size(4096, 2048));
    let hires = need(first.clone().hires(8.0));
    assert_eq!(hires, need(larger.image(photo(1))));
    assert!(hires > need(first));
}

#[test]
fn what_a_second_pass_cannot_be_with() {
    let pipeline = sana();
    let refused = |request: Request| request.validate(pipeline.spec()).unwrap_err();
    for scale in [1.0, 0.5, 8.1, f64::NAN, f64::INFINITY] {
        let error = refused(small().hires(scale));
        assert!(matches!(error, RequestError::HiresScale { .. }), "{error}");
    }
    let masked = small().image(photo(1)).mask(mask(hole)).hires(2.0);
    let bucketed = Request::new("a").bucketed_size(70, 70).hires(2.0);
    for (request, expected) in [(masked, "a mask"), (bucketed, "a bucket")] {
        let error = refused(request);
        assert!(
            matches!(error, RequestError::HiresWith { with } if with == expected),
            "{error}"
        );
    }
    let settings = small()
        .hires_strength(0.5)
        .validate(pipeline.spec())
        .unwrap();
    assert!(
        settings.notes()[1].contains("second pass"),
        "{:?}",
        settings.notes()
    );
}
