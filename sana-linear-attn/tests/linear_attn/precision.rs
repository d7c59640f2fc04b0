//! 16-bit weights under f32 arithmetic on the CPU: bit for bit what f32 weights of the same values
//! give, in every layer and in the whole transformer, where products in bf16 are not wanted.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, Tensor, TensorData};
use sana_linear_attn::kernels::cast;
use sana_linear_attn::layers::{
    Conv3x3, DepthwiseConv, LinearLayers, LowRank, PointwiseConv, RmsNormAffine,
};
use sana_linear_attn::parity::{Fixture, built_in_fixture_path, values, weights_folder};
use sana_linear_attn::precision::Bf16Gemm;
use sana_linear_attn::transformer::{F16Clamp, TransformerInput};
use sana_linear_attn::weights::{check_module, write_tensors};
use sana_linear_attn::{
    GluMbConvConfig, GluMbConvNorm, KeyMap, LoadOptions, MultiScaleLinearAttentionConfig,
    SanaTransformer, SanaTransformerConfig, SaveOptions, TorchLinear, WeightError, Weights,
    load_module, save_module,
};

const HALVES: [DType; 2] = [DType::BF16, DType::F16];

/// All parameters in another dtype.
struct InDtype(DType);

impl ModuleMapper for InDtype {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| tensor.cast(self.0))
    }
}

