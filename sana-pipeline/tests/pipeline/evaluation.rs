//! The scene evaluation's loop, on a model that knows nothing.

use sana_pipeline::evaluate::{EvaluateOptions, evaluate};
use sana_pipeline::scenes::Category;

use super::*;

#[test]
fn every_category_is_judged() {
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
