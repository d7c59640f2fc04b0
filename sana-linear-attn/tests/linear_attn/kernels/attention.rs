//! Linear and softmax attention.

use super::*;

#[test]
fn linear_attention_equals_quadratic() {
    for [batch, tokens, heads, head_dim] in [[1, 1, 1, 1], [2, 15, 4, 8], [1, 130, 3, 32]] {
        let shape = [batch, tokens, heads * head_dim];
        compare(
            &format!("{shape:?}"),
            shape,
            shape,
            |x, w| relu_linear_attention(x.clone() * 2.0, w.clone() + 0.5, x + w, head_dim),
            |x, w| relu_quadratic_attention(x.clone() * 2.0, w.clone() + 0.5, x + w, head_dim),
        );
    }
}

#[test]
fn linear_attention_takes_strided_input() {
    let [batch, tokens, channels] = [2, 270, 12];
    let parts = |x: Tensor<3>| [0, 1, 2].map(|part| x.clone().narrow(2, part * channels, channels));
    let attend = |f: fn(Tensor<3>, Tensor<3>, Tensor<3>, usize) -> Tensor<3>| {
        move |x: Tensor<3>, w: Tensor<1>| {
            let [query, key, value] = parts(x);
            f(query, key, value, 4) * w.unsqueeze()
        }
    };
    compare(
        "thirds of a projection",
        [batch, tokens, 3 * channels],
        [1],
        attend(relu_linear_attention),
        attend(plain::relu_linear_attention),
    );
    let attend = |f: fn(Tensor<3>, usize) -> Tensor<3>| {
        move |x: Tensor<3>, w: Tensor<1>| f(x.swap_dims(1, 2), 7) * w.unsqueeze()
    };
    compare(
        "heads side by side, transposed",
        [batch, 42, tokens],
        [1],
        attend(relu_linear_attention_packed),
        attend(plain::relu_linear_attention_packed),
    );
}

#[test]
fn packed_attention_is_that_of_its_parts() {
    let device = Device::flex();
    let [batch, tokens, heads, head_dim] = [2, 19, 3, 5];
    let qkv = pseudo_random([batch, tokens, heads * 3 * head_dim], 4, &device);
    let part = |part: usize| {
        qkv.clone()
            .reshape([batch, tokens, heads, 3, head_dim])
            .narrow(3, part, 1)
            .reshape([batch, tokens, heads * head_dim])
    };
    let expected = values(relu_quadratic_attention(
        part(0),
        part(1),
        part(2),
        head_dim,
    ));
    for (name, packed) in [
        (
            "linear",
            relu_linear_attention_packed(qkv.clone(), head_dim),
        ),
        (
            "map",
            relu_quadratic_attention_packed(qkv.clone(), head_dim),
        ),
    ] {
        assert_close(name, &values(packed), &expected, 1e-5);
    }
}

#[test]
fn nan_is_not_rectified() {
    attention_edges::nan_is_not_rectified(&Device::flex());
}

#[test]
fn tokens_without_a_key_give_zero() {
    attention_edges::tokens_without_a_key_give_zero([1, 6, 4], 2, &Device::flex());
}

#[test]
fn softmax_attention_equals_plain() {
    // [batch, heads, key heads, tokens, keys, head_dim]; a mask for each query, for all, none.
    for [batch, heads, key_heads, tokens, keys, head_dim] in [
        [1, 1, 1, 1, 1, 1],
        [2, 3, 3, 5, 7, 4],
        [2, 6, 2, 33, 19, 9],
        [1, 4, 4, 300, 40, 24],
    ] {
        for (softcap, mask_rows) in [(None, None), (Some(0.7), Some(tokens)), (None, Some(1))] {
            type Attention = fn(
                Tensor<4>,
                Tensor<4>,
                Tensor<4>,
                Option<Tensor<4>>,
                f64,
                Option<f64>,
            ) -> Tensor<3>;
            let attend = |f: Attention| {
                move |x: Tensor<3>, kv: Tensor<4>| {
                    // As the layers do it: heads are views of rows, keys are stored transposed.
                    let query = x.reshape([batch, tokens, heads, head_dim]).swap_dims(1, 2);
                    let key = kv.clone().swap_dims(2, 3);
                    let value = kv.swap_dims(2, 3) * 2.0;
                    let mask = mask_rows.map(|rows| {
                        let device = Device::flex();
                        let device = if query.is_autodiff() {
                            device.autodiff()
                        } else {
                            device
                        };
                        (pseudo_random([batch, 1, rows, keys], 9, &device) - 0.5) * 10.0
                    });
                    f(query, key, value, mask, 0.8, softcap)
                }
            };
            compare(
                &format!(
                    "{heads}/{key_heads} heads, {tokens} to {keys}, {softcap:?} {mask_rows:?}"
                ),
                [batch, tokens, heads * head_dim],
                [batch, key_heads, head_dim, keys],
                attend(softmax_attention),
                attend(plain::softmax_attention),
            );
        }
    }
}

#[test]
fn softmax_attention_takes_flipped_input() {
    let device = Device::flex();
    let [query, key, value] =
        [1, 2, 3].map(|seed| pseudo_random([1, 2, 5, 4], seed, &device).flip([2]));
    let [ours, plain] = [softmax_attention, plain::softmax_attention].map(|f| {
        let (query, key, value) = (query.clone(), key.clone(), value.clone());
        values(f(query, key, value, None, 1.0, None))
    });
    assert_close("flipped", &ours, &plain, 1e-5);
}
