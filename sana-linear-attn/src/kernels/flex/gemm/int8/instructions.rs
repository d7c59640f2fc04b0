//! Which instructions multiply.

use std::mem::MaybeUninit;

#[cfg(all(test, target_arch = "x86_64"))]
use super::avx2::ShortVnni;
#[cfg(target_arch = "x86_64")]
use super::avx2::{Avx2, AvxVnni};
#[cfg(target_arch = "x86_64")]
use super::avx512::Vnni;
use super::portable::Portable;
use super::tile::Layer;

/// Instructions that multiply integers, the fastest ones first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Instructions {
    /// `vpdpbusd` of 512 bits (Intel from Ice Lake, AMD from Zen 4).
    Avx512Vnni,
    /// `vpdpbusd` of 256 bits, on processors without AVX-512 (Intel from Alder Lake).
    AvxVnni,
    /// The same of AVX-512, which runs the tile of [`AvxVnni`](Self::AvxVnni) on more processors.
    #[cfg(test)]
    ShortVnni,
    /// `vpmaddwd` of 256 bits.
    Avx2,
    /// Whatever the compiler makes of it.
    Portable,
}

impl Instructions {
    pub const ALL: &[Self] = &[
        Self::Avx512Vnni,
        Self::AvxVnni,
        #[cfg(test)]
        Self::ShortVnni,
        Self::Avx2,
        Self::Portable,
    ];

    /// The fastest ones of this processor.
    pub fn best() -> Self {
        let mut supported = Self::ALL.iter().filter(|one| one.is_supported());
        supported.next().copied().unwrap_or(Self::Portable)
    }

    /// Whether this processor has them.
    pub fn is_supported(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return match self {
            Self::Avx512Vnni => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
            Self::AvxVnni => {
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("avxvnni")
            }
            #[cfg(test)]
            Self::ShortVnni => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
            Self::Avx2 => is_x86_feature_detected!("avx2"),
            Self::Portable => true,
        };
        #[cfg(not(target_arch = "x86_64"))]
        return self == Self::Portable;
    }

    /// The layer's output.
    ///
    /// # Safety
    /// The instructions are supported.
    pub(super) unsafe fn run(self, layer: &Layer<'_>, x: &[f32], out: &mut [MaybeUninit<f32>]) {
        // SAFETY: as the caller promises.
        unsafe {
            match self {
                #[cfg(target_arch = "x86_64")]
                Self::Avx512Vnni => layer.forward::<Vnni>(x, out),
                #[cfg(target_arch = "x86_64")]
                Self::AvxVnni => layer.forward::<AvxVnni>(x, out),
                #[cfg(all(test, target_arch = "x86_64"))]
                Self::ShortVnni => layer.forward::<ShortVnni>(x, out),
                #[cfg(target_arch = "x86_64")]
                Self::Avx2 => layer.forward::<Avx2>(x, out),
                _ => layer.forward::<Portable>(x, out),
            }
        }
    }
}
