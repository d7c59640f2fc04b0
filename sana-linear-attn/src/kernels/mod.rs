//! One function per fused operation: the plain-tensor form, which every backend and autodiff can
//! run and which serves as the oracle for faster forms.

mod attention;

pub use attention::{ATTENTION_EPS, relu_linear_attention, relu_quadratic_attention};
