//! Linear and softmax attention.

use super::*;

#[test]
#[ignore = "compares with the device that SANA_TEST_DEVICE names"]
fn linear_attention_equals_plain() {
    // Heads of odd sizes, one token, and tokens that cut chunks of 128 and tiles unevenly.
    for [batch, tokens, heads, head_dim] in [
        [1, 1, 1, 1],
        [2, 15, 3, 8],
        [2, 130, 3, 32],
        [1, 129, 2, 16],
        [2, 700, 2, 32],
        [1, 300, 3, 5],
        [1, 270, 1, 60],
        [1, 40, 2, 12],
        // These heads do not fit the kernels and take the plain form.
        [1, 7, 2, 33],
        [1, 7, 2, 64],
    ] {
        let shape = [batch, tokens, heads * head_dim];
        // Keys that are mostly positive: no denominator is close to zero.
        let inputs = |source: &Source| {
            let [q, k, v] = [1, 2, 3].map(|seed| source.tensor(shape, seed));
            (q + 0.5, k + 0.5, v)
        };
        check(
            &format!("{shape:?}"),
            |source| {
                let (q, k, v) = inputs(source);
                relu_linear_attention(q, k, v, head_dim)
            },
            |source| {
                let (q, k, v) = inputs(source);
                plain::relu_linear_attention(q, k, v, head_dim)
            },
        );
        let packed = [batch, tokens, 3 * heads * head_dim];
        check(
            &format!("{packed:?}, packed"),
            |source| relu_linear_attention_packed(source.tensor(packed, 4) + 0.5, head_dim),
            |source| plain::relu_linear_attention_packed(source.tensor(packed, 4) + 0.5, head_dim),
        );
    }
}

#[test]
#[ignore = "compares with the device that SANA_TEST_DEVICE names"]
fn linear_attention_takes_strided_input() {
    let [batch, tokens, channels] = [2, 270, 24];
    type Attention = fn(Tensor<3>, Tensor<3>, Tensor<3>, usize) -> Tensor<3>;
    let thirds = |attend: Attention| {
        move |source: &Source| {
            let x = source.tensor([batch, tokens, 3 * channels], 1) + 0.5;
            let [q, k, v] = [0, 1, 2].map(|part| x.clone().narrow(2, part * channels, channels));
            attend(q, k, v, 8)
        }
    };
    check(
        "thirds of a projection",
        thirds(relu_linear_attention),
        thirds(plain::relu_linear_attention),
    );
    let transposed = |attend: fn(Tensor<3>, usize) -> Tensor<3>| {
        move |source: &Source| {
            let x = source.tensor([batch, 3 * channels, tokens], 1) + 0.5;
            attend(x.swap_dims(1, 2), 8)
        }
    };
    check(
        "transposed",
        transposed(relu_linear_attention_packed),
        transposed(plain::relu_linear_attention_packed),
    );
}

#[test]
#[ignore = "compares with the device that SANA_TEST_DEVICE names"]
fn nan_is_not_rectified() {
    attention_edges::nan_is_not_rectified(&gpu());
}

#[test]
#[ignore = "compares with the device that SANA_TEST_DEVICE names"]
fn tokens_without_a_key_give_zero() {
    attention_edges::tokens_without_a_key_give_zero([1, 300, 8], 4, &gpu());
}

#[test]
#[ignore = "compares with the device that SANA_TEST_DEVICE names"]
fn softmax_attention_equals_plain() {
    type Attention =
        fn(Tensor<4>, Tensor<4>, Tensor<4>, Option<Tensor<4>>, f64, Option<f64>) -> Tensor<3>;
    // [batch, heads, key heads, tokens, keys, head_dim, rows of the mask]
    for [batch, heads, key_heads, tokens, keys, head_dim, mask_rows] in [
        [1, 1, 1, 1, 1, 1, 1],
        [2, 3, 3, 5, 7, 4, 5],
        [2, 6, 2, 33, 70, 9, 1],
        [1, 4, 2, 40, 40, 24, 40],
        [1, 2, 1, 9, 100, 256, 9],
        [1, 2, 2, 9, 32, 132, 1],
    ] {
        let attend = |f: Attention| {
            move |source: &Source| {
                // As the layers do it: heads are views of rows.
                let split = |tokens, heads, seed| {
                    source
                        .tensor([batch, tokens, heads * head_dim], seed)
                        .reshape([batch, tokens, heads, head_dim])
                        .swap_dims(1, 2)
                };
                let (query, key) = (split(tokens, heads, 1), split(keys, key_heads, 2));
                let value = split(keys, key_heads, 3);
                // Later keys have ever larger scores, so that sums are corrected, and some are
                // hidden, all of the first tile among them.
                let bias = (0..batch * mask_rows * keys).map(|i| {
                    let key = i % keys;
                    match key + 40 < keys || (key + i / keys) % 5 == 1 && key + 1 < keys {
                        true => -1e30,
                        false => key as f32 / 8.0,
                    }
                });
                let bias = TensorData::new(bias.collect(), [batch, 1, mask_rows, keys]);
                let mask = Tensor::from_data(bias, (&source.device, DType::F32));
                f(query, key, value, Some(mask), 0.8, Some(3.0))
            }
        };
        check(
            &format!("{heads}/{key_heads} heads of {head_dim}, {tokens} to {keys}"),
            attend(softmax_attention),
            attend(plain::softmax_attention),
        );
    }
}

/// A query that sees nothing gets the mean of all values, as the plain form gives it.
#[test]
#[ignore = "compares with the device that SANA_TEST_DEVICE names"]
fn a_query_that_sees_nothing_gets_the_mean() {
    for hidden in [-1e30, f32::MIN] {
        let attend = |source: &Source, mean: bool| {
            let [q, k, v] = [1, 2, 3].map(|seed| source.tensor([1, 2, 45, 8], seed));
            let mask = Tensor::full([1, 1, 1, 45], hidden, (&source.device, DType::F32));
            match mean {
                false => softmax_attention(q, k, v, Some(mask), 1.0, Some(50.0)),
                true => v
                    .mean_dim(2)
                    .expand([1, 2, 45, 8])
                    .swap_dims(1, 2)
                    .reshape([1, 45, 16]),
            }
        };
        check(
            &format!("hidden by {hidden:e}"),
            |source| attend(source, false),
            |source| attend(source, true),
        );
    }
}
