//! What is next to the weights: files of another run, LoRAs, estimates.

use sana_pipeline::checkpoint::LoraMode;

use super::*;

/// What a run with other options left is not mixed with new files; a second run of the same kind replaces
/// what the first one wrote before it was interrupted.
#[test]
fn what_was_left_is_not_mixed() {
    let folder = tempfile::tempdir().unwrap();
    let part = folder.path().join("transformer");
    fs::create_dir(&part).unwrap();
    let stem = "diffusion_pytorch_model";
    let other = part.join(format!("{stem}.safetensors.index.json"));
    fs::write(&other, "{}").unwrap();
    fs::write(part.join(format!("{stem}.safetensors")), "cut").unwrap();
    for transformer in [None, Some(Quantization::Int8)] {
        let options = QuantizedOptions {
            components: QuantizeComponents {
                transformer,
                ..QuantizeComponents::both(Quantization::Int8)
            },
            rank: None,
        };
        let mut none = |_, _, _| ();
        let built_in = Checkpoint::built_in();
        let mixed = write_quantized(
            &built_in,
            None,
            &options,
            folder.path(),
            &device(),
            &mut none,
        );
        let error = mixed.unwrap_err().to_string();
        assert!(error.contains("index.json exists already"), "{error}");
        assert!(!folder.path().join("text_encoder").exists());
    }
    fs::remove_file(other).unwrap();
    let components = QuantizeComponents::both(Quantization::Int8);
    write(&Checkpoint::built_in(), components, None, folder.path());
    Checkpoint::open(folder.path()).unwrap();
}

/// A LoRA that would be merged is computed next to quantized weights, and so is the low-rank part of a file.
#[test]
fn the_estimate_knows_of_low_rank_terms() {
    let lora = built_in_fixture_path(CRATE, "pipeline/lora/pytorch_lora_weights.safetensors");
    // Of so few tokens that the feed-forward has more in memory than the cross-attention.
    let request = Request::new("a red circle").size(1024, 1024).max_tokens(8);
    let denoising = |mode, quantize| {
        let options = LoadOptions {
            quantize,
            loras: vec![LoraFile::new(&lora).mode(mode)],
            ..LoadOptions::default()
        };
        let estimate = load_with(&sana_folder(), options).memory_estimate(&request);
        estimate.unwrap().stages[1].activations
    };
    let int8 = QuantizeComponents::usual(Quantization::Int8);
    let none = QuantizeComponents::default();
    assert!(denoising(LoraMode::Merged, none) < denoising(LoraMode::Unmerged, none));
    assert_eq!(
        denoising(LoraMode::Merged, int8),
        denoising(LoraMode::Unmerged, int8)
    );
    let stored = |rank| {
        let folder = tempfile::tempdir().unwrap();
        write(&Checkpoint::built_in(), int8, rank, folder.path());
        let pipeline = SanaPipeline::load(folder.path(), &device()).unwrap();
        let estimate = pipeline.memory_estimate(&request).unwrap();
        estimate.stages[1].activations
    };
    assert!(stored(None) < stored(Some(2)));
}

/// It is refused when the pipeline is opened, not after the prompt has been encoded.
#[test]
fn an_adapter_that_is_not_low_rank_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lokr.safetensors");
    let lora = built_in_fixture_path(CRATE, "pipeline/lora/pytorch_lora_weights.safetensors");
    let lora = Weights::open_file(&lora).unwrap();
    // A DoRA: factors with magnitudes of the rows.
    let mut tensors: Vec<(String, TensorData)> = Vec::new();
    for name in lora.names() {
        let shape = lora.shape(name).unwrap().to_vec();
        tensors.push((
            name.to_owned(),
            TensorData::new(flat(&lora, name), shape.clone()),
        ));
        if let Some(layer) = name.strip_suffix(".lora_B.weight") {
            let magnitudes = TensorData::new(vec![1f32; shape[0]], [shape[0]]);
            tensors.push((format!("{layer}.lora_magnitude_vector"), magnitudes));
        }
    }
    sana_linear_attn::weights::write_tensors(&file, tensors).unwrap();
    let open = |quantize, scale| {
        let options = LoadOptions {
            quantize,
            loras: vec![LoraFile::new(&file).scale(scale)],
            ..LoadOptions::default()
        };
        let checkpoint = Checkpoint::open(&sana_folder()).unwrap();
        SanaPipeline::from_checkpoint(checkpoint, options, &device())
    };
    let int8 = QuantizeComponents::usual(Quantization::Int8);
    let error = open(int8, 1.0).unwrap_err().to_string();
    assert!(error.contains("is a DoRA"), "{error}");
    assert!(error.contains("the weights are quantized"), "{error}");
    open(int8, 0.0).unwrap();
    open(QuantizeComponents::default(), 1.0).unwrap();
}
