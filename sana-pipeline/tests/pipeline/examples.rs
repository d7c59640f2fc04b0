//! The example that trains a model, and what it leaves.

use burn::tensor::Device;
use sana_pipeline::{Request, SanaPipeline, StepAction};

#[allow(dead_code)] // its `main`
#[path = "../../examples/train.rs"]
mod train;

#[test]
fn a_trained_model_is_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    train::train(folder.path(), 2).unwrap();
    let mut pipeline = SanaPipeline::load(folder.path(), &Device::flex()).unwrap();
    let request = Request::new("a red circle").steps(2);
    let generation = pipeline
        .generate(&request, &mut |_| StepAction::Continue)
        .unwrap();
    assert_eq!(generation.images[0].dimensions(), (64, 64));

    // Again: there is nothing left to do.
    train::train(folder.path(), 2).unwrap();
}
