//! The networks that are measured: configs by name, and modules with random weights.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, Device, Tensor};
use sana_dcae::DcAeConfig;
use sana_linear_attn::SanaTransformerConfig;
use sana_linear_attn::layers::LinearLayers;
use sana_linear_attn::precision::Bf16Gemm;
use sana_linear_attn::quantization::Quantization;
use sana_linear_attn::weights::parameter_shapes;
use sana_pipeline::checkpoint::variants;
use sana_pipeline::sampler::Scheduler;
use sana_text::Gemma2Config;

/// The built-in model's name among the variants.
#[cfg(feature = "scenes-model")]
const SCENES: &str = "scenes";

/// The configs of a model.
#[derive(Debug, Clone)]
pub struct Models {
    pub name: String,
    pub transformer: SanaTransformerConfig,
    pub autoencoder: DcAeConfig,
    pub text: Gemma2Config,
    pub scheduler: Scheduler,
}

/// All names.
pub fn names() -> Vec<&'static str> {
    #[allow(unused_mut, reason = "not every build has a model of its own")]
    let mut names = variants::names();
    #[cfg(feature = "scenes-model")]
    names.push(SCENES);
    names
}

impl Models {
    /// The configs of a released variant or of the built-in model.
    ///
    /// # Errors
    /// When there is no such variant.
    pub fn of(name: &str) -> anyhow::Result<Self> {
        #[cfg(feature = "scenes-model")]
        if name == SCENES {
            let checkpoint = sana_pipeline::Checkpoint::built_in();
            return Ok(Self {
                name: SCENES.to_owned(),
                transformer: checkpoint.transformer_config()?,
                autoencoder: checkpoint.vae_config()?,
                text: checkpoint.text_config()?,
                scheduler: checkpoint.scheduler()?,
            });
        }
        let variant = variants::find(name)?;
        Ok(Self {
            name: variant.name.to_owned(),
            transformer: variant.transformer(),
            autoencoder: variant.autoencoder(),
            text: variant.text_encoder(),
            scheduler: variant.scheduler(),
        })
    }

    /// Pixels of a token's side.
    pub fn pixels_per_token(&self) -> usize {
        self.autoencoder.compression() * self.transformer.patch_size
    }

    /// Side in pixels of the images that it is trained at.
    pub fn training_size(&self) -> usize {
        self.transformer.sample_size * self.autoencoder.compression()
    }

    /// Rows of the transformer's batch for a number of images: two for each with classifier-free
    /// guidance, which models that embed the guidance scale do without.
    pub fn rows(&self, images: usize) -> usize {
        match self.transformer.guidance_embeds {
            true => images,
            false => 2 * images,
        }
    }

    /// Parameters of the transformer, counted from shapes: nothing is allocated.
    pub fn transformer_parameters(&self, device: &Device) -> u64 {
        let config = &self.transformer;
        let one = |num_layers| {
            let config = SanaTransformerConfig {
                num_layers,
                ..config.clone()
            };
            count(&config.init(device))
        };
        // All blocks have the same shapes.
        let block = one(2) - one(1);
        one(1) + (config.num_layers as u64 - 1) * block
    }

    /// Parameters of the matrices in the text encoder's layers.
    pub fn text_parameters(&self) -> u64 {
        let Gemma2Config {
            hidden_size,
            intermediate_size,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            ..
        } = self.text;
        let heads = 2 * (num_attention_heads + num_key_value_heads);
        let layer = hidden_size * (heads * head_dim + 3 * intermediate_size);
        (num_hidden_layers * layer) as u64
    }

    /// Parameters of the autoencoder, counted from shapes.
    pub fn autoencoder_parameters(&self, device: &Device) -> u64 {
        count(&self.autoencoder.init(device))
    }
}

fn count<M: Module>(module: &M) -> u64 {
    let shapes = parameter_shapes(module, sana_linear_attn::KeyMap::default());
    let sizes = shapes
        .iter()
        .map(|(_, shape)| shape.iter().product::<usize>());
    sizes.sum::<usize>() as u64
}

/// Weights that were made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Weights {
    pub parameters: u64,
    pub bytes: u64,
}

impl Weights {
    /// With layers of these sizes `[out, in]` in another form than `dtype`.
    pub fn quantized(
        self,
        sizes: &[[usize; 2]],
        dtype: DType,
        form: Quantization,
        device: &Device,
    ) -> Self {
        let dense: usize = sizes.iter().map(|[rows, inputs]| rows * inputs).sum();
        let packed = |&[rows, inputs]: &[usize; 2]| form.on(inputs, device).bytes([rows, inputs]);
        let packed: usize = sizes.iter().map(packed).sum();
        Self {
            bytes: (self.bytes + packed as u64).saturating_sub((dense * dtype.size()) as u64),
            ..self
        }
    }

    pub fn plus(self, other: Self) -> Self {
        Self {
            parameters: self.parameters + other.parameters,
            bytes: self.bytes + other.bytes,
        }
    }
}

/// Makes all weights of a module, random and in `dtype`. They are lazy otherwise, and would be
/// made within the first run that is timed.
pub fn random<M: Module + LinearLayers>(
    module: M,
    dtype: DType,
    bf16_gemm: Bf16Gemm,
) -> (M, Weights) {
    let mut module = match dtype {
        DType::F32 => module,
        dtype => module.map(&mut Cast(dtype)),
    };
    module.set_bf16_gemm(bf16_gemm);
    let mut made = Make(Weights::default());
    module.visit(&mut made);
    (module, made.0)
}

struct Cast(DType);

impl ModuleMapper for Cast {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let dtype = self.0;
        param.map(|tensor| tensor.cast(dtype))
    }
}

struct Make(Weights);

impl ModuleVisitor for Make {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val();
        let elements = tensor.dims().iter().product::<usize>() as u64;
        self.0.parameters += elements;
        self.0.bytes += elements * tensor.dtype().size() as u64;
    }
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use super::*;

    #[test]
    fn rows_and_sizes() {
        let guided = Models::of("sana-1600m-4kpx").unwrap();
        assert_eq!((guided.rows(3), guided.training_size()), (6, 4096));
        assert_eq!(guided.pixels_per_token(), 32);
        let sprint = Models::of("sana-sprint-0.6b").unwrap();
        assert_eq!((sprint.rows(3), sprint.training_size()), (3, 1024));
        assert!(Models::of("sana-9b").is_err());
    }

    #[test]
    fn weights_are_made_in_their_dtype() {
        let linear = sana_linear_attn::TorchLinear::new(6, 5, true, &Device::flex());
        let (linear, weights) = random(linear, DType::BF16, Bf16Gemm::default());
        let expected = Weights {
            parameters: 35,
            bytes: 70,
        };
        assert_eq!(weights, expected);
        assert!(linear.weight.is_initialized());
        assert_eq!(linear.weight.val().dtype(), DType::BF16);
        let sum = weights.plus(expected);
        assert_eq!((sum.parameters, sum.bytes), (70, 140));
    }
}
