//! Units of 32 bits from rows to columns.

/// Writes a matrix of `[rows, columns]` units transposed. Rows of each side are so many units apart
/// as the second number says.
///
/// # Safety
/// All units of `from` can be read, and those of `to`, `[columns, rows]`, be written.
#[inline(always)]
pub(in crate::kernels::flex) unsafe fn transpose(
    [rows, columns]: [usize; 2],
    (from, from_step): (*const u32, usize),
    (to, to_step): (*mut u32, usize),
) {
    let whole = if cfg!(target_arch = "x86_64") {
        [rows / 4 * 4, columns / 4 * 4]
    } else {
        [0, 0]
    };
    #[cfg(target_arch = "x86_64")]
    for column in (0..whole[1]).step_by(4) {
        for row in (0..whole[0]).step_by(4) {
            // SAFETY: the square lies in the matrix.
            unsafe {
                let from = from.add(row * from_step + column);
                square((from, from_step), (to.add(column * to_step + row), to_step));
            }
        }
    }
    for row in 0..rows {
        let first = if row < whole[0] { whole[1] } else { 0 };
        for column in first..columns {
            // SAFETY: the unit is one of the matrix.
            unsafe {
                let unit = from.add(row * from_step + column).read_unaligned();
                to.add(column * to_step + row).write_unaligned(unit);
            }
        }
    }
}

/// 4 x 4 units.
///
/// # Safety
/// They can be read and written.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn square((from, from_step): (*const u32, usize), (to, to_step): (*mut u32, usize)) {
    use std::arch::x86_64::*;
    // SAFETY: as the caller promises; every processor of this architecture has SSE2.
    unsafe {
        let row = |i: usize| _mm_loadu_si128(from.add(i * from_step).cast());
        let (a, b, c, d) = (row(0), row(1), row(2), row(3));
        let (ab_low, ab_high) = (_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b));
        let (cd_low, cd_high) = (_mm_unpacklo_epi32(c, d), _mm_unpackhi_epi32(c, d));
        let columns = [
            _mm_unpacklo_epi64(ab_low, cd_low),
            _mm_unpackhi_epi64(ab_low, cd_low),
            _mm_unpacklo_epi64(ab_high, cd_high),
            _mm_unpackhi_epi64(ab_high, cd_high),
        ];
        for (i, column) in columns.into_iter().enumerate() {
            _mm_storeu_si128(to.add(i * to_step).cast(), column);
        }
    }
}
