//! The model as the worker calls it.

use std::error::Error;

use burn::tensor::{DType, Device};
use sana_pipeline::error::ObserverError;
use sana_pipeline::image::{
    DigitalSourceType, FileFormat, PARAMETERS, Parameters, RgbImage, XMP, encode,
};
use sana_pipeline::request::Settings;
use sana_pipeline::spec::ModelSpec;
use sana_pipeline::{
    Checkpoint, LoadOptions, PipelineError, Request, SanaPipeline, StepAction, StepInfo,
};
use serde_json::json;
use wasm_bindgen::JsError;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::events::Events;
use crate::request::{AskError, Asked, MAX_IMAGES, MAX_STEPS, Start, max_pixels};

/// Previews of an image are fewer: each costs a decode.
const PREVIEWS: usize = 10;
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The built-in model.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Model {
    pipeline: SanaPipeline,
}

#[wasm_bindgen]
impl Model {
    /// Opens the model on the CPU backend.
    ///
    /// # Errors
    /// When it is not usable, which would be a bug.
    #[wasm_bindgen(js_name = onCpu)]
    pub fn on_cpu() -> Result<Self, JsError> {
        Self::on(&Device::flex()).map_err(js_error)
    }

    /// Opens the model on WebGPU.
    ///
    /// # Errors
    /// When the browser gives no device.
    #[cfg(feature = "webgpu")]
    #[wasm_bindgen(js_name = onWebGpu)]
    pub async fn on_web_gpu() -> Result<Self, JsError> {
        let device = Device::wgpu_options().init_async().await;
        let device = device.map_err(js_error)?;
        Self::on(&device).map_err(js_error)
    }

    /// The model as JSON: what `GET /v1/models` of `sana serve` has of it.
    pub fn describe(&self) -> String {
        description(self.pipeline.spec())
    }

    /// Makes images one after the other. `asked` is JSON with the fields of `POST
    /// /v1/images/generations` that the page sends; `image` and `mask` are files, of which the
    /// transparent part of the mask is regenerated.
    ///
    /// # Errors
    /// What the request lacks or the model does not do.
    pub async fn generate(
        &mut self,
        asked: String,
        image: Option<Vec<u8>>,
        mask: Option<Vec<u8>>,
        events: Events,
    ) -> Result<(), JsError> {
        self.make(&asked, image.as_deref(), mask.as_deref(), &events)
            .await
            .map_err(js_error)
    }
}

impl Model {
    fn on(device: &Device) -> Result<Self, PipelineError> {
        // A GPU that has the bf16 of the files would compute in it, and the image be another one.
        let options = LoadOptions {
            dtype: Some(DType::F32),
            ..LoadOptions::default()
        };
        let checkpoint = Checkpoint::built_in();
        let pipeline = SanaPipeline::from_checkpoint(checkpoint, options, device)?;
        Ok(Self { pipeline })
    }

    async fn make(
        &mut self,
        asked: &str,
        image: Option<&[u8]>,
        mask: Option<&[u8]>,
        events: &Events,
    ) -> Result<(), AskError> {
        let asked = Asked::from_json(asked)?;
        let start = image.map(|image| Start::decode(image, mask)).transpose()?;
        let request = asked.request(self.pipeline.spec(), start.as_ref())?;
        for number in 0..asked.images() {
            let seed = asked.seed.wrapping_add(number as u64);
            let request = request.clone().seed(seed);
            self.make_one(&asked, &request, seed, number, events)
                .await?;
        }
        Ok(())
    }

    async fn make_one(
        &mut self,
        asked: &Asked,
        request: &Request,
        seed: u64,
        number: usize,
        events: &Events,
    ) -> Result<(), PipelineError> {
        let settings = request.validate(self.pipeline.spec())?;
        let plan = self.pipeline.plan(settings)?;
        let mut observe = async |mut step: StepInfo<'_>| -> Result<StepAction, ObserverError> {
            let done = step.index + 1;
            // The last is the image.
            let steps = step.steps;
            let part = |steps_done: usize| steps_done * PREVIEWS / steps;
            if done < steps
                && part(done) > part(step.index)
                && let Some(previews) = step.decode_preview_async().await?
            {
                for preview in &previews {
                    events.preview(png(preview, &[])?);
                }
            }
            events.step(number * steps + done, asked.images() * steps);
            Ok(StepAction::Continue)
        };
        let mut deliver = |_: usize, image: &RgbImage| -> Result<(), ObserverError> {
            Ok(deliver(events, image, asked, plan.settings(), seed)?)
        };
        let made = self
            .pipeline
            .generate_async(&plan, &mut observe, &mut deliver);
        made.await.map(drop)
    }
}

