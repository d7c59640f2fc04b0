//! Masks.

use super::*;

/// The hole and the pixels around it that a feather reaches: nearer than `feather + 1`.
fn feathered(x: u32, y: u32, feather: u32) -> bool {
    let across = x.saturating_sub(55).max(40u32.saturating_sub(x));
    let down = y.saturating_sub(29).max(10u32.saturating_sub(y));
    across * across + down * down < (feather + 1) * (feather + 1)
}

#[test]
fn what_the_mask_keeps_is_kept_byte_for_byte() {
    let euler = edit().solver(Solver::FlowEuler);
    for (mut pipeline, request) in [(sana(), edit()), (sana(), euler), (sprint(), edit())] {
        for strength in [0.5, 1.0] {
            for feather in [0, 4] {
                let request = request.clone().mask(mask(hole)).strength(strength);
                let request = request.mask_feather(feather);
                let image = pipeline
                    .generate(&request, &mut keep_running)
                    .unwrap()
                    .images
                    .remove(0);
                assert_kept(&image, &photo(7), |x, y| !feathered(x, y, feather));
                let changed = image
                    .enumerate_pixels()
                    .filter(|(x, y, pixel)| *pixel != photo(7).get_pixel(*x, *y));
                let changed: HashSet<bool> = changed.map(|(x, y, _)| hole(x, y)).collect();
                assert!(changed.contains(&true));
                // The feather is where both are mixed.
                assert_eq!(changed.contains(&false), feather > 0);
            }
        }
    }
}

/// Every pixel of an image of another size, resized and cut as the image is.
#[test]
fn image_and_mask_are_fitted_together() {
    let mut pipeline = sana();
    let request = edit().mask(mask(hole)).size(64, 64);
    let image = pipeline
        .generate(&request, &mut keep_running)
        .unwrap()
        .images
        .remove(0);
    // The middle 64 columns are left, so the hole is 16 further to the left.
    let cut = RgbImage::from_fn(64, 64, |x, y| *photo(7).get_pixel(x + 16, y));
    assert_kept(&image, &cut, |x, y| !hole(x + 16, y));
}

/// After every step the cells that stay lie on the path of the image; at the end they are its
/// latents exactly.
#[test]
fn the_observer_sees_the_known_region_on_its_path() {
    let mut pipeline = sana();
    let request = edit().mask(mask(hole)).seed(2);
    let known = pipeline.encode_image(&photo(7)).unwrap();
    let initial = noise::latents(2, 0, known.dims(), &device());
    let Schedule::Flow(schedule) = request.validate(pipeline.spec()).unwrap().schedule else {
        panic!("a flow model")
    };
    // The hole is in the cell 0, 1 of the 2 x 3.
    let last = |tensor: Tensor<4>| values(tensor.narrow(2, 1, 1));
    let cell = |tensor: Tensor<4>| values(tensor.narrow(2, 0, 1).narrow(3, 1, 1));
    let conditioning = pipeline.encode_prompt(&request).unwrap();
    let mut seen = 0;
    let result = pipeline
        .sample(&request, &conditioning, &mut |step| {
            let sigma = schedule.sigmas()[step.index + 1];
            let path = known.clone() * (1.0 - sigma) + initial.clone() * sigma;
            assert_eq!(last(step.latents), last(path));
            assert_eq!(last(step.denoised.clone()), last(known.clone()));
            assert_ne!(cell(step.denoised), cell(known.clone()));
            seen += 1;
            StepAction::Continue
        })
        .unwrap();
    assert_eq!(seen, 4);
    assert_eq!(last(result.clone()), last(known.clone()));
    assert_ne!(cell(result), cell(known));
}

/// In consistency sampling the known region has the noise of the step, as the rest has.
#[test]
fn the_known_region_of_sprint_has_the_step_s_noise() {
    let mut pipeline = sprint();
    let known = pipeline.encode_image(&photo(7)).unwrap();
    let noises: Vec<Tensor<4>> = (0..3)
        .map(|step| noise::step_noise(4, 0, step, known.dims(), &device()))
        .collect();
    let request = edit().mask(mask(hole)).step_noise(noises.clone());
    let times = ScmSchedule::default_for(4).unwrap().timesteps().to_vec();
    let last = |tensor: Tensor<4>| tensor.narrow(2, 1, 1);
    let conditioning = pipeline.encode_prompt(&request).unwrap();
    let mut seen = 0;
    let result = pipeline
        .sample(&request, &conditioning, &mut |step| {
            let (sin, cos) = times[step.index + 1].sin_cos();
            let noise = noises
                .get(step.index)
                .map_or(known.zeros_like(), Clone::clone);
            let path = (known.clone() * cos + noise * sin) * 0.5;
            assert_parity("path", last(step.latents), last(path));
            seen += 1;
            StepAction::Continue
        })
        .unwrap();
    assert_eq!(seen, 4);
    assert_eq!(values(last(result)), values(last(known)));
}

/// What is outside of the mask has no part in an image that is white all over.
#[test]
fn a_mask_that_is_all_white_is_text_to_image() {
    let mut pipeline = sana();
    let euler = |request: Request| request.steps(3).solver(Solver::FlowEuler);
    let masked = euler(edit()).mask(mask(|_, _| true));
    let masked = pipeline.generate(&masked, &mut keep_running).unwrap();
    let plain = euler(Request::new("a red circle").size(96, 64));
    let plain = pipeline.generate(&plain, &mut keep_running).unwrap();
    assert_eq!(masked.images, plain.images);
}

#[test]
fn stopping_and_exchanging_with_a_mask() {
    for mut pipeline in [sana(), sprint()] {
        let request = edit().mask(mask(hole));
        let known = pipeline.encode_image(&photo(7)).unwrap();
        let conditioning = pipeline.encode_prompt(&request).unwrap();
        let last = |tensor: Tensor<4>| values(tensor.narrow(2, 1, 1));
        let mut seen = Vec::new();
        let stopped = pipeline
            .sample(&request, &conditioning, &mut |step| {
                seen.push(step.denoised);
                match seen.len() {
                    2 => StepAction::Stop,
                    _ => StepAction::Continue,
                }
            })
            .unwrap();
        assert_eq!(seen.len(), 2);
        // The estimate with the known region in it; of consistency sampling in units of sigma_data.
        let unit = match pipeline.spec().defaults().solver {
            Solver::Scm => 0.5,
            _ => 1.0,
        };
        let expected = seen[1].clone() / unit;
        assert_eq!(values(stopped.clone()), values(expected));
        assert_eq!(last(stopped), last(known));
        let generation = pipeline
            .generate(&request, &mut |_| StepAction::Stop)
            .unwrap();
        assert!(generation.stopped);
        assert_kept(&generation.images[0], &photo(7), |x, y| !hole(x, y));

        // The last word is the user's.
        for with_estimate in [false, true] {
            let zero = pipeline
                .sample(&request, &conditioning, &mut |step| {
                    let latents = step.latents.zeros_like();
                    match (step.index, with_estimate) {
                        (3, false) => StepAction::ContinueFrom(latents),
                        (3, true) => StepAction::ContinueWith {
                            latents,
                            denoised: step.denoised,
                        },
                        _ => StepAction::Continue,
                    }
                })
                .unwrap();
            assert!(values(zero).iter().all(|value| *value == 0.0));
        }
    }
}
