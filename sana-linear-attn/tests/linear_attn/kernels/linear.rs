//! Linear layers.

use super::*;

#[test]
fn linear_equals_plain() {
    for [rows, depth, columns] in [[1, 1, 1], [3, 7, 5], [130, 33, 70], [65, 300, 400]] {
        for epilogue in [Epilogue::None, Epilogue::Silu] {
            let layer = |f: Linear| {
                move |x: Tensor<2>, w: Tensor<2>| {
                    let bias = w.clone().narrow(1, 0, 1).reshape([columns]);
                    f(x.clone(), w.clone(), None, epilogue) + f(x, w, Some(bias), epilogue)
                }
            };
            compare(
                &format!("{rows}x{depth}->{columns}, {epilogue:?}"),
                [rows, depth],
                [columns, depth],
                layer(native_linear),
                layer(plain::linear),
            );
        }
    }
}

#[test]
fn grouped_linear_equals_plain() {
    for [batch, tokens, groups, size] in [[1, 1, 1, 1], [2, 5, 3, 4], [2, 130, 6, 32]] {
        compare(
            &format!("{groups} groups of {size}, {batch}x{tokens}"),
            [batch, tokens, groups * size],
            [groups * size, size],
            grouped_linear,
            plain::grouped_linear,
        );
    }
}

#[test]
fn linear_takes_strided_input() {
    let layer = |f: Linear| {
        move |x: Tensor<2>, w: Tensor<2>| {
            let bias = w.clone().narrow(0, 0, 1).reshape([6]);
            f(x.transpose(), w.transpose(), Some(bias), Epilogue::None)
        }
    };
    compare(
        "transposed",
        [5, 4],
        [5, 6],
        layer(native_linear),
        layer(plain::linear),
    );
}