/// The model as the page asks for it.
pub(crate) fn description(spec: &ModelSpec) -> String {
    let (defaults, buckets) = (spec.defaults(), spec.buckets());
    let sizes: Vec<[usize; 2]> = buckets
        .sizes()
        .iter()
        .map(|[height, width]| [*width, *height])
        .collect();
    let model = json!({
        "id": "built-in",
        "object": "model",
        "owned_by": "sana",
        "sana": {
            "size": defaults.size,
            "sizes": sizes,
            "multiple": spec.size_multiple(),
            "steps": defaults.steps,
            "guidance": defaults.guidance,
            "max_images": MAX_IMAGES,
            "max_steps": MAX_STEPS,
            "max_pixels": max_pixels(spec),
            "simd": cfg!(target_feature = "simd128"),
        },
    });
    model.to_string()
}

/// Sends an image with its settings in it.
pub(crate) fn deliver(
    events: &Events,
    image: &RgbImage,
    asked: &Asked,
    settings: &Settings,
    seed: u64,
) -> Result<(), PipelineError> {
    let texts = texts(asked, settings, seed);
    let texts: Vec<(&str, &str)> = texts.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let (width, height) = image.dimensions();
    events.image(png(image, &texts)?, seed as f64, width, height);
    Ok(())
}

fn png(image: &RgbImage, texts: &[(&str, &str)]) -> Result<Vec<u8>, PipelineError> {
    Ok(encode(image, FileFormat::Png, 100, texts)?)
}

/// What `sana inspect` and `sana generate --from-image` read, the text of AUTOMATIC1111's web UI, and the
/// mark that a model made the image.
fn texts(asked: &Asked, settings: &Settings, seed: u64) -> Vec<(&'static str, String)> {
    let [width, height] = settings.size();
    let mut texts = vec![
        ("prompt", asked.prompt.clone()),
        ("negative", asked.negative_prompt.clone()),
        ("seed", seed.to_string()),
        ("size", format!("{width}x{height}")),
        ("steps", settings.steps().to_string()),
        ("guidance", settings.guidance.scale().to_string()),
    ];
    if let Some(start) = &settings.image_to_image {
        texts.push(("strength", start.strength.to_string()));
    }
    texts.push(("model", "built-in".to_owned()));
    texts.push(("Software", format!("sana {VERSION}")));
    texts.extend(parameters(asked, settings, seed).map(|text| (PARAMETERS, text)));
    // A mask keeps a part of another image.
    let source = match settings.image_to_image.is_some_and(|start| start.masked) {
        true => DigitalSourceType::CompositeWithTrainedAlgorithmicMedia,
        false => DigitalSourceType::TrainedAlgorithmicMedia,
    };
    texts.push((XMP, source.xmp()));
    texts
}

/// The text of the web UI.
fn parameters(asked: &Asked, settings: &Settings, seed: u64) -> Option<String> {
    let [width, height] = settings.size();
    let start = settings.image_to_image.as_ref();
    let fields = [
        ("Steps", Some(settings.steps().to_string())),
        ("Sampler", Some(settings.solver.web_ui_name().to_owned())),
        ("CFG scale", Some(settings.guidance.scale().to_string())),
        ("Seed", Some(seed.to_string())),
        ("Size", Some(format!("{width}x{height}"))),
        ("Model", Some("built-in".to_owned())),
        (
            "Denoising strength",
            start.map(|start| start.strength.to_string()),
        ),
        ("Version", Some(format!("sana {VERSION}"))),
    ];
    let fields = fields.into_iter();
    let parameters = Parameters {
        prompt: asked.prompt.clone(),
        negative: asked.negative_prompt.clone(),
        fields: fields
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .collect(),
    };
    parameters.text()
}

/// The message of an error with its causes.
pub(crate) fn js_error(error: impl Error) -> JsError {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        message = format!("{message}: {error}");
        cause = error.source();
    }
    JsError::new(&message)
}
