//! What front ends of the web UI ask for at their start, and of which there is nothing here.

use axum::Json;
use axum::Router;
use axum::routing::{get, post};
use serde_json::{Value, json};
use utoipa::OpenApi;

use crate::commands::serve::state::Server;

/// A handler for each route, the routes, and their description.
macro_rules! answers {
    ($($method:ident $name:ident $path:tt $what:literal $value:tt;)+) => {
        $(
            #[doc = $what]
            #[utoipa::path($method, path = $path, responses((status = 200)))]
            async fn $name() -> Json<Value> {
                Json(json!($value))
            }
        )+

        /// The routes.
        pub fn routes() -> Router<Server> {
            Router::new()$(.route($path, $method($name)))+
        }

        /// Their description.
        #[derive(OpenApi)]
        #[openapi(paths($($name),+))]
        pub struct Description;

        #[cfg(test)]
        const PATHS: &[&str] = &[$($path),+];
    };
}

answers! {
    get schedulers "/sdapi/v1/schedulers" "Schedules: the solver has its own" [];
    get upscalers "/sdapi/v1/upscalers" "Upscalers: none" [];
    get latent_upscale_modes "/sdapi/v1/latent-upscale-modes" "Upscalers of latents: none" [];
    get sd_vae "/sdapi/v1/sd-vae" "Autoencoders: the model has its own" [];
    get sd_modules "/sdapi/v1/sd-modules" "Components of other files: none" [];
    get loras "/sdapi/v1/loras" "LoRAs to ask for: those of the server are always on" [];
    get hypernetworks "/sdapi/v1/hypernetworks" "Hypernetworks: none" [];
    get face_restorers "/sdapi/v1/face-restorers" "Face restorers: none" [];
    get realesrgan_models "/sdapi/v1/realesrgan-models" "Models of Real-ESRGAN: none" [];
    get prompt_styles "/sdapi/v1/prompt-styles" "Styles: none" [];
    get script_info "/sdapi/v1/script-info" "Scripts: none" [];
    get extensions "/sdapi/v1/extensions" "Extensions: none" [];
    get embeddings "/sdapi/v1/embeddings" "Textual inversions: none" { "loaded": {}, "skipped": {} };
    get scripts "/sdapi/v1/scripts" "Scripts by route: none" { "txt2img": [], "img2img": [] };
    get cmd_flags "/sdapi/v1/cmd-flags" "Options of the web UI's command: none" {};
    post refresh_checkpoints "/sdapi/v1/refresh-checkpoints" "Looks for models: there is the one" null;
    post refresh_vae "/sdapi/v1/refresh-vae" "Looks for autoencoders: there is the one" null;
    post refresh_loras "/sdapi/v1/refresh-loras" "Looks for LoRAs: each is always on" null;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_described() {
        let description = serde_json::to_value(Description::openapi()).unwrap();
        assert!(PATHS.len() > 15);
        for path in PATHS {
            assert!(description["paths"][path].is_object(), "{path}");
        }
    }
}
