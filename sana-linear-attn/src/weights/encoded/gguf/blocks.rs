//! The block types of GGUF: how the bytes of a block become values.
//!
//! Types in `_0` have a scale, types in `_1` a scale and a minimum per 32 values, as f16. Types in
//! `_K` have 256 values in groups of 16 or 32, whose scales (and minima) are small integers times
//! one f16.

use half::f16;
use safetensors::tensor::Dtype;

/// How a tensor of a GGUF file is stored.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stored {
    Float(Dtype),
    Blocks(&'static BlockType),
}

impl Stored {
    /// The type of a number; its name when it is known, but not supported.
    pub fn of(number: u32) -> Result<Self, String> {
        let unknown = || match unsupported(number) {
            Some(name) => name.to_owned(),
            None => format!("type {number}"),
        };
        match number {
            0 => Ok(Self::Float(Dtype::F32)),
            1 => Ok(Self::Float(Dtype::F16)),
            30 => Ok(Self::Float(Dtype::BF16)),
            _ => BlockType::of(number).map(Self::Blocks).ok_or_else(unknown),
        }
    }

    /// Elements and bytes of a block.
    pub fn block(self) -> [usize; 2] {
        match self {
            Self::Float(dtype) => [1, dtype.bitsize() / 8],
            Self::Blocks(kind) => [kind.elements, kind.bytes],
        }
    }
}

/// A block type.
#[derive(Debug)]
pub(super) struct BlockType {
    pub number: u32,
    pub name: &'static str,
    /// Values of a block.
    pub elements: usize,
    /// Bytes of a block.
    pub bytes: usize,
    /// From the bytes of a block to its values.
    pub decode: fn(&[u8], &mut [f32]),
}

/// What can be read, for messages.
pub(super) const SUPPORTED: &str =
    "Q8_0, Q6_K, Q5_K, Q4_K, Q3_K, Q2_K, Q5_1, Q5_0, Q4_1, Q4_0, BF16, F16 or F32";

static TYPES: [BlockType; 10] = [
    block_type(2, "q4_0", 32, 18, q4_0),
    block_type(3, "q4_1", 32, 20, q4_1),
    block_type(6, "q5_0", 32, 22, q5_0),
    block_type(7, "q5_1", 32, 24, q5_1),
    block_type(8, "q8_0", 32, 34, q8_0),
    block_type(10, "q2_k", 256, 84, q2_k),
    block_type(11, "q3_k", 256, 110, q3_k),
    block_type(12, "q4_k", 256, 144, q4_k),
    block_type(13, "q5_k", 256, 176, q5_k),
    block_type(14, "q6_k", 256, 210, q6_k),
];

const fn block_type(
    number: u32,
    name: &'static str,
    elements: usize,
    bytes: usize,
    decode: fn(&[u8], &mut [f32]),
) -> BlockType {
    BlockType {
        number,
        name,
        elements,
        bytes,
        decode,
    }
}

impl BlockType {
    pub fn of(number: u32) -> Option<&'static Self> {
        TYPES.iter().find(|kind| kind.number == number)
    }
}

/// Names of types that are not read.
fn unsupported(number: u32) -> Option<&'static str> {
    let names = [
        (9, "Q8_1"),
        (15, "Q8_K"),
        (16, "IQ2_XXS"),
        (17, "IQ2_XS"),
        (18, "IQ3_XXS"),
        (19, "IQ1_S"),
        (20, "IQ4_NL"),
        (21, "IQ3_S"),
        (22, "IQ2_S"),
        (23, "IQ4_XS"),
        (24, "I8"),
        (25, "I16"),
        (26, "I32"),
        (27, "I64"),
        (28, "F64"),
        (29, "IQ1_M"),
        (34, "TQ1_0"),
        (35, "TQ2_0"),
        (39, "MXFP4"),
    ];
    let found = names.iter().find(|(known, _)| *known == number);
    found.map(|(_, name)| *name)
}

