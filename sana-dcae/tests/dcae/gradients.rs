//! Training: gradients reach every parameter and are right.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};
use sana_dcae::{
    Activation, DcAe, DcAeConfig, DownsampleBlockType, NormType, PerStage, UpsampleBlockType,
};
use sana_linear_attn::parity::{device, values};

use crate::{LAYOUTS, load, tiny_config, waves};

/// The tiny config with every alternative: empty first stages, pixel (un)shuffle, batch norm.
fn other_config() -> DcAeConfig {
    DcAeConfig {
        encoder_block_out_channels: vec![6, 16, 32],
        encoder_layers_per_block: vec![0, 1, 1],
        decoder_layers_per_block: vec![0, 1, 1],
        downsample_block_type: DownsampleBlockType::PixelUnshuffle,
        upsample_block_type: UpsampleBlockType::PixelShuffle,
        decoder_block_types: PerStage::All(sana_dcae::BlockType::Res),
        decoder_norm_types: PerStage::All(NormType::BatchNorm),
        decoder_act_fns: PerStage::All(Activation::Relu),
        ..tiny_config()
    }
}

struct GradientCheck<'a> {
    gradients: &'a Gradients,
    path: Vec<String>,
    checked: usize,
}

impl ModuleVisitor for GradientCheck<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.path.join(".");
        let gradient = param.val().grad(self.gradients);
        if path.contains("running_") {
            assert!(
                gradient.is_none(),
                "{path} is a statistic of the checkpoint"
            );
            return;
        }
        let gradient = values(gradient.unwrap_or_else(|| panic!("no gradient for {path}")));
        assert!(
            gradient.iter().all(|value| value.is_finite()),
            "gradient of {path}"
        );
        assert!(
            gradient.iter().any(|&value| value != 0.0),
            "gradient of {path} is zero"
        );
        self.checked += 1;
    }
}

fn reconstruction_loss(model: &DcAe, image: Tensor<4>) -> Tensor<1> {
    let latents = model.encode(image.clone()).expect("a valid image");
    let decoded = model.decode(latents).expect("valid latents");
    (decoded - image).square().mean()
}

#[test]
fn gradients_reach_every_parameter() {
    let device = device().autodiff();
    for config in [tiny_config(), other_config()] {
        let model = config.init(&device);
        let loss = reconstruction_loss(&model, waves([2, 3, 16, 12], &device));
        let gradients = loss.backward();
        let mut check = GradientCheck {
            gradients: &gradients,
            path: Vec::new(),
            checked: 0,
        };
        model.visit(&mut check);
        assert!(check.checked > 30, "{} parameters", check.checked);
    }
}

/// The derivative along the gradient's own direction is the gradient's norm; it equals a central
/// difference of the loss. In f32 the difference is good to a thousandth at best, and a longer
/// step crosses the kinks of ReLU.
#[test]
fn gradient_of_the_image_equals_a_finite_difference() {
    let device = device().autodiff();
    for layout in LAYOUTS {
        let model = load(layout, &device);
        let side = model.compression();
        let image = waves([1, 3, side, 2 * side], &device).require_grad();
        let gradients = reconstruction_loss(&model, image.clone()).backward();
        let gradient = image
            .grad(&gradients)
            .expect("the image asks for a gradient");
        let norm = gradient.clone().square().sum().sqrt().into_scalar::<f32>();

        let direction = Tensor::<4>::from_data(gradient.into_data(), &device) / norm;
        let image = image.detach();
        let loss = |offset: f32| {
            let moved = image.clone() + direction.clone() * offset;
            reconstruction_loss(&model, moved).into_scalar::<f32>()
        };
        let step = 3e-3;
        let difference = (loss(step) - loss(-step)) / (2.0 * step);
        assert!(
            (difference - norm).abs() < 1e-2 * norm,
            "{layout}: finite difference {difference}, gradient {norm}"
        );
    }
}
