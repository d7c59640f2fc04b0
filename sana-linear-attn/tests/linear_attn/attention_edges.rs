//! Linear attention where the denominator says nothing, for the tests of the CPU's and the GPUs' kernels.

use burn::tensor::{Device, Tensor};
use sana_linear_attn::kernels::relu_linear_attention;
use sana_linear_attn::parity::values;

/// No key is positive, so numerator and denominator are zero.
pub fn tokens_without_a_key_give_zero(shape: [usize; 3], head_dim: usize, device: &Device) {
    let ones = Tensor::<3>::ones(shape, device);
    let negative = ones.clone() * -1.0;
    let out = relu_linear_attention(negative.clone(), negative, ones, head_dim);
    assert_eq!(values(out), vec![0.0; shape.iter().product()]);
}

/// A NaN in a query is in that token's result, one in a key in every token's.
pub fn nan_is_not_rectified(device: &Device) {
    let ones = Tensor::<3>::ones([1, 6, 4], device);
    let nan = Tensor::full([1, 1, 1], f32::NAN, device);
    let hole = ones.clone().slice_assign([0..1, 2..3, 1..2], nan);
    let nans = |query: &Tensor<3>, key: &Tensor<3>| {
        let out = relu_linear_attention(query.clone(), key.clone(), ones.clone(), 4);
        values(out).iter().filter(|x| x.is_nan()).count()
    };
    assert_eq!(nans(&ones, &ones), 0);
    assert_eq!(nans(&hole, &ones), 4);
    assert_eq!(nans(&ones, &hole), 24);
}
