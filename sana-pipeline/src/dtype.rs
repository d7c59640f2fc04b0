//! Which dtype each part is loaded in.

use burn::tensor::{DType, Device};
use sana_linear_attn::Weights;

use crate::checkpoint::Part;

/// The dtype of a part, and why it is not the one to be expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    pub dtype: DType,
    pub note: Option<String>,
}

/// Chooses the dtype of a part.
///
/// The user's choice, or else that of the weights, with three exceptions. On the CPU backend
/// weights are widened to f32 unless the user chose otherwise: it has no arithmetic of its own for
/// bf16. The text encoder and the autoencoder leave the range of f16 and are loaded in bf16 or f32
/// instead. What the device does not support becomes f32.
pub(crate) fn choose(
    part: Part,
    weights: &Weights,
    wanted: Option<DType>,
    device: &Device,
) -> Choice {
    let plain = |dtype| Choice { dtype, note: None };
    let stored = stored_dtype(weights);
    let dtype = match wanted {
        None if is_cpu(device) => return plain(DType::F32),
        wanted => wanted.unwrap_or(stored),
    };
    let noted = |dtype, reason: &str| Choice {
        dtype,
        note: Some(format!("{part} runs in {}: {reason}", name(dtype))),
    };
    let bf16 = device.supports_dtype(DType::BF16) && !is_cpu(device);
    match dtype {
        DType::F16 if part.stage() != Part::Transformer => noted(
            if bf16 { DType::BF16 } else { DType::F32 },
            "its values leave the range of f16",
        ),
        DType::F32 => plain(dtype),
        dtype if device.supports_dtype(dtype) => plain(dtype),
        dtype => noted(
            DType::F32,
            &format!("the device does not support {}", name(dtype)),
        ),
    }
}

/// Whether a device is the CPU backend.
pub(crate) fn is_cpu(device: &Device) -> bool {
    #[cfg(feature = "flex")]
    let cpu = *device == Device::flex();
    #[cfg(not(feature = "flex"))]
    let cpu = {
        let _ = device;
        false
    };
    cpu
}

/// The dtype that most of the weights' bytes are in; f32 where there are none.
pub(crate) fn stored_dtype(weights: &Weights) -> DType {
    let mut bytes = [(DType::F32, 0), (DType::F16, 0), (DType::BF16, 0)];
    for tensor in weights.names() {
        let dtype = weights.dtype(tensor);
        if let Some((_, sum)) = bytes.iter_mut().find(|(known, _)| Some(*known) == dtype) {
            *sum += weights.bytes(tensor).map_or(0, <[u8]>::len);
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
    fn the_cpu_widens_unless_asked_otherwise() {
        let device = Device::flex();
        assert!(is_cpu(&device));
        let half = weights(&[(DType::BF16, 4)]);
        let choice = |part, wanted| choose(part, &half, wanted, &device);
        let plain = |dtype| Choice { dtype, note: None };
        assert_eq!(choice(Part::Transformer, None), plain(DType::F32));
        assert_eq!(choice(Part::Vae, Some(DType::BF16)), plain(DType::BF16));
        assert_eq!(
            choice(Part::Transformer, Some(DType::F16)),
            plain(DType::F16)
        );
        let text = choice(Part::TextEncoder, Some(DType::F16));
        assert_eq!(text.dtype, DType::F32);
        assert!(text.note.unwrap().contains("leave the range of f16"));
        let odd = choice(Part::Transformer, Some(DType::QFloat(Default::default())));
        assert_eq!(odd.dtype, DType::F32);
        assert!(odd.note.unwrap().contains("does not support"));
    }

    #[test]
    fn names() {
        assert_eq!(name(DType::BF16), "bf16");
        assert_eq!(name(DType::F32), "f32");
    }
}
