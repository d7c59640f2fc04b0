//! What front ends call of the API of AUTOMATIC1111's web UI: `/sdapi/v1/...`.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Query, State as Shared};
use sana_pipeline::sampler::Solver;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::generation::Generation;
use crate::args::Size;
use crate::commands::serve::error::ApiError;
use crate::commands::serve::images::{self, Format};
use crate::commands::serve::state::job::{Draft, Made, Start};
use crate::commands::serve::state::{Server, State};
use crate::generate::args::SolverName;
use crate::generate::record::parameters::sampler;

/// The fields that have an effect; the others of the web UI are accepted and have none.
#[derive(Debug, Clone, Default, Deserialize, Serialize, ToSchema)]
#[serde(default)]
pub struct TextToImage {
    prompt: Option<String>,
    negative_prompt: Option<String>,
    /// -1 is a random one
    seed: Option<i64>,
    steps: Option<usize>,
    cfg_scale: Option<f64>,
    width: Option<usize>,
    height: Option<usize>,
    /// Images made at a time; with `n_iter` it gives their number
    batch_size: Option<usize>,
    n_iter: Option<usize>,
    /// One of `/sdapi/v1/samplers`; another one is the model's
    sampler_name: Option<String>,
    sampler_index: Option<String>,
}

/// In addition to the fields of [`TextToImage`], an image to start from.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct ImageToImage {
    /// One image in base64
    init_images: Option<Vec<String>>,
    /// How far the result may be from the image [default: 0.75]
    denoising_strength: Option<f64>,
    /// In base64: white is regenerated
    mask: Option<String>,
    /// Pixels over which what is regenerated fades into the image
    mask_blur: Option<u32>,
    /// 1: black is regenerated
    inpainting_mask_invert: Option<u8>,
}

/// The images, and what they were made of.
#[derive(Debug, Serialize, ToSchema)]
pub struct Answer {
    /// PNGs in base64.
    images: Vec<String>,
    /// The fields of the request that have an effect, without its images.
    parameters: Value,
    /// An object as text: `seed`, `all_seeds`, `infotexts` and so on.
    info: String,
}

/// The samplers of the web UI that are the solvers of the model.
const SAMPLERS: [(&str, &str, SolverName); 3] = [
    (
        sampler(SolverName::FlowDpm),
        "flow_dpm",
        SolverName::FlowDpm,
    ),
    (
        sampler(SolverName::FlowEuler),
        "flow_euler",
        SolverName::FlowEuler,
    ),
    (sampler(SolverName::Scm), "scm", SolverName::Scm),
];

impl TextToImage {
    fn draft(&self, server: &Server) -> Result<Draft, ApiError> {
        let mut draft = Generation {
            prompt: self.prompt.clone().unwrap_or_default(),
            negative_prompt: self.negative_prompt.clone().filter(|text| !text.is_empty()),
            num_inference_steps: self.steps,
            guidance_scale: self.cfg_scale,
            seed: self.seed.and_then(|seed| u64::try_from(seed).ok()),
            ..Default::default()
        }
        .draft()?;
        let args = &mut draft.args;
        let images = [self.batch_size, self.n_iter].map(|number| number.unwrap_or(1));
        args.count = Some(images[0].saturating_mul(images[1]));
        if args.count == Some(0) {
            return Err(ApiError::field("batch_size", "it must be at least 1"));
        }
        if self.width.is_some() || self.height.is_some() {
            let [width, height] = server.spec.defaults().size;
            args.size = Some(Size {
                width: self.width.unwrap_or(width),
                height: self.height.unwrap_or(height),
            });
        }
        let name = self.sampler_name.as_ref().or(self.sampler_index.as_ref());
        args.solver = name.and_then(|name| {
            let found = SAMPLERS.iter().find(|(full, short, _)| {
                name.eq_ignore_ascii_case(full) || name.eq_ignore_ascii_case(short)
            });
            found
                .map(|(.., solver)| *solver)
                .filter(|solver| fits(*solver, server))
        });
        Ok(draft)
    }
}

/// Whether the model can be sampled so: consistency-distilled ones by SCM alone, and no others by it.
fn fits(solver: SolverName, server: &Server) -> bool {
    let scm = matches!(server.spec.defaults().solver, Solver::Scm);
    scm == (solver == SolverName::Scm)
}

