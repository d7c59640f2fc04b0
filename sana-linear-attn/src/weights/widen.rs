//! 16-bit floats to f32, exactly and at the speed of memory.

use burn::tensor::{AllocationProperty, Bytes, DType};
use memmap2::MmapMut;
#[cfg(feature = "flex")]
use rayon::prelude::*;

/// Elements of one parallel task: 2 MB of f32, so that two tasks share no large page.
const CHUNK: usize = 1 << 19;
/// From this many elements on, memory is asked for in large pages.
const LARGE: usize = 1 << 20;

/// Where the values go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// A vector, which operations in place may write to.
    Heap,
    /// Large pages where the system has them. Fresh memory of the size of a weight is a page fault
    /// for every 4 kB otherwise, and these take most of the time. To be read only: a write in place
    /// would copy it all, and keep both.
    Pages,
}

/// The f32 values of a tensor's bytes in bf16 or f16; `None` for another dtype.
pub(crate) fn widened(source: &[u8], dtype: DType, target: Target) -> Option<Bytes> {
    match dtype {
        DType::BF16 => Some(converted(source, target, from_bf16)),
        DType::F16 => Some(converted(source, target, from_f16)),
        _ => None,
    }
}

/// The upper half of an f32.
fn from_bf16(value: [u8; 2]) -> f32 {
    f32::from_bits(u32::from(u16::from_ne_bytes(value)) << 16)
}

/// Exponent and mantissa moved to their places in f32, then multiplied by the power of two between
/// the biases, which also normalises subnormal values. Without a branch, so that the compiler
/// vectorises it.
fn from_f16(value: [u8; 2]) -> f32 {
    const BIAS: f32 = f32::from_bits((127 + 127 - 15) << 23);
    let bits = u32::from(u16::from_ne_bytes(value));
    let (sign, magnitude) = ((bits & 0x8000) << 16, (bits & 0x7fff) << 13);
    let finite = (f32::from_bits(magnitude) * BIAS).to_bits();
    let special = magnitude | 0x7f80_0000;
    let magnitude = if bits & 0x7c00 == 0x7c00 {
        special
    } else {
        finite
    };
    f32::from_bits(sign | magnitude)
}

fn converted(source: &[u8], target: Target, f: impl Fn([u8; 2]) -> f32 + Sync) -> Bytes {
    let (source, _) = source.as_chunks::<2>();
    if target == Target::Pages
        && source.len() >= LARGE
        && let Some(mut pages) = large_pages(size_of::<f32>() * source.len())
    {
        let (out, _) = pages.as_chunks_mut::<4>();
        fill(out, source, |value| f(value).to_ne_bytes());
        let pages = bytes::Bytes::from_owner(pages);
        return Bytes::from_shared(pages, AllocationProperty::Other);
    }
    let mut out = vec![0f32; source.len()];
    fill(&mut out, source, f);
    Bytes::from_elems(out)
}

/// Memory of its own, in large pages if the system can; `None` if it has none of this kind to give.
fn large_pages(length: usize) -> Option<MmapMut> {
    let pages = MmapMut::map_anon(length).ok()?;
    // A hint: without it the pages are small ones.
    #[cfg(target_os = "linux")]
    let _ = pages.advise(memmap2::Advice::HugePage);
    Some(pages)
}

/// On all cores where the CPU backend is built in.
fn fill<T: Send>(out: &mut [T], source: &[[u8; 2]], f: impl Fn([u8; 2]) -> T + Sync) {
    let chunk = |(out, source): (&mut [T], &[[u8; 2]])| {
        for (out, &value) in out.iter_mut().zip(source) {
            *out = f(value);
        }
    };
    #[cfg(feature = "flex")]
    out.par_chunks_mut(CHUNK)
        .zip(source.par_chunks(CHUNK))
        .for_each(chunk);
    #[cfg(not(feature = "flex"))]
    out.chunks_mut(CHUNK)
        .zip(source.chunks(CHUNK))
        .for_each(chunk);
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;

    fn values(bytes: &Bytes) -> Vec<f32> {
        let (values, rest) = bytes.as_chunks::<4>();
        assert!(rest.is_empty());
        values.iter().map(|v| f32::from_ne_bytes(*v)).collect()
    }

    fn same(ours: f32, expected: f32) -> bool {
        ours.to_bits() == expected.to_bits() || (ours.is_nan() && expected.is_nan())
    }

    /// Every value there is, subnormal ones, infinities and NaN too.
    #[test]
    fn every_value_is_exact() {
        let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_ne_bytes).collect();
        for target in [Target::Heap, Target::Pages] {
            let ours = values(&widened(&all, DType::BF16, target).unwrap());
            assert_eq!(ours.len(), 1 << 16);
            for (bits, ours) in (0..=u16::MAX).zip(ours) {
                let expected = bf16::from_bits(bits).to_f32();
                assert!(same(ours, expected), "bf16 {bits:#06x}: {ours}");
            }
            let ours = values(&widened(&all, DType::F16, target).unwrap());
            for (bits, ours) in (0..=u16::MAX).zip(ours) {
                let expected = f16::from_bits(bits).to_f32();
                assert!(same(ours, expected), "f16 {bits:#06x}: {ours}");
            }
        }
        assert!(widened(&all, DType::F32, Target::Heap).is_none());
    }

    /// Beyond one task and beyond the size from which large pages are used, both of them cut
    /// unevenly.
    #[test]
    fn large_tensors_are_whole() {
        let length = LARGE + CHUNK / 2 + 3;
        let source: Vec<u8> = (0..length)
            .flat_map(|i| ((i * 7) as u16).to_ne_bytes())
            .collect();
        for target in [Target::Heap, Target::Pages] {
            let ours = values(&widened(&source, DType::BF16, target).unwrap());
            assert_eq!(ours.len(), length);
            for (i, ours) in ours.into_iter().enumerate() {
                assert!(same(ours, bf16::from_bits((i * 7) as u16).to_f32()), "{i}");
            }
        }
        let none = widened(&[], DType::F16, Target::Pages).unwrap();
        assert_eq!(none.len(), 0);
    }
}
