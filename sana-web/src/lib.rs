//! The built-in model of `sana-pipeline` for web pages: wasm32 with the CPU backend, and with
//! WebGPU where the feature `webgpu` is on, in a Web Worker.
//!
//! `docs/web/build` makes a folder of static files of it: the page of `sana serve`, and the worker
//! that makes its images without a server.

mod console;
mod events;
mod model;
mod request;
#[cfg(feature = "webgpu")]
mod webgpu;

pub use events::Events;
pub use model::Model;

use wasm_bindgen::prelude::wasm_bindgen;

/// Has panics, which are bugs, reported in the console of the browser.
#[wasm_bindgen(start)]
pub fn start() {
    std::panic::set_hook(Box::new(|panic| console::error(&panic.to_string())));
    #[cfg(feature = "webgpu")]
    webgpu::start();
}
