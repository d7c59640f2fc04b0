//! A weight that is not finite is found in the layer of the decoder that it belongs to.

use burn::module::Param;
use burn::tensor::{DType, Tensor};
use sana_dcae::{DcAe, DecoderHead, DecoderPlace, StageLayer};
use sana_linear_attn::parity::{device, values};

use crate::{tiny_config, waves};

fn infinite<const D: usize>(weight: &mut Param<Tensor<D>>) {
    *weight = Param::from_tensor(weight.val().full_like(f32::INFINITY));
}

type Spoil = fn(&mut DcAe);

#[test]
fn the_layer_is_named() {
    let device = device();
    let latents = waves([2, 4, 5, 20], &device);
    let cases: [(Spoil, DecoderPlace, &str); 4] = [
        (
            |model| infinite(&mut model.decoder.conv_in.weight),
            DecoderPlace::ConvIn,
            "decoder.conv_in",
        ),
        (
            |model| match &mut model.decoder.up_blocks[0][1] {
                StageLayer::Res(block) => infinite(&mut block.conv2.weight),
                other => panic!("{other:?}"),
            },
            DecoderPlace::Layer { stage: 0, index: 1 },
            "decoder.up_blocks.0.1",
        ),
        (
            |model| infinite(&mut model.decoder.norm_out.weight),
            DecoderPlace::NormOut,
            "decoder.norm_out",
        ),
        (
            |model| match &mut model.decoder.conv_out {
                DecoderHead::Conv(conv) => infinite(&mut conv.weight),
                DecoderHead::Up(block) => panic!("{block:?}"),
            },
            DecoderPlace::ConvOut,
            "decoder.conv_out",
        ),
    ];
    for (spoil, place, name) in cases {
        let mut model = tiny_config().init(&device);
        assert_eq!(model.locate_non_finite(latents.clone()), None);
        spoil(&mut model);
        let decoded = model.decode(latents.clone()).expect("valid latents");
        assert!(values(decoded).iter().any(|value| !value.is_finite()));
        assert_eq!(model.locate_non_finite(latents.clone()), Some(place));
        assert_eq!(place.to_string(), name);
    }
    let model = tiny_config().init(&device);
    let found = model.locate_non_finite(latents.full_like(f32::NAN));
    assert_eq!(found, Some(DecoderPlace::Latents));
}

/// The search computes in the dtype that decoding computes in, whatever the parameters are: a bias
/// beyond the range of f16 is infinite in one and finite in the other.
#[test]
fn the_search_computes_as_decoding_does() {
    let device = device();
    if !device.supports_dtype(DType::F16) {
        return;
    }
    let latents = waves([1, 4, 3, 2], &device);
    let mut model = tiny_config().init_seeded(0, &device);
    let bias = model.decoder.conv_in.bias.as_mut().expect("a bias");
    *bias = Param::from_tensor(bias.val().full_like(7e4));
    let finite = |model: &DcAe| {
        let image = model.decode(latents.clone()).expect("valid latents");
        values(image).iter().all(|value| value.is_finite())
    };
    assert!(finite(&model));
    assert_eq!(model.locate_non_finite(latents.clone()), None);
    let model = model.with_compute_dtype(DType::F16);
    assert!(!finite(&model));
    assert_eq!(
        model.locate_non_finite(latents.clone()),
        Some(DecoderPlace::ConvIn)
    );
}
