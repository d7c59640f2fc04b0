//! Times ReLU linear attention against the same attention by its quadratic definition, and prints
//! how far their results differ.
//!
//! `cargo run -p sana-linear-attn --example growth`

use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor};
use sana_linear_attn::kernels::{relu_linear_attention, relu_quadratic_attention};

const HEADS: usize = 4;
const HEAD_DIM: usize = 32;

fn main() {
    let device = Device::flex();
    println!("{HEADS} heads of {HEAD_DIM}, milliseconds");
    println!(
        "{:>7} {:>9} {:>10} {:>12}",
        "tokens", "linear", "quadratic", "difference"
    );
    for tokens in [64, 128, 256, 512, 1024, 2048] {
        let shape = [1, tokens, HEADS * HEAD_DIM];
        let random = || Tensor::<3>::random(shape, Distribution::Default, &device);
        let [query, key, value] = [random(), random(), random()];

        let (linear, milliseconds) =
            timed(|| relu_linear_attention(query.clone(), key.clone(), value.clone(), HEAD_DIM));
        let (quadratic, slower) =
            timed(|| relu_quadratic_attention(query.clone(), key.clone(), value.clone(), HEAD_DIM));
        let difference = (linear - quadratic).abs().max().into_scalar::<f32>();
        println!("{tokens:>7} {milliseconds:>9.2} {slower:>10.2} {difference:>12.1e}");
    }
}

/// The result, and the milliseconds of the second of two runs.
fn timed(work: impl Fn() -> Tensor<3>) -> (Tensor<3>, f64) {
    work();
    let start = Instant::now();
    let result = work();
    (result, start.elapsed().as_secs_f64() * 1e3)
}
