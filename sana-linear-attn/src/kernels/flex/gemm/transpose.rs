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
    // Squares, and a pair of rows below them: tiles of six outputs have one.
    let (pairs, whole) = if cfg!(target_arch = "x86_64") {
        (rows / 2 * 2, columns / 4 * 4)
    } else {
        (0, 0)
    };
    #[cfg(target_arch = "x86_64")]
    for column in (0..whole).step_by(4) {
        let squares = rows / 4 * 4;
        // SAFETY: the squares and the pair lie in the matrix.
        unsafe {
            for row in (0..squares).step_by(4) {
                let from = from.add(row * from_step + column);
                square((from, from_step), (to.add(column * to_step + row), to_step));
            }
            if squares < pairs {
                let from = from.add(squares * from_step + column);
                let to = to.add(column * to_step + squares);
                pair((from, from_step), (to, to_step));
            }
        }
    }
    for row in 0..rows {
        let first = if row < pairs { whole } else { 0 };
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

/// 2 x 4 units.
///
/// # Safety
/// They can be read and written.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn pair((from, from_step): (*const u32, usize), (to, to_step): (*mut u32, usize)) {
    use std::arch::x86_64::*;
    // SAFETY: as the caller promises; every processor of this architecture has SSE2.
    unsafe {
        let (a, b) = (
            _mm_loadu_si128(from.cast()),
            _mm_loadu_si128(from.add(from_step).cast()),
        );
        for (i, two) in [_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b)]
            .into_iter()
            .enumerate()
        {
            let to = to.add(2 * i * to_step);
            _mm_storel_epi64(to.cast(), two);
            _mm_storeh_pd(to.add(to_step).cast(), _mm_castsi128_pd(two));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::transpose;

    #[test]
    fn every_unit_is_in_its_place() {
        for rows in 0..10 {
            for columns in 0..10 {
                let (from_step, to_step) = (columns + 3, rows + 2);
                let from: Vec<u32> = (0..).take(rows * from_step).collect();
                let mut to = vec![u32::MAX; columns * to_step];
                // SAFETY: rows and columns have room in both.
                unsafe {
                    transpose(
                        [rows, columns],
                        (from.as_ptr(), from_step),
                        (to.as_mut_ptr(), to_step),
                    );
                }
                for (place, unit) in to.iter().enumerate() {
                    let (column, row) = (place / to_step, place % to_step);
                    let expected = if row < rows {
                        from[row * from_step + column]
                    } else {
                        // Between the rows nothing is written.
                        u32::MAX
                    };
                    assert_eq!(*unit, expected, "{rows} x {columns}: {row}, {column}");
                }
            }
        }
    }
}