/// Values without a pattern, of magnitude up to 1.
fn waves<const D: usize>(shape: [usize; D], seed: f32) -> Tensor<D> {
    let count = shape.iter().product::<usize>();
    let values: Vec<f32> = (0..count)
        .map(|i| (i as f32 * 0.731 + seed + (i as f32 * 0.0131).cos()).sin())
        .collect();
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

/// A layer with 16-bit weights against the same with these widened beforehand, on an f32 input.
fn compare<M: Module, const X: usize, const Y: usize>(
    name: &str,
    layer: M,
    x: [usize; X],
    forward: impl Fn(&M, Tensor<X>) -> Tensor<Y>,
) {
    let full = values(forward(&layer, waves(x, 1.0)));
    for half in HALVES {
        let narrow = layer.clone().map(&mut InDtype(half));
        let wide = narrow.clone().map(&mut InDtype(DType::F32));
        let ours = forward(&narrow, waves(x, 1.0));
        assert_eq!(ours.dtype(), DType::F32, "{name} in {half:?}");
        let ours = values(ours);
        assert!(
            ours == values(forward(&wide, waves(x, 1.0))),
            "{name} in {half:?}"
        );
        assert!(ours != full, "{name}: {half:?} weights are those in f32");
    }
}

/// With linear layers that do not multiply bf16 weights as they are where the CPU can.
fn widened<M: LinearLayers>(mut layer: M) -> M {
    layer.set_bf16_gemm(Bf16Gemm::Widened);
    layer
}

#[test]
fn every_layer_widens_its_weights() {
    let device = Device::flex();
    let mut linear = TorchLinear::new(7, 5, true, &device);
    compare(
        "linear",
        widened(linear.clone()),
        [2, 3, 7],
        |l, x: Tensor<3>| l.forward(x),
    );
    linear.low_rank.push(LowRank {
        down: waves([2, 7], 2.0).cast(DType::BF16),
        up: waves([5, 2], 3.0).cast(DType::BF16),
    });
    compare(
        "with a LoRA",
        widened(linear),
        [2, 3, 7],
        |l, x: Tensor<3>| l.forward(x),
    );

    let pointwise = || widened(PointwiseConv::new(6, 4, true, &device));
    compare("pointwise", pointwise(), [2, 5, 6], |l, x| l.forward(x));
    compare("pointwise, image", pointwise(), [2, 6, 3, 2], |l, x| {
        l.forward_image(x)
    });
    let depthwise = DepthwiseConv::new(6, 3, true, &device);
    compare("depthwise", depthwise, [2, 12, 6], |l, x| {
        l.forward(x, [3, 4])
    });
    for stride in [1, 2] {
        let conv = Conv3x3::new(3, 4, stride, true, &device);
        compare("3x3", conv, [2, 3, 5, 6], |l, x| l.forward(x));
    }

    let mut norm = RmsNormAffine::new(6, true, 1e-5, &device);
    norm.weight = Param::from_tensor(waves([6], 4.0) + 1.5);
    norm.bias = Some(Param::from_tensor(waves([6], 5.0)));
    compare("norm", norm.clone(), [2, 3, 6], |l, x: Tensor<3>| {
        l.forward(x)
    });
    compare("norm, image", norm, [2, 6, 3, 2], |l, x| l.forward_image(x));

    let feed_forward = GluMbConvConfig {
        channels: 6,
        out_channels: 6,
        expand_ratio: 2.0,
        norm: GluMbConvNorm::Rms,
        residual: true,
    };
    compare(
        "feed-forward",
        widened(feed_forward.init(&device)),
        [2, 12, 6],
        |l, x| l.forward(x, 3, 4),
    );
    let attention = MultiScaleLinearAttentionConfig {
        channels: 8,
        head_dim: 4,
        kernel_sizes: vec![3],
    };
    compare(
        "multi-scale attention",
        widened(attention.init(&device)),
        [2, 8, 3, 4],
        |l, x| l.forward(x),
    );
}

/// A cast to the dtype a tensor has is the tensor; one to f32 is exact, of views too; the gradient
/// comes back in the narrow dtype.
#[test]
fn casts() {
    for half in HALVES {
        let narrow = waves([5, 7, 3], 1.0).cast(half);
        assert_eq!(cast(narrow.clone(), half).dtype(), half);
        for view in [
            narrow.clone(),
            narrow.clone().permute([2, 0, 1]),
            narrow.clone().narrow(0, 2, 3),
            narrow.clone().narrow(0, 0, 2),
        ] {
            let ours = cast(view.clone(), DType::F32);
            assert_eq!(ours.dims(), view.dims());
            assert_eq!(values(ours), values(view.cast(DType::F32)));
        }
        let device = Device::flex().autodiff();
        let data = narrow.clone().into_data();
        let tracked = Tensor::<3>::from_data(data, (&device, half)).require_grad();
        let seed = Tensor::<3>::from_data(waves([5, 7, 3], 2.0).into_data(), &device);
        let grads = (cast(tracked.clone(), DType::F32) * seed.clone())
            .sum()
            .backward();
        let gradient = tracked.grad(&grads).expect("a gradient");
        assert_eq!(gradient.dtype(), half);
        assert_eq!(
            values(gradient.cast(DType::F32)),
            values(seed.inner().cast(half).cast(DType::F32))
        );
        assert_eq!(cast(waves([3], 0.0), half).dtype(), half);
    }
}

const FIXTURES: [&str; 7] = [
    "sana",
    "sana_1_5",
    "sana_2k",
    "sana_4k_nonsquare",
    "sana_head_dim_32",
    "sana_patch2",
    "sana_sprint",
];

struct Case {
    config: SanaTransformerConfig,
    weights: Weights,
    io: Fixture,
}

impl Case {
    /// A fixture with its weights written in another dtype.
    fn new(name: &str, dtype: DType) -> Self {
        let folder =
            built_in_fixture_path(env!("CARGO_MANIFEST_DIR"), &format!("transformer/{name}"));
        let config = SanaTransformerConfig::from_file(&folder.join("config.json")).unwrap();
        let weights =
            Weights::open_folder(&weights_folder(&folder), "diffusion_pytorch_model", None)
                .unwrap();
        let case = Self {
            io: Fixture::at(&folder.join("io.safetensors")),
            config,
            weights,
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("half.safetensors");
        let options = SaveOptions {
            dtype: Some(dtype),
            ..SaveOptions::default()
        };
        save_module(&case.load(DType::F32), &path, &options).unwrap();
        let weights = Weights::from_bytes("half", std::fs::read(&path).unwrap()).unwrap();
        Self { weights, ..case }
    }

    fn load(&self, dtype: DType) -> SanaTransformer {
        let device = Device::flex();
        self.config
            .load(&self.weights, Some(dtype), F16Clamp::Auto, &device)
            .unwrap()
    }

    /// Output, with and without perturbed attention.
    fn run(&self, model: &SanaTransformer) -> Vec<f32> {
        let device = Device::flex();
        let tensor = |name| self.io.tensor::<1>(name, &device);
        let text = model.text_context(
            self.io.tensor("caption", &device),
            Some(self.io.tensor("caption_mask", &device)),
        );
        let guidance = self.io.contains("guidance").then(|| tensor("guidance"));
        let blocks = self.config.perturbed_blocks([0]).unwrap();
        let latents = self.io.tensor("input", &device);
        let mut input = TransformerInput::new(latents, tensor("timestep"), &text)
            .with_perturbed(&blocks, &text);
        input.guidance = guidance.map(Into::into);
        let out = model.forward(input);
        let mut all = values(out.velocity);
        all.extend(values(out.perturbed.unwrap()));
        all
    }
}

#[test]
fn the_transformer_is_that_of_widened_weights() {
    for name in FIXTURES {
        for half in HALVES {
            let case = Case::new(name, half);
            let (narrow, wide) = (widened(case.load(half)), case.load(DType::F32));
            assert_eq!((narrow.dtype(), wide.dtype()), (half, DType::F32));
            assert_eq!(narrow.compute_dtype(), DType::F32);
            let (ours, expected) = (case.run(&narrow), case.run(&wide));
            assert!(ours == expected, "{name} in {half:?}");
            // What computing in the dtype itself loses shows.
            let lossy = narrow.with_compute_dtype(half);
            assert_eq!(lossy.compute_dtype(), half);
            assert!(case.run(&lossy) != expected, "{name} in {half:?}");
        }
    }
}

/// f32 weights can be computed with in 16 bits, too.
#[test]
fn the_dtype_of_the_computation_can_be_chosen() {
    let case = Case::new("sana", DType::BF16);
    let narrow = case.load(DType::BF16).with_compute_dtype(DType::BF16);
    let wide = case.load(DType::F32).with_compute_dtype(DType::BF16);
    assert_eq!(wide.dtype(), DType::F32);
    assert!(case.run(&narrow) == case.run(&wide));
}

/// What is in memory is what is in the file: bytes and dtype, of a file of some megabytes, also when
/// the file is gone; and no operation writes to it.
#[test]
fn loading_keeps_bytes_and_dtype() {
    let device = Device::flex();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("medium.safetensors");
    let layer = TorchLinear::new(1500, 1100, true, &device);
    for dtype in [DType::BF16, DType::F16, DType::F32] {
        let options = SaveOptions {
            dtype: Some(dtype),
            ..SaveOptions::default()
        };
        save_module(&layer, &path, &options).unwrap();
        let weights = Weights::open_file(&path).unwrap();
        let file = weights.bytes("weight").unwrap().to_vec();
        assert_eq!(file.len(), 1500 * 1100 * dtype.size());
        let fresh = TorchLinear::new(1500, 1100, true, &device);
        check_module(&fresh, &weights, &LoadOptions::default()).unwrap();
        let loaded = load_module(fresh, &weights, &LoadOptions::default(), &device).unwrap();
        drop(weights);
        // Where a mapped file can be removed, it lives on until it is no longer mapped.
        if cfg!(unix) {
            std::fs::remove_file(&path).unwrap();
        }
        let stored = |layer: &TorchLinear| {
            let data = layer.weight.val().into_data();
            assert_eq!(data.dtype(), dtype);
            data.as_bytes().to_vec()
        };
        assert!(stored(&loaded) == file, "{dtype:?}");
        let twice = loaded.clone().weight.into_value() * 2.0;
        assert!(twice.into_data().as_bytes() != file);
        assert!(stored(&loaded) == file, "{dtype:?}");
        let own = loaded.weight.into_value().exp();
        assert_eq!(own.dims(), [1100, 1500]);
    }
}

#[test]
fn checking_finds_what_loading_would() {
    let device = Device::flex();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let data = TensorData::new(vec![0f32; 6], [2, 3]);
    write_tensors(&path, vec![("weight".to_owned(), data)]).unwrap();
    let weights = Weights::open_file(&path).unwrap();
    let options = LoadOptions::default();
    check_module(&TorchLinear::new(3, 2, false, &device), &weights, &options).unwrap();
    let error = check_module(&TorchLinear::new(2, 3, true, &device), &weights, &options);
    assert!(
        matches!(&error, Err(WeightError::Mismatch { missing, misshapen, .. })
            if missing == &["bias"] && misshapen.len() == 1),
        "{error:?}"
    );
    let renamed = LoadOptions {
        key_map: KeyMap(&[("weight", "w")]),
        ..options
    };
    let error = check_module(&TorchLinear::new(3, 2, false, &device), &weights, &renamed);
    assert!(matches!(error, Err(WeightError::Mismatch { .. })));
}
