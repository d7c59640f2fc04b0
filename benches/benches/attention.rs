//! ReLU linear attention next to softmax attention, on queries, keys and values of the 1.6B model
//! (70 heads of 32): 256 tokens are a 512-pixel image, 1024 are 1024, 4096 are 2048 and 16384
//! are 4096 pixels.
//!
//! Linear attention grows with the tokens, softmax attention with their square. Softmax is burn's
//! own `attention`, which tiles its map where the backend can. It stops at 4096 tokens except on
//! CUDA: one run at 16384 takes 2.4 TFLOP, a minute on a few CPU cores, and a map that is not
//! tiled takes 75 GB.

use std::process::ExitCode;

use burn::tensor::activation::softmax;
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{DType, Tensor};
use sana_benches::{Case, Suite, assert_close, assert_finite, run, shape};
use sana_linear_attn::kernels::{relu_linear_attention, relu_quadratic_attention};

const AREA: &str = "attention";
const HEAD_DIM: usize = 32;
const HEADS: usize = 70;
/// Up to here the answers are compared with the map written out, which takes 0.3 GB at 1024.
const CHECKED_TOKENS: usize = 1024;
const SOFTMAX_TOKENS: usize = 4096;

fn main() -> ExitCode {
    run(|suite| {
        let real = [256, 1024, 2048, 4096, 8192, 16384].map(|tokens| (tokens, HEADS));
        for (tokens, heads) in suite.shapes((24, 3), &real) {
            linear(suite, tokens, heads);
            if tokens <= SOFTMAX_TOKENS || suite.is_cuda() {
                softmax_attention(suite, tokens, heads);
            }
        }
    })
}

fn linear(suite: &mut Suite, tokens: usize, heads: usize) {
    let dims = [suite.batch(), tokens, heads * HEAD_DIM];
    let bound = suite.bound();
    suite.measure(
        Case {
            area: AREA,
            op: "relu_linear",
            shape: &shape(dims),
            elements: dims[0] * tokens,
        },
        |suite| [1, 2, 3].map(|seed| suite.random(seed, dims)),
        |[query, key, value]| {
            relu_linear_attention(query.clone(), key.clone(), value.clone(), HEAD_DIM)
        },
        |[query, key, value], answer| {
            if tokens > CHECKED_TOKENS {
                return assert_finite(answer, dims);
            }
            let (query, key, value) = (query.clone(), key.clone(), value.clone());
            let expected = relu_quadratic_attention(query, key, value, HEAD_DIM);
            assert_close(answer, expected, bound);
        },
    );
}

fn softmax_attention(suite: &mut Suite, tokens: usize, heads: usize) {
    let dims = [suite.batch(), heads, tokens, HEAD_DIM];
    let bound = suite.bound();
    suite.measure(
        Case {
            area: AREA,
            op: "softmax",
            // The same name as linear attention's: the layout is each one's natural one.
            shape: &shape([dims[0], tokens, heads * HEAD_DIM]),
            elements: dims[0] * tokens,
        },
        |suite| [1, 2, 3].map(|seed| suite.random(seed, dims)),
        |[query, key, value]| {
            let options = AttentionModuleOptions::default();
            attention(
                query.clone(),
                key.clone(),
                value.clone(),
                None,
                None,
                options,
            )
        },
        |[query, key, value], answer| {
            if tokens > CHECKED_TOKENS {
                return assert_finite(answer, dims);
            }
            let expected = written_out(query.clone(), key.clone(), value.clone());
            assert_close(answer, expected, bound);
        },
    );
}

/// `softmax(q k^T / sqrt(head_dim)) v` in f32.
fn written_out(query: Tensor<4>, key: Tensor<4>, value: Tensor<4>) -> Tensor<4> {
    let scale = (HEAD_DIM as f64).powf(-0.5);
    let scores = query
        .cast(DType::F32)
        .matmul(key.cast(DType::F32).swap_dims(2, 3))
        * scale;
    softmax(scores, 3).matmul(value.cast(DType::F32))
}
