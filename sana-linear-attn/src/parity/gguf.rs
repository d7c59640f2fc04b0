//! GGUF files for tests.

use burn::tensor::DType;
use half::f16;

use crate::weights::Weights;

/// A value of the metadata.
#[derive(Debug, Clone, Copy)]
pub enum GgufValue<'a> {
    /// 32 bits without a sign.
    U32(u32),
    /// A float of 32 bits.
    F32(f32),
    /// A text.
    Text(&'a str),
}

/// A tensor: its name, its shape with the fastest axis last, the number of its type, its bytes.
pub type GgufTensor = (String, Vec<usize>, u32, Vec<u8>);

/// The bytes of a file of version 3, its tensors at multiples of 32.
pub fn gguf_file(metadata: &[(&str, GgufValue)], tensors: &[GgufTensor]) -> Vec<u8> {
    let mut file = b"GGUF".to_vec();
    file.extend(3u32.to_le_bytes());
    for count in [tensors.len(), metadata.len()] {
        file.extend((count as u64).to_le_bytes());
    }
    let text = |file: &mut Vec<u8>, text: &str| {
        file.extend((text.len() as u64).to_le_bytes());
        file.extend(text.bytes());
    };
    for (key, value) in metadata {
        text(&mut file, key);
        match value {
            GgufValue::U32(value) => {
                file.extend(4u32.to_le_bytes());
                file.extend(value.to_le_bytes());
            }
            GgufValue::F32(value) => {
                file.extend(6u32.to_le_bytes());
                file.extend(value.to_le_bytes());
            }
            GgufValue::Text(value) => {
                file.extend(8u32.to_le_bytes());
                text(&mut file, value);
            }
        }
    }
    let mut data = Vec::new();
    for (name, shape, kind, bytes) in tensors {
        text(&mut file, name);
        file.extend((shape.len() as u32).to_le_bytes());
        for axis in shape.iter().rev() {
            file.extend((*axis as u64).to_le_bytes());
        }
        file.extend(kind.to_le_bytes());
        file.extend((data.len() as u64).to_le_bytes());
        data.extend(bytes);
        data.resize(data.len().next_multiple_of(32), 0);
    }
    file.resize(file.len().next_multiple_of(32), 0);
    file.extend(data);
    file
}

/// Names of Gemma-2's tensors in parts: of transformers, of llama.cpp. Longer ones come first.
const NAMES: [(&str, &str); 14] = [
    ("embed_tokens", "token_embd"),
    ("layers.", "blk."),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("pre_feedforward_layernorm", "ffn_norm"),
    ("post_feedforward_layernorm", "post_ffw_norm"),
    ("post_attention_layernorm", "post_attention_norm"),
    ("input_layernorm", "attn_norm"),
    ("norm.weight", "output_norm.weight"),
];

/// The tensors of a Gemma-2 in f32 as llama.cpp's converter writes them: norms as `1 + weight`; with
/// `q8_0` matrices in blocks of 32 of 8 bits, with what they then stand for.
///
/// # Panics
/// If they are of another dtype.
pub fn gemma2_gguf(weights: &Weights, q8_0: bool) -> (Vec<GgufTensor>, Vec<(String, Vec<f32>)>) {
    let mut values_of = Vec::new();
    let tensors = weights.names().map(|published| {
        assert_eq!(weights.dtype(published), Some(DType::F32));
        let shape = weights.shape(published).unwrap_or_default().to_vec();
        let bytes = weights.bytes(published).unwrap_or_default();
        let bytes = bytes.as_chunks::<4>().0.iter();
        let values: Vec<f32> = bytes.map(|&bytes| f32::from_le_bytes(bytes)).collect();
        let mut name = published.to_owned();
        for (from, to) in NAMES {
            // The last norm's name is the end of others'.
            if from != "norm.weight" || published == from {
                name = name.replace(from, to);
            }
        }
        let bytes = |values: &[f32]| {
            values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect()
        };
        if name.ends_with("norm.weight") {
            let values: Vec<f32> = values.iter().map(|value| 1.0 + value).collect();
            return (name, shape, 0, bytes(&values));
        }
        if !q8_0 {
            return (name, shape, 0, bytes(&values));
        }
        let (mut blocks, mut stood_for) = (Vec::new(), Vec::new());
        for block in values.chunks_exact(32) {
            let largest = block.iter().fold(0f32, |max, value| max.max(value.abs()));
            let scale = f16::from_f32(largest / 127.0);
            blocks.extend(scale.to_le_bytes());
            for value in block {
                let code = (value / scale.to_f32().max(f32::MIN_POSITIVE)).round();
                blocks.push((code as i8).cast_unsigned());
                stood_for.push(code.clamp(-128.0, 127.0) * scale.to_f32());
            }
        }
        values_of.push((published.to_owned(), stood_for));
        (name, shape, 8, blocks)
    });
    let tensors = tensors.collect();
    (tensors, values_of)
}
