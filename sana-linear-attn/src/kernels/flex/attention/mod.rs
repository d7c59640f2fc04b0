//! Linear attention, and attention with a softmax.

pub(super) mod linear_attention;
pub(super) mod softmax_attention;
