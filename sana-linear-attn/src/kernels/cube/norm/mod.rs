//! Normalisation, alone and with what follows it.

pub(super) mod norm_modulate;
mod reduce;
pub(super) mod rms_norm;
