use std::collections::BTreeMap;

use burn::module::Param;
use burn::tensor::{DType, Tensor};

use crate::kernels::cast;
use crate::layers::{AnyLinear, LowRank, TorchLinear};
use crate::transformer::model::SanaTransformer;
use crate::transformer::trunk::{SanaBlock, SinusoidMlp};

/// Adds a term to the output of a layer.
pub(super) fn attach(layer: &mut AnyLinear<'_>, term: LowRank) {
    // The factors of a quantized weight keep their dtype.
    let dtype = match (layer.quantized(), &layer) {
        (Some(_), _) => term.up.dtype(),
        (None, AnyLinear::Linear(layer)) => layer.weight.val().dtype(),
        (None, AnyLinear::Pointwise(layer)) => layer.weight.val().dtype(),
    };
    let term = LowRank {
        down: term.down.cast(dtype),
        up: term.up.cast(dtype),
    };
    match layer {
        AnyLinear::Linear(layer) => layer.low_rank.push(term),
        AnyLinear::Pointwise(layer) => layer.low_rank.push(term),
    }
}

/// Adds to the weight of a layer.
pub(super) fn merge(layer: &mut AnyLinear<'_>, delta: Tensor<2>) {
    match layer {
        AnyLinear::Linear(layer) => layer.weight = merged(&layer.weight, delta),
        AnyLinear::Pointwise(layer) => {
            let [d_output, d_input] = delta.dims();
            let delta = delta.reshape([d_output, d_input, 1, 1]);
            layer.weight = merged(&layer.weight, delta);
        }
    }
}

/// The sum in f32, rounded once to the weight's dtype; it trains as the weight did.
fn merged<const D: usize>(weight: &Param<Tensor<D>>, delta: Tensor<D>) -> Param<Tensor<D>> {
    weight.clone().map(|weight| {
        let (dtype, trains) = (weight.dtype(), weight.is_require_grad());
        let sum = (cast(weight, DType::F32) + delta).cast(dtype).detach();
        if trains { sum.require_grad() } else { sum }
    })
}

/// Names and sizes `[out, in]` of the layers that a LoRA can change. Allocates nothing.
pub(super) fn layer_sizes(model: &mut SanaTransformer) -> BTreeMap<String, [usize; 2]> {
    layers_mut(model)
        .into_iter()
        .map(|(name, layer)| (name, layer.size()))
        .collect()
}

/// The layers that a LoRA or quantization can change, by the names of the checkpoint.
pub(in crate::transformer) fn layers_mut(
    model: &mut SanaTransformer,
) -> Vec<(String, AnyLinear<'_>)> {
    let mut layers = Layers(Vec::new());
    let time = &mut model.time_embed;
    if let Some(emb) = &mut time.emb {
        layers.mlp(
            "time_embed.emb.timestep_embedder",
            &mut emb.timestep_embedder,
        );
    }
    if let Some(mlp) = &mut time.timestep_embedder {
        layers.mlp("time_embed.timestep_embedder", mlp);
    }
    if let Some(mlp) = &mut time.guidance_embedder {
        layers.mlp("time_embed.guidance_embedder", mlp);
    }
    layers.linear("time_embed.linear", &mut time.linear);
    let caption = &mut model.caption_projection;
    layers.linear("caption_projection.linear_1", &mut caption.linear_1);
    layers.linear("caption_projection.linear_2", &mut caption.linear_2);
    for (index, block) in model.transformer_blocks.iter_mut().enumerate() {
        layers.block(index, block);
    }
    layers.linear("proj_out", &mut model.proj_out);
    layers.0
}

struct Layers<'a>(Vec<(String, AnyLinear<'a>)>);

impl<'a> Layers<'a> {
    fn linear(&mut self, name: impl Into<String>, layer: &'a mut TorchLinear) {
        self.0.push((name.into(), AnyLinear::Linear(layer)));
    }

    fn mlp(&mut self, name: &str, mlp: &'a mut SinusoidMlp) {
        self.linear(format!("{name}.linear_1"), &mut mlp.linear_1);
        self.linear(format!("{name}.linear_2"), &mut mlp.linear_2);
    }

    fn block(&mut self, index: usize, block: &'a mut SanaBlock) {
        let SanaBlock {
            attn1, attn2, ff, ..
        } = block;
        let [out1] = &mut attn1.to_out;
        let [out2] = &mut attn2.to_out;
        for (name, layer) in [
            ("attn1.to_q", &mut attn1.to_q),
            ("attn1.to_k", &mut attn1.to_k),
            ("attn1.to_v", &mut attn1.to_v),
            ("attn1.to_out.0", out1),
            ("attn2.to_q", &mut attn2.to_q),
            ("attn2.to_k", &mut attn2.to_k),
            ("attn2.to_v", &mut attn2.to_v),
            ("attn2.to_out.0", out2),
        ] {
            self.linear(format!("transformer_blocks.{index}.{name}"), layer);
        }
        for (name, layer) in [
            ("ff.conv_inverted", &mut ff.conv_inverted),
            ("ff.conv_point", &mut ff.conv_point),
        ] {
            let name = format!("transformer_blocks.{index}.{name}");
            self.0.push((name, AnyLinear::Pointwise(layer)));
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::module::{Module, ModuleVisitor};
    use burn::tensor::Device;

    use super::*;
    use crate::transformer::config::SanaTransformerConfig;

    /// Names of the modules that are being visited, with the struct that each is a field of.
    #[derive(Default)]
    struct LinearLayers {
        path: Vec<(String, String)>,
        sizes: BTreeMap<String, [usize; 2]>,
    }

    impl ModuleVisitor for LinearLayers {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.push((name.to_owned(), container.to_owned()));
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let Some((field, container)) = self.path.last() else {
                return;
            };
            let linear = ["Struct:TorchLinear", "Struct:PointwiseConv"];
            if field == "weight" && linear.contains(&container.as_str()) {
                let names = self.path[..self.path.len() - 1].iter();
                let names: Vec<&str> = names.map(|(name, _)| name.as_str()).collect();
                let shape = param.lazy_shape().to_vec();
                self.sizes.insert(names.join("."), [shape[0], shape[1]]);
            }
        }
    }

    /// The list written out above is that of the modules themselves.
    #[test]
    fn every_linear_layer_is_a_target() {
        let device = Device::flex();
        for config in [
            SanaTransformerConfig::sana_600m_1024px(),
            SanaTransformerConfig::sana_sprint_600m(),
        ] {
            let mut model = config.init(&device);
            let mut visitor = LinearLayers::default();
            model.visit(&mut visitor);
            let sizes = layer_sizes(&mut model);
            assert!(sizes.len() > 10 * config.num_layers);
            assert_eq!(sizes, visitor.sizes);
        }
    }
}
