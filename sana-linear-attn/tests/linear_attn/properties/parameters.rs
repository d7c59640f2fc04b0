//! Gradients reach every parameter, and a changed weight is seen.

use super::*;

/// Gradients of a module's parameters in the order of `parameter_shapes`.
struct GradientReader<'a> {
    gradients: &'a Gradients,
    found: Vec<Option<Vec<f32>>>,
}

impl ModuleVisitor for GradientReader<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.found
            .push(param.val().grad(self.gradients).map(values));
    }
}

/// Whether the output of a model does not depend on a parameter: softmax does not see what is
/// added to all scores of a query, and that is all that the bias of the text keys does, unless a
/// norm follows it.
fn without_effect(name: &str, config: &SanaTransformerConfig) -> bool {
    config.qk_norm.is_none() && name.ends_with("attn2.to_k.bias")
}

/// Training reaches every parameter; that of [`without_effect`] gets a gradient of 0.
#[test]
fn gradients_reach_every_parameter() {
    let device = device().autodiff();
    for (variant, config) in variants() {
        let model = Checkpoint::random(&config.init(&device)).load(&config, DType::F32, &device);
        let output = forward(&model, &Inputs::random(&config, 1, GRID, &device));
        let direction = tensor(output.dims(), 1.0, 3, &device);
        let gradients = (output * direction).sum().backward();
        let mut reader = GradientReader {
            gradients: &gradients,
            found: Vec::new(),
        };
        model.visit(&mut reader);

        let names = parameter_shapes(&model, KeyMap::default())
            .into_iter()
            .map(|(name, _)| name);
        let gradients: Vec<(String, Vec<f32>)> = names
            .zip(reader.found)
            .map(|(name, gradient)| {
                let gradient =
                    gradient.unwrap_or_else(|| panic!("{variant}: {name} got no gradient"));
                let finite = gradient.iter().all(|value| value.is_finite());
                assert!(finite, "{variant}: gradient of {name}: {gradient:?}");
                (name, gradient)
            })
            .collect();
        assert!(!gradients.is_empty(), "{variant} has no parameters");
        let overall = gradients.iter().map(|(_, gradient)| largest(gradient));
        let overall = overall.fold(0f32, f32::max);
        let of_keys = gradients
            .iter()
            .filter(|(name, _)| name.ends_with("attn2.to_k.weight"))
            .map(|(_, gradient)| largest(gradient))
            .fold(0f32, f32::max);
        for (name, gradient) in &gradients {
            let top = largest(gradient);
            if without_effect(name, &config) {
                assert!(
                    f64::from(top) <= tolerance() * f64::from(of_keys),
                    "{variant}: gradient {top:e} of {name}, that of the weights is {of_keys:e}"
                );
            } else {
                assert!(
                    top > 1e-6 * overall,
                    "{variant}: gradient {top:e} of {name}, the largest of all is {overall:e}"
                );
            }
        }
    }
}

/// The comparisons with reference outputs can fail: one element of any tensor of a block, off by
/// 500 tolerances of the tensor's largest magnitude (5 % on the CPU), moves the output by more
/// than the tolerance.
#[test]
fn a_changed_weight_is_seen() {
    let (config, device) = (tiny(), device());
    let checkpoint = Checkpoint::random(&config.init(&device));
    let inputs = Inputs::random(&config, 1, GRID, &device);
    let output =
        |checkpoint: &Checkpoint| run(&checkpoint.load(&config, DType::F32, &device), &inputs);
    let reference = output(&checkpoint);
    let mut changed = 0;
    for tensor in &checkpoint.0 {
        let name = &tensor.name;
        if !name.starts_with("transformer_blocks.1.") {
            continue;
        }
        let step = 500.0 * tolerance() as f32 * largest(&tensor.values);
        let perturbed = checkpoint.with(name, |values| {
            *values.last_mut().expect("no tensor is empty") += step;
        });
        let change = distance(&output(&perturbed), &reference) / largest(&reference);
        assert_eq!(
            f64::from(change) > tolerance(),
            !without_effect(name, &config),
            "{name}, one element off by {step:e}: the output moves by {change:e} of its magnitude, \
             the tolerance is {:e}",
            tolerance()
        );
        changed += 1;
    }
    assert_eq!(changed, 19, "tensors of block 1");
}
