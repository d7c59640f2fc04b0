//! Which dtype the weights of each part have in memory. What they are computed in follows from it:
//! see [`sana_linear_attn::precision`].

use burn::tensor::{DType, Device};
use sana_linear_attn::Weights;
use sana_linear_attn::precision::is_cpu;

use crate::checkpoint::Component;

/// The dtype of a part, and why it is not the one to be expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    pub dtype: DType,
    pub note: Option<String>,
}

/// Chooses the dtype of a part.
///
/// The user's choice, or else that of the weights, with three exceptions. On the CPU backend
/// weights are widened to f32 once and for all unless the user chose otherwise: it computes in f32,
/// and would widen them at every use. Elsewhere the text encoder and the autoencoder leave the
/// range of f16 and are loaded in bf16 or f32 instead. What the device does not support becomes
/// f32.
pub(crate) fn choose(
    part: Component,
    weights: &Weights,
    wanted: Option<DType>,
    device: &Device,
) -> Choice {
    let wanted = match wanted {
        None if is_cpu(device) => DType::F32,
        wanted => wanted.unwrap_or_else(|| stored_dtype(weights)),
    };
    let supports = |dtype| device.supports_dtype(dtype);
    choose_on(part, wanted, is_cpu(device), supports)
}

fn choose_on(
    part: Component,
    wanted: DType,
    cpu: bool,
    supports: impl Fn(DType) -> bool,
) -> Choice {
    let plain = |dtype| Choice { dtype, note: None };
    let noted = |dtype, reason: &str| Choice {
        dtype,
        note: Some(format!("{part} runs in {}: {reason}", name(dtype))),
    };
    match wanted {
        DType::F16 if part.stage() != Component::Transformer && !cpu => noted(
            if supports(DType::BF16) {
                DType::BF16
            } else {
                DType::F32
            },
            "its values leave the range of f16",
        ),
        DType::F32 => plain(wanted),
        dtype if supports(dtype) => plain(dtype),
        dtype => noted(
            DType::F32,
            &format!("the device does not support {}", name(dtype)),
        ),
    }
}

/// The dtype that most of the weights' bytes are in; f32 without weights.
pub(crate) fn stored_dtype(weights: &Weights) -> DType {
    let mut bytes = [(DType::F32, 0), (DType::F16, 0), (DType::BF16, 0)];
    for tensor in weights.names() {
        let dtype = weights.dtype(tensor);
        if let Some((_, sum)) = bytes.iter_mut().find(|(known, _)| Some(*known) == dtype) {
            *sum += weights.byte_len(tensor).unwrap_or(0);
        }
    }
    bytes
        .into_iter()
        .rev()
        .max_by_key(|(_, sum)| *sum)
        .map_or(DType::F32, |(dtype, _)| dtype)
}

/// The dtype as users write it: `f32`, `bf16`.
pub(crate) fn name(dtype: DType) -> String {
    format!("{dtype:?}").to_lowercase()
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use burn::tensor::TensorData;
    use sana_linear_attn::weights::write_tensors;

    use super::*;

    fn weights(tensors: &[(DType, usize)]) -> Weights {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("weights.safetensors");
        let tensors = tensors
            .iter()
            .enumerate()
            .map(|(index, &(dtype, elements))| {
                let data = TensorData::new(vec![0f32; elements], [elements]);
                (format!("tensor{index}"), data.convert_dtype(dtype))
            })
            .collect();
        write_tensors(&path, tensors).unwrap();
        Weights::from_bytes("weights", std::fs::read(&path).unwrap()).unwrap()
    }

    #[test]
    fn most_bytes_decide() {
        assert_eq!(stored_dtype(&weights(&[])), DType::F32);
        assert_eq!(
            stored_dtype(&weights(&[(DType::F32, 3), (DType::BF16, 100)])),
            DType::BF16
        );
        assert_eq!(
            stored_dtype(&weights(&[
                (DType::F16, 8),
                (DType::BF16, 7),
                (DType::BF16, 2)
            ])),
            DType::BF16
        );
    }

    #[test]
    fn the_cpu_holds_what_was_asked_for() {
        let device = Device::flex();
        assert!(is_cpu(&device));
        let half = weights(&[(DType::BF16, 4)]);
        let choice = |part, wanted| choose(part, &half, wanted, &device);
        let plain = |dtype| Choice { dtype, note: None };
        for part in [
            Component::TextEncoder,
            Component::Transformer,
            Component::Vae,
        ] {
            assert_eq!(choice(part, None), plain(DType::F32));
            for dtype in [DType::F32, DType::BF16, DType::F16] {
                assert_eq!(choice(part, Some(dtype)), plain(dtype));
            }
        }
        let odd = choice(
            Component::Transformer,
            Some(DType::QFloat(Default::default())),
        );
        assert_eq!(odd.dtype, DType::F32);
        assert!(odd.note.unwrap().contains("does not support"));
    }

    /// Other devices compute in the dtype, so the range and the device's abilities matter.
    #[test]
    fn other_devices_compute_in_it() {
        for (bf16, instead) in [(true, DType::BF16), (false, DType::F32)] {
            let supports = |dtype| dtype != DType::BF16 || bf16;
            let choice = |part, wanted| choose_on(part, wanted, false, supports);
            assert_eq!(choice(Component::Transformer, DType::F16).dtype, DType::F16);
            for part in [Component::TextEncoder, Component::Vae] {
                let Choice { dtype, note } = choice(part, DType::F16);
                assert_eq!(dtype, instead);
                assert!(note.unwrap().contains("leave the range of f16"));
                let Choice { dtype, note } = choice(part, DType::BF16);
                assert_eq!((dtype, note.is_none()), (instead, bf16));
            }
        }
    }

    #[test]
    fn names() {
        assert_eq!(name(DType::BF16), "bf16");
        assert_eq!(name(DType::F32), "f32");
    }
}
