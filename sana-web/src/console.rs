//! The console of the browser.

use wasm_bindgen::prelude::wasm_bindgen;

#[wasm_bindgen]
extern "C" {
    /// Shows an error.
    #[wasm_bindgen(js_namespace = console)]
    pub(crate) fn error(text: &str);
}
