//! The largest released model at its real size, with random weights.

use burn::tensor::{DType, Device};
use sana_pipeline::StepAction;
use sana_pipeline::checkpoint::create::write_checkpoint;
use sana_pipeline::memory::MemoryPolicy;
use sana_pipeline::request::InstructionChoice;

use super::*;

/// One step of SANA-1.5 4.8B at 512 px on the CPU, weights kept in bf16, one stage at a time.
/// Writes 15.3 GB to the temporary folder and takes them away again; 12 GB of memory are enough.
///
/// ```sh
/// cargo test --release -p sana-pipeline --test pipeline real_size -- --ignored --nocapture
/// ```
#[test]
#[ignore = "writes 15 GB and takes minutes"]
fn the_4_8b_model_makes_a_step() {
    let device = Device::flex();
    let folder = tempfile::tempdir().unwrap();
    write_checkpoint(
        "sana-1.5-4.8b",
        folder.path(),
        DType::BF16,
        0,
        &device,
        &mut |_, _| {},
    )
    .unwrap();
    let options = LoadOptions {
        dtype: Some(DType::BF16),
        memory: MemoryPolicy::OneStageAtATime,
        ..LoadOptions::default()
    };
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let mut pipeline = SanaPipeline::from_checkpoint(checkpoint, options, &device).unwrap();
    let request = Request::new("a cyberpunk cat")
        .instruction(InstructionChoice::None)
        .size(512, 512)
        .steps(1)
        .guidance(1.0);
    let generation = pipeline
        .generate(&request, &mut |_| StepAction::Continue)
        .unwrap();
    for stage in &generation.stages {
        println!("{stage:?}");
        // bf16 weights of the transformer are 9.4 GB; in f32 they would be 18.9.
        assert!(
            stage
                .peak_memory_bytes
                .is_none_or(|peak| peak < 12_000_000_000)
        );
    }
    let image = generation.images[0].as_raw();
    assert!(image.iter().any(|value| *value != image[0]));
}
