//! The f16 limit, and half precision.

use super::*;

/// The limit is that of f16 and of the projected output, and is off unless it is asked for.
#[test]
fn f16_clamp_limits_the_projected_output() {
    let device = device();
    let checkpoint = Checkpoint::random(&ATTENTION.init(&device)).scaled("to_out.0.weight", 1e5);
    let free = attention(&checkpoint, &device);
    let off = free.clone().with_f16_clamp(false);
    let on = free.clone().with_f16_clamp(true);
    let x = tensor([3, 7, ATTENTION.channels], 2.0, 50, &device);
    type Forward = fn(&LinearAttention, Tensor<3>) -> Tensor<3>;
    let paths: [(&str, Forward); 2] = [
        ("forward", LinearAttention::forward),
        ("forward_identity", LinearAttention::forward_identity),
    ];
    for (name, path) in paths {
        let output = |layer: &LinearAttention| values(path(layer, x.clone()));
        let unlimited = output(&free);
        let beyond = unlimited.iter().filter(|v| v.abs() > F16_MAX).count();
        assert!(
            0 < beyond && beyond < unlimited.len(),
            "{name}: {beyond} of {} values lie beyond {F16_MAX}, which tests nothing",
            unlimited.len()
        );
        assert_close(name, &output(&off), &unlimited, tolerance());

        let limited = output(&on);
        let expected: Vec<f32> = unlimited
            .iter()
            .map(|value| value.clamp(-F16_MAX, F16_MAX))
            .collect();
        assert_close(name, &limited, &expected, tolerance());
        let top = largest(&limited);
        assert!(top == F16_MAX, "{name}: largest magnitude {top}");
    }
}

/// The switch of the whole network reaches the attention of every block.
#[test]
fn f16_clamp_reaches_every_block() {
    let (config, device) = (tiny(), device());
    let checkpoint = Checkpoint::random(&config.init(&device));
    let inputs = Inputs::random(&config, 1, GRID, &device);
    for block in 0..config.num_layers {
        let name = format!("transformer_blocks.{block}.attn1.to_out.0.weight");
        let model = checkpoint
            .scaled(&name, 1e6)
            .load(&config, DType::F32, &device);
        let on = run(&model.clone().with_f16_clamp(true), &inputs);
        let off = run(&model.with_f16_clamp(false), &inputs);
        let change = distance(&on, &off) / largest(&off);
        assert!(
            change > 0.1,
            "the limit in block {block} changes the output by {change:e} of its magnitude only"
        );
    }
}

/// Whether a model limits its attention: seen by giving it weights, in f32, whose attention passes
/// the limit. Loading them leaves the switch as it is.
fn is_limited(model: SanaTransformer, checkpoint: &Checkpoint, device: &Device) -> bool {
    let inputs = Inputs::random(model.config(), 1, GRID, device);
    let overflowing = checkpoint
        .scaled("transformer_blocks.0.attn1.to_out.0.weight", 1e6)
        .weights(DType::F32);
    let options = LoadOptions {
        dtype: Some(DType::F32),
        ..LoadOptions::default()
    };
    let model = load_module(model, &overflowing, &options, device).expect("the same shapes");
    let ours = run(&model, &inputs);
    let on = run(&model.clone().with_f16_clamp(true), &inputs);
    let off = run(&model.with_f16_clamp(false), &inputs);
    let (to_on, to_off) = (distance(&ours, &on), distance(&ours, &off));
    assert!(
        to_on.min(to_off) < 0.1 * to_on.max(to_off),
        "neither with the limit ({to_on:e} away) nor without ({to_off:e} away)"
    );
    to_on < to_off
}

/// `Auto` limits models without qk norm whose weights are f16 in the file or in memory; `On` and `Off`
/// are obeyed whatever the model.
#[test]
fn f16_clamp_rule() {
    use DType::{BF16, F16, F32};
    use F16Clamp::{Auto, Off, On};
    let device = device();
    // qk norm, dtype of the weights, dtype asked for, rule, whether the limit is on
    let cases = [
        (false, F32, None, Auto, false),
        (false, F32, Some(F32), Auto, false),
        (false, F16, None, Auto, true),
        (false, F16, Some(F32), Auto, true),
        (false, F32, Some(F16), Auto, true),
        (false, BF16, Some(F32), Auto, false),
        (false, F32, Some(BF16), Auto, false),
        (true, F16, None, Auto, false),
        (true, F16, Some(F32), Auto, false),
        (true, F32, Some(F16), Auto, false),
        (false, F32, Some(F32), On, true),
        (true, F32, Some(F32), On, true),
        (false, F16, Some(F32), Off, false),
        (false, F32, Some(F16), Off, false),
    ];
    for (normed, stored, asked, rule, expected) in cases {
        if !device.supports_dtype(asked.unwrap_or(stored)) {
            continue;
        }
        let config = SanaTransformerConfig {
            qk_norm: normed.then_some(QkNorm::RmsNormAcrossHeads),
            ..tiny()
        };
        let checkpoint = Checkpoint::random(&config.init(&device));
        let model = config
            .load(&checkpoint.weights(stored), asked, rule, &device)
            .expect("the weights are the config's own");
        assert_eq!(
            is_limited(model, &checkpoint, &device),
            expected,
            "limit of a model with qk norm {normed}, weights in {stored:?}, loaded as {asked:?}, \
             rule {rule:?}"
        );
    }
}

/// Weights, activations and output of every variant in `dtype` against f32.
fn check_half(dtype: DType, bound: f64) {
    let device = device();
    if !device.supports_dtype(dtype) {
        assert!(device != Device::flex(), "flex computes in {dtype:?}");
        return;
    }
    for (name, config) in variants() {
        let checkpoint = Checkpoint::random(&config.init(&device));
        let inputs = Inputs::random(&config, 1, GRID, &device);
        let full = run(&checkpoint.load(&config, DType::F32, &device), &inputs);
        let model = checkpoint.load(&config, dtype, &device);
        let model = model.with_compute_dtype(dtype);
        assert_eq!(model.dtype(), dtype, "{name}");
        let half = run(&model, &inputs);
        assert_close(&format!("{name} in {dtype:?}"), &half, &full, bound);
    }
}

/// bf16 keeps 8 bits, so every rounding errs by up to 2e-3. Errors of about 25 operations in each
/// of 3 blocks add up like a random walk, and the worst of the outputs is compared: 5e-2 of the
/// largest magnitude.
#[test]
fn bf16_is_close_to_f32() {
    check_half(DType::BF16, 5e-2);
}

/// f16 keeps 11 bits, 3 more than bf16, so its errors are an eighth of those: 1e-2 of the largest
/// magnitude, which leaves room for backends that also sum in f16.
#[test]
fn f16_is_close_to_f32() {
    check_half(DType::F16, 1e-2);
}