impl ImageToImage {
    fn draft(&self, mut draft: Draft, server: &State) -> Result<Draft, ApiError> {
        let images = self.init_images.as_deref().unwrap_or_default();
        let [image] = images else {
            let reason = format!("one image is taken, not {}", images.len());
            return Err(ApiError::field("init_images", reason));
        };
        let image = images::image("init_images", &images::from_base64("init_images", image)?)?;
        let mask = match &self.mask {
            None => None,
            Some(mask) => {
                let mut mask = images::mask("mask", &images::from_base64("mask", mask)?)?;
                if self.inpainting_mask_invert == Some(1) {
                    mask.iter_mut().for_each(|value| *value = 255 - *value);
                }
                Some(mask)
            }
        };
        let start = Start {
            image,
            mask,
            strength: Some(self.denoising_strength.unwrap_or(0.75)),
            mask_feather: self.mask_blur.unwrap_or(0),
        };
        draft.start = Some(start.bounded(server.shared.limits.max_start_pixels(&server.spec)));
        Ok(draft)
    }
}

/// Images from a prompt.
#[utoipa::path(
    post,
    path = "/sdapi/v1/txt2img",
    request_body = TextToImage,
    responses((status = 200, body = Answer), (status = 400, body = crate::commands::serve::error::ErrorBody))
)]
pub async fn txt2img(
    Shared(server): Shared<Server>,
    body: Result<Json<TextToImage>, JsonRejection>,
) -> Result<Json<Answer>, ApiError> {
    let Json(body) = body?;
    let draft = body.draft(&server)?;
    answer(&server, draft, &body).await
}

/// Images from a prompt and an image.
#[utoipa::path(
    post,
    path = "/sdapi/v1/img2img",
    request_body = ImageToImage,
    responses((status = 200, body = Answer), (status = 400, body = crate::commands::serve::error::ErrorBody))
)]
pub async fn img2img(
    Shared(server): Shared<Server>,
    body: Bytes,
) -> Result<Json<Answer>, ApiError> {
    // Twice, so that what is not known is not kept.
    let text: TextToImage = read(&body)?;
    let draft = text.draft(&server)?;
    let unpacking = {
        let server = Arc::clone(&server);
        move || read::<ImageToImage>(&body)?.draft(draft, &server)
    };
    let draft = server.unpacking(unpacking).await?;
    answer(&server, draft, &text).await
}

fn read<T: for<'a> Deserialize<'a>>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::invalid(error.to_string()))
}

async fn answer(
    server: &Server,
    draft: Draft,
    parameters: &TextToImage,
) -> Result<Json<Answer>, ApiError> {
    let parameters =
        serde_json::to_value(parameters).map_err(|error| ApiError::internal(error.to_string()))?;
    let made = server.submit(draft)?.images().await?;
    let info = info(&made, &server.model);
    let mut images = Vec::with_capacity(made.len());
    for made in made {
        let file = images::encoded(made.image, made.record, Format::Png, 100).await?;
        images.push(images::base64(&file));
    }
    Ok(Json(Answer {
        images,
        parameters,
        info: info.to_string(),
    }))
}

/// What images were made of, in the words of the web UI.
fn info(made: &[Made], model: &str) -> Value {
    let Some(first) = made.first() else {
        return json!({});
    };
    let record: Map<String, Value> = first.record.object();
    let text = |key: &str| record.get(key).cloned().unwrap_or_default();
    let number = |key: &str| match text(key) {
        Value::String(text) => serde_json::from_str(&text).unwrap_or(Value::Null),
        value => value,
    };
    let solver = record.get("solver").and_then(Value::as_str);
    let solver =
        solver.and_then(|name| <SolverName as clap::ValueEnum>::from_str(name, false).ok());
    let seeds: Vec<u64> = made.iter().map(|made| made.seed).collect();
    let infotext = |made: &Made| made.record.parameters_text().unwrap_or_default().to_owned();
    json!({
        "prompt": text("prompt"),
        "negative_prompt": text("negative"),
        "seed": first.seed,
        "all_seeds": seeds,
        "steps": number("steps"),
        "cfg_scale": number("guidance"),
        "sampler_name": solver.map(sampler),
        "width": first.image.width(),
        "height": first.image.height(),
        "sd_model_name": model,
        "infotexts": made.iter().map(infotext).collect::<Vec<_>>(),
    })
}

