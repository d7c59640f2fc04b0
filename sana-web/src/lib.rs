//! The built-in model of `sana-pipeline` for web pages: wasm32 with the CPU backend, in a Web Worker.
//!
//! `docs/web/build` makes a folder of static files of it: the page of `sana serve`, and the worker
//! that makes its images without a server.

mod events;
mod model;
mod request;

pub use events::Events;
pub use model::Model;

use wasm_bindgen::prelude::wasm_bindgen;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console, js_name = error)]
    fn report(text: &str);
}

/// Has panics, which are bugs, reported in the console of the browser.
#[wasm_bindgen(start)]
pub fn start() {
    std::panic::set_hook(Box::new(|panic| report(&panic.to_string())));
}
