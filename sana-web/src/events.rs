//! What a page learns while images are made.

use wasm_bindgen::prelude::wasm_bindgen;

#[wasm_bindgen]
extern "C" {
    /// A JavaScript object whose methods take the events of [`Model::generate`](crate::Model::generate).
    pub type Events;

    /// Step `step` of `steps` is done, counted over all images from 1.
    #[wasm_bindgen(method)]
    pub fn step(this: &Events, step: usize, steps: usize);

    /// A PNG file of the estimate of a step.
    #[wasm_bindgen(method)]
    pub fn preview(this: &Events, file: Vec<u8>);

    /// A PNG file of an image, with its settings in it; the seed that makes it again, and its size in
    /// pixels.
    #[wasm_bindgen(method)]
    pub fn image(this: &Events, file: Vec<u8>, seed: f64, width: u32, height: u32);
}
