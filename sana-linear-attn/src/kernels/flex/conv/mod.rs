//! Convolutions: 3x3, as Winograd's too, and depthwise.

pub(super) mod conv3x3;
pub(super) mod depthwise;
pub(super) mod depthwise_gate;
pub(super) mod few_outputs;
pub(super) mod winograd;
