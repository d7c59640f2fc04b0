//! The examples that train a model, and what they leave.

use burn::tensor::Device;
use sana_pipeline::{Request, SanaPipeline, StepAction};

#[allow(dead_code)] // its `main`
#[path = "../../examples/data_source.rs"]
mod data_source;

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

/// With data of one's own, in two sizes.
#[test]
fn a_source_of_ones_own_is_trained_on() {
    let folder = tempfile::tempdir().unwrap();
    data_source::train(folder.path(), 2).unwrap();
    let mut pipeline = SanaPipeline::load(folder.path(), &Device::flex()).unwrap();
    let request = Request::new("from red to white").size(64, 32).steps(2);
    let generation = pipeline
        .generate(&request, &mut |_| StepAction::Continue)
        .unwrap();
    assert_eq!(generation.images[0].dimensions(), (64, 32));
}