/// What of the progress is wanted.
#[derive(Debug, Deserialize)]
pub struct ProgressWanted {
    /// Without the image, in any of the words that the web UI takes.
    skip_current_image: Option<String>,
}

/// Whether a query says yes, as Python's clients too: `True`.
fn is_yes(text: &str) -> bool {
    let words = ["true", "1", "yes", "on"];
    words.iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// How far the images that are being made are, and the first of them as it is.
#[utoipa::path(get, path = "/sdapi/v1/progress", responses((status = 200)))]
pub async fn progress(
    Shared(server): Shared<Server>,
    Query(wanted): Query<ProgressWanted>,
) -> Result<Json<Value>, ApiError> {
    let running = &server.shared.running;
    let with_image = !wanted.skip_current_image.as_deref().is_some_and(is_yes);
    if with_image {
        running.watch();
    }
    let now = running.progress();
    let job = |name: &str, step: usize, steps: usize| {
        json!({
            "skipped": false,
            "interrupted": false,
            "stopping_generation": false,
            "job": name,
            "job_count": server.shared.queue.len() + usize::from(!name.is_empty()),
            "job_timestamp": "0",
            "job_no": 0,
            "sampling_step": step,
            "sampling_steps": steps,
        })
    };
    let Some(now) = now else {
        return Ok(Json(json!({
            "progress": 0.0,
            "eta_relative": 0.0,
            "state": job("", 0, 0),
            "current_image": null,
            "textinfo": null,
        })));
    };
    let share = now.step as f64 / now.steps.max(1) as f64;
    let seconds = now.since.elapsed().as_secs_f64();
    let left = match now.step {
        0 => 0.0,
        _ => seconds / share - seconds,
    };
    let image = match now.preview.filter(|_| with_image) {
        None => None,
        Some(preview) => {
            let no_mark = server.shared.no_mark;
            let file = images::preview(preview, no_mark, Format::Png, 100).await?;
            Some(images::base64(&file))
        }
    };
    Ok(Json(json!({
        "progress": share,
        "eta_relative": left,
        "state": job("generation", now.step, now.steps),
        "current_image": image,
        "textinfo": null,
    })))
}

/// Ends what is being made, with the images as they are.
#[utoipa::path(post, path = "/sdapi/v1/interrupt", responses((status = 200)))]
pub async fn interrupt(Shared(server): Shared<Server>) -> Json<Value> {
    server.shared.running.interrupt();
    Json(json!({}))
}

/// The solvers that the model can be sampled with.
#[utoipa::path(get, path = "/sdapi/v1/samplers", responses((status = 200)))]
pub async fn samplers(Shared(server): Shared<Server>) -> Json<Value> {
    let samplers = SAMPLERS
        .iter()
        .filter(|(.., solver)| fits(*solver, &server));
    let entry = |(name, short, _): &(&str, &str, SolverName)| json!({ "name": name, "aliases": [short], "options": {} });
    Json(samplers.map(entry).collect())
}

/// The model.
#[utoipa::path(get, path = "/sdapi/v1/sd-models", responses((status = 200)))]
pub async fn sd_models(Shared(server): Shared<Server>) -> Json<Value> {
    let name = &server.model;
    Json(json!([{
        "title": name,
        "model_name": name,
        "hash": null,
        "sha256": null,
        "filename": name,
        "config": null,
    }]))
}

/// The options that front ends ask for.
#[utoipa::path(get, path = "/sdapi/v1/options", responses((status = 200)))]
pub async fn options(Shared(server): Shared<Server>) -> Json<Value> {
    Json(json!({ "sd_model_checkpoint": server.model, "samples_format": "png" }))
}

/// Accepts the model that there is; other options have no effect.
#[utoipa::path(post, path = "/sdapi/v1/options", responses((status = 200)))]
pub async fn set_options(
    Shared(server): Shared<Server>,
    body: Result<Json<Map<String, Value>>, JsonRejection>,
) -> Result<Json<Value>, ApiError> {
    let Json(options) = body?;
    match options.get("sd_model_checkpoint") {
        Some(Value::String(name)) if *name != server.model => Err(ApiError::field(
            "sd_model_checkpoint",
            format!("this server has one model, {}", server.model),
        )),
        _ => Ok(Json(Value::Null)),
    }
}
