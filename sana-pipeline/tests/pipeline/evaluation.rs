//! The scene evaluation's loop, on a model that knows nothing.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sana_pipeline::evaluate::{EvaluateOptions, evaluate, evaluate_autoencoder};
use sana_pipeline::image::RgbImage;
use sana_pipeline::scenes::{Category, ScenePrompt};

use super::*;

#[test]
fn every_category_is_evaluated() {
    let folder = copy_of(&sana_folder());
    edit(
        &folder,
        "transformer/config.json",
        "\"sample_size\": 32",
        "\"sample_size\": 2",
    );
    let mut pipeline = SanaPipeline::load(folder.path(), &device()).unwrap();
    let options = EvaluateOptions::default()
        .prompts_per_category(1)
        .seed(3)
        .steps(1)
        .guidance(1.0)
        .batch(4);
    let mut calls = Vec::new();
    let report = evaluate(&mut pipeline, &options, &mut |done, all| {
        calls.push((done, all))
    });
    let report = report.unwrap();
    assert_eq!(calls, [(4, 6), (6, 6)]);
    assert_eq!(report.categories().len(), Category::ALL.len());
    assert!(report.categories().iter().all(|score| score.total == 1));
    assert!(report.overall().unwrap() < 1.0);
}

/// The PSNR over all images is that of their mean square error, not the mean of theirs.
#[test]
fn the_autoencoder_is_evaluated_alone() {
    let folder = copy_of(&sana_folder());
    edit(
        &folder,
        "transformer/config.json",
        "\"sample_size\": 32",
        "\"sample_size\": 2",
    );
    let mut pipeline = SanaPipeline::load(folder.path(), &device()).unwrap();
    let options = EvaluateOptions::default().prompts_per_category(1).seed(3);
    let mut calls = 0;
    let result = evaluate_autoencoder(&mut pipeline, &options, &mut |_, all| {
        calls += 1;
        assert_eq!(all, 6);
    });
    let result = result.unwrap();
    assert_eq!(calls, 6);
    assert!(
        result
            .report
            .categories()
            .iter()
            .all(|score| score.total == 1)
    );

    let prompts = ScenePrompt::held_out_set(1, 3);
    let errors = prompts.iter().enumerate().map(|(index, prompt)| {
        let mut rng = ChaCha8Rng::seed_from_u64(index as u64);
        let scene = prompt.scene(&mut rng).render(64);
        let original = RgbImage::from_raw(64, 64, scene.into_rgb()).unwrap();
        let latents = pipeline.encode_image(&original).unwrap();
        let again = pipeline.decode(latents).unwrap().remove(0);
        let pairs = original.iter().zip(again.iter());
        let squares = pairs.map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
        squares.sum::<f64>() / (3.0 * 64.0 * 64.0)
    });
    let error = errors.sum::<f64>() / 6.0;
    let psnr = 10.0 * (255.0 * 255.0 / error).log10();
    assert!((result.psnr - psnr).abs() < 1e-9, "{} {psnr}", result.psnr);
}
