//! Normalisation, alone and with what follows it.

pub(super) mod norm_modulate;
pub(super) mod rms_norm;
