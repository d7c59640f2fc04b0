//! What burn's WebGPU backend needs of the program it is a part of.

use log::{LevelFilter, Log, Metadata, Record};

use crate::console;

#[cfg(target_family = "wasm")]
unsafe extern "C" {
    // Made by the linker.
    fn __wasm_call_ctors();
}

/// The backend's errors: kernels that the browser does not compile reach nothing else, and the
/// image would be made without them.
struct Console;

impl Log for Console {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        console::error(&record.args().to_string());
    }

    fn flush(&self) {}
}

/// Makes the backend usable; to be called once, before it.
pub(crate) fn start() {
    // The compiler of kernels registers its operations in constructors, which nothing else calls; the
    // linker then has each export of the module do so, at every call.
    // SAFETY: they take nothing, and those of the crate `inventory`, of which there are no others, may run
    // at any time.
    #[cfg(target_family = "wasm")]
    #[allow(unsafe_code)]
    unsafe {
        __wasm_call_ctors();
    }
    // Refused where there is one, which there is not.
    if log::set_logger(&Console).is_ok() {
        log::set_max_level(LevelFilter::Error);
    }
}
