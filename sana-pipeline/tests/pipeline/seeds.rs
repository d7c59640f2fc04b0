//! A seed for each image, the prompts of a request, and the dtypes of its parts.

use burn::tensor::DType;
use sana_pipeline::StepAction;
use sana_pipeline::checkpoint::Component;
use sana_pipeline::error::RequestError;
use sana_pipeline::image::psnr;

use super::*;

/// Equal to images made alone but for the order of sums, by which some value may be another by one
/// level of 255: in one of 15 values that is 60 dB. Another seed is far below it.
#[test]
fn every_image_has_its_own_seed() {
    for mut pipeline in [sana(), sprint()] {
        let prompts = ["a red circle", "two green triangles and more"];
        let request = small().with_prompts(prompts).count(2);
        let seeds = vec![7, u64::MAX, 7, 3];
        let request = request.seed(99).seeds(seeds.clone());
        assert_eq!(request.prompts(), prompts);
        let settings = request.validate(pipeline.spec()).unwrap();
        assert_eq!((settings.seed, settings.seeds()), (7, seeds.clone()));
        let mut draw = |request: &Request| {
            let generation = pipeline.generate(request, &mut |_| StepAction::Continue);
            generation.unwrap()
        };
        let together = draw(&request);
        assert_eq!(together.seeds, seeds);
        for (index, seed) in seeds.into_iter().enumerate() {
            let alone = small().with_prompts([prompts[index / 2]]).seed(seed);
            let decibels = psnr(&together.images[index], &draw(&alone).images[0]).unwrap();
            assert!(decibels >= 60.0, "image {index}: {decibels:.1} dB");
        }
        let other = draw(&small().with_prompts([prompts[0]]).seed(8));
        assert!(psnr(&together.images[0], &other.images[0]).unwrap() < 40.0);
    }
}

#[test]
fn another_number_of_seeds_than_of_images() {
    for seeds in [vec![], vec![1], vec![1; 7]] {
        let request = Request::batch(["a", "b"]).count(3).seeds(seeds.clone());
        let error = request.validate(sana().spec()).unwrap_err();
        let message = format!("{} seeds for 6 images: give one for each", seeds.len());
        assert!(matches!(error, RequestError::SeedCount { .. }));
        assert_eq!(error.to_string(), message);
    }
}

/// Known before anything is loaded, and the same afterwards.
#[test]
fn the_dtypes_of_the_networks() {
    let networks = [
        Component::TextEncoder,
        Component::Transformer,
        Component::Vae,
    ];
    let expected = |dtype: DType| networks.map(|part| (part, dtype));
    let options = |dtype| LoadOptions {
        dtype,
        ..LoadOptions::default()
    };
    let mut pipeline = load_with(&sana_folder(), options(None));
    assert_eq!(pipeline.dtypes().unwrap(), expected(DType::F32));
    let half = load_with(&sana_folder(), options(Some(DType::BF16)));
    if half.device().supports_dtype(DType::BF16) {
        assert_eq!(half.dtypes().unwrap(), expected(DType::BF16));
    }
    assert!(!networks.iter().any(|part| pipeline.is_loaded(*part)));
    assert_eq!(pipeline.transformer().unwrap().dtype(), DType::F32);

    let scheduler = pipeline.spec().scheduler;
    let checkpoint = pipeline.checkpoint().unwrap().clone();
    let tokenizer = checkpoint.tokenizer().unwrap();
    let tokenizer =
        sana_text::PromptTokenizer::new(tokenizer, pipeline.spec().prompt_options.clone()).unwrap();
    let in_memory = SanaPipeline::from_networks(
        tokenizer,
        pipeline.text_encoder().unwrap().clone(),
        pipeline.transformer().unwrap().clone(),
        pipeline.autoencoder().unwrap().clone(),
        scheduler,
        &device(),
    );
    assert_eq!(in_memory.unwrap().dtypes().unwrap(), expected(DType::F32));
}