fn half(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

fn q4_0(block: &[u8], values: &mut [f32]) {
    let scale = half(block, 0);
    let (low, high) = values.split_at_mut(16);
    for (index, &byte) in block[2..18].iter().enumerate() {
        low[index] = scale * (f32::from(byte & 15) - 8.0);
        high[index] = scale * (f32::from(byte >> 4) - 8.0);
    }
}

fn q4_1(block: &[u8], values: &mut [f32]) {
    let (scale, min) = (half(block, 0), half(block, 2));
    let (low, high) = values.split_at_mut(16);
    for (index, &byte) in block[4..20].iter().enumerate() {
        low[index] = scale * f32::from(byte & 15) + min;
        high[index] = scale * f32::from(byte >> 4) + min;
    }
}

/// The fifth bits of 32 values.
fn fifth_bits(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

fn five_bits(bits: u32, index: usize, low: u8) -> f32 {
    f32::from(low | ((bits >> index & 1) as u8) << 4)
}

fn q5_0(block: &[u8], values: &mut [f32]) {
    let (scale, bits) = (half(block, 0), fifth_bits(block, 2));
    let (low, high) = values.split_at_mut(16);
    for (index, &byte) in block[6..22].iter().enumerate() {
        low[index] = scale * (five_bits(bits, index, byte & 15) - 16.0);
        high[index] = scale * (five_bits(bits, index + 16, byte >> 4) - 16.0);
    }
}

fn q5_1(block: &[u8], values: &mut [f32]) {
    let (scale, min, bits) = (half(block, 0), half(block, 2), fifth_bits(block, 4));
    let (low, high) = values.split_at_mut(16);
    for (index, &byte) in block[8..24].iter().enumerate() {
        low[index] = scale * five_bits(bits, index, byte & 15) + min;
        high[index] = scale * five_bits(bits, index + 16, byte >> 4) + min;
    }
}

fn q8_0(block: &[u8], values: &mut [f32]) {
    let scale = half(block, 0);
    for (value, &byte) in values.iter_mut().zip(&block[2..34]) {
        *value = scale * f32::from(byte as i8);
    }
}

fn q2_k(block: &[u8], values: &mut [f32]) {
    let (scales, quants) = (&block[..16], &block[16..80]);
    let (scale, min) = (half(block, 80), half(block, 82));
    for (group, values) in values.chunks_exact_mut(16).enumerate() {
        // Halves of 128 values; in each, four pairs of groups share 32 bytes.
        let (half, pair, odd) = (group / 8, group % 8 / 2, group % 2);
        let scale = scale * f32::from(scales[group] & 15);
        let min = min * f32::from(scales[group] >> 4);
        let quants = &quants[half * 32 + odd * 16..][..16];
        for (value, &byte) in values.iter_mut().zip(quants) {
            *value = scale * f32::from(byte >> (2 * pair) & 3) - min;
        }
    }
}

fn q3_k(block: &[u8], values: &mut [f32]) {
    let (third_bits, quants, packed) = (&block[..32], &block[32..96], &block[96..108]);
    let scale = half(block, 108);
    for (group, values) in values.chunks_exact_mut(16).enumerate() {
        let (half, pair, odd) = (group / 8, group % 8 / 2, group % 2);
        // Low four bits in the first eight bytes, the two above them in the last four.
        let low = packed[group % 8] >> (4 * (group / 8)) & 15;
        let high = packed[8 + group % 4] >> (2 * (group / 4)) & 3;
        let scale = scale * (f32::from(low | high << 4) - 32.0);
        let quants = &quants[half * 32 + odd * 16..][..16];
        let bits = &third_bits[odd * 16..][..16];
        for ((value, &byte), &bits) in values.iter_mut().zip(quants).zip(bits) {
            let third = bits >> (half * 4 + pair) & 1;
            let quant = (byte >> (2 * pair) & 3) | third << 2;
            *value = scale * (f32::from(quant) - 4.0);
        }
    }
}

/// Six bits each of the scale and the minimum of a group of 32, of eight in twelve bytes.
fn scale_and_min(packed: &[u8], group: usize) -> [f32; 2] {
    let (scale, min) = if group < 4 {
        (packed[group] & 63, packed[group + 4] & 63)
    } else {
        let low = packed[group + 4];
        (
            low & 15 | packed[group - 4] >> 6 << 4,
            low >> 4 | packed[group] >> 6 << 4,
        )
    };
    [f32::from(scale), f32::from(min)]
}

fn q4_k(block: &[u8], values: &mut [f32]) {
    let (scale, min) = (half(block, 0), half(block, 2));
    let (packed, quants) = (&block[4..16], &block[16..144]);
    for (group, values) in values.chunks_exact_mut(32).enumerate() {
        let [group_scale, group_min] = scale_and_min(packed, group);
        let (scale, min) = (scale * group_scale, min * group_min);
        let quants = &quants[group / 2 * 32..][..32];
        for (value, &byte) in values.iter_mut().zip(quants) {
            *value = scale * f32::from(byte >> (4 * (group % 2)) & 15) - min;
        }
    }
}

fn q5_k(block: &[u8], values: &mut [f32]) {
    let (scale, min) = (half(block, 0), half(block, 2));
    let (packed, fifth_bits, quants) = (&block[4..16], &block[16..48], &block[48..176]);
    for (group, values) in values.chunks_exact_mut(32).enumerate() {
        let [group_scale, group_min] = scale_and_min(packed, group);
        let (scale, min) = (scale * group_scale, min * group_min);
        let quants = &quants[group / 2 * 32..][..32];
        for ((value, &byte), &bits) in values.iter_mut().zip(quants).zip(fifth_bits) {
            let quant = (byte >> (4 * (group % 2)) & 15) | (bits >> group & 1) << 4;
            *value = scale * f32::from(quant) - min;
        }
    }
}

fn q6_k(block: &[u8], values: &mut [f32]) {
    let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let scale = half(block, 208);
    for (group, values) in values.chunks_exact_mut(16).enumerate() {
        // Halves of 128 values; in each, four runs of 32, of which two share low bytes.
        let (half, run, odd) = (group / 8, group % 8 / 2, group % 2);
        let scale = scale * f32::from(scales[group] as i8);
        let low = &low[half * 64 + run % 2 * 32 + odd * 16..][..16];
        let high = &high[half * 32 + odd * 16..][..16];
        for ((value, &low), &high) in values.iter_mut().zip(low).zip(high) {
            let quant = (low >> (4 * (run / 2)) & 15) | (high >> (2 * run) & 3) << 4;
            *value = scale * (f32::from(quant) - 32.0);
        }
    }
}
