//! What one instruction multiplies in a lane.

use std::arch::x86_64::*;
use std::mem::transmute;

use half::bf16;

pub(super) const LANES: usize = 16;

/// 32 bits of a row: what one instruction multiplies in a lane.
pub(super) trait Unit {
    /// Values of the row that it holds.
    const VALUES: usize;

    /// [`LANES`] units of a row.
    ///
    /// # Safety
    /// [`LANES`]` * VALUES` values can be read, with the instructions of this unit.
    unsafe fn convert(x: *const f32) -> __m512i;

    /// One unit.
    fn convert_one(x: &[f32]) -> u32;

    /// `sum + x * weight` in each lane.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn multiply_add(sum: __m512, x: __m512i, weight: __m512i) -> __m512;
}

impl Unit for f32 {
    const VALUES: usize = 1;

    #[inline(always)]
    unsafe fn convert(x: *const f32) -> __m512i {
        // SAFETY: as the caller promises.
        unsafe { _mm512_loadu_si512(x.cast()) }
    }

    fn convert_one(x: &[f32]) -> u32 {
        x[0].to_bits()
    }

    #[inline(always)]
    unsafe fn multiply_add(sum: __m512, x: __m512i, weight: __m512i) -> __m512 {
        // SAFETY: as the caller promises.
        unsafe { _mm512_fmadd_ps(_mm512_castsi512_ps(x), _mm512_castsi512_ps(weight), sum) }
    }
}

impl Unit for bf16 {
    const VALUES: usize = 2;

    #[inline(always)]
    unsafe fn convert(x: *const f32) -> __m512i {
        // SAFETY: as the caller promises; both types are 512 bits of any value.
        unsafe {
            let (low, high) = (_mm512_loadu_ps(x), _mm512_loadu_ps(x.add(LANES)));
            transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low))
        }
    }

    fn convert_one(x: &[f32]) -> u32 {
        let [low, high] = [x[0], x[1]].map(|x| u32::from(bf16::from_f32(x).to_bits()));
        low | high << 16
    }

    #[inline(always)]
    unsafe fn multiply_add(sum: __m512, x: __m512i, weight: __m512i) -> __m512 {
        // SAFETY: as the caller promises; both types are 512 bits of any value.
        unsafe {
            let [x, weight] = [x, weight].map(|x| transmute::<__m512i, __m512bh>(x));
            _mm512_dpbf16_ps(sum, x, weight)
        }
    }
}
