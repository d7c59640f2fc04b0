//! How an image was made as AUTOMATIC1111's web UI writes it, and the mark.

use sana_pipeline::image::{DigitalSourceType, PARAMETERS, Parameters, XMP};
use sana_pipeline::request::ImageToImageSettings;
use sana_pipeline::sampler::{Order, Solver};

use crate::generate::args::{ImageArgs, SolverName};

/// What the web UI calls a solver.
pub const fn sampler(solver: SolverName) -> &'static str {
    let order = Order::Second;
    match solver {
        SolverName::FlowDpm => Solver::FlowDpm { order }.web_ui_name(),
        SolverName::FlowEuler => Solver::FlowEuler.web_ui_name(),
        SolverName::Scm => Solver::Scm.web_ui_name(),
    }
}

/// The texts for others of an image with these options applied.
pub fn for_others(
    image: &ImageArgs,
    start: Option<ImageToImageSettings>,
    model: &str,
    no_mark: bool,
) -> Vec<(String, String)> {
    let strength = start.map(|start| start.strength);
    let parameters = text(image, strength, model);
    // A mask keeps a part of another image.
    let source = match start.is_some_and(|start| start.masked) {
        true => DigitalSourceType::CompositeWithTrainedAlgorithmicMedia,
        false => DigitalSourceType::TrainedAlgorithmicMedia,
    };
    let mark = (!no_mark).then(|| (XMP.to_owned(), source.xmp()));
    let parameters = parameters.map(|text| (PARAMETERS.to_owned(), text));
    parameters.into_iter().chain(mark).collect()
}

/// The text for an image with these options applied, `strength` in image to image; `None` for too long a
/// prompt.
fn text(image: &ImageArgs, strength: Option<f64>, model: &str) -> Option<String> {
    let mut fields = Vec::new();
    let mut field = |name: &str, value: Option<String>| {
        fields.extend(value.map(|value| (name.to_owned(), value)));
    };
    field("Steps", image.steps.map(|steps| steps.to_string()));
    field(
        "Sampler",
        image.solver.map(|solver| sampler(solver).to_owned()),
    );
    field("CFG scale", image.guidance.map(|scale| scale.to_string()));
    field("Seed", image.seed.map(|seed| seed.to_string()));
    field("Size", image.size.map(|size| size.to_string()));
    field("Model", Some(model.to_owned()));
    // There is one field for the strength of both.
    let strength = strength.or(image.hires.strength());
    field(
        "Denoising strength",
        strength.map(|strength| strength.to_string()),
    );
    let scale = image.hires.scale();
    field("Hires upscale", scale.map(|scale| scale.to_string()));
    field(
        "Version",
        Some(format!("sana {}", env!("CARGO_PKG_VERSION"))),
    );
    let parameters = Parameters {
        prompt: image.prompt().to_owned(),
        negative: image.negative().to_owned(),
        fields,
    };
    parameters.text()
}
