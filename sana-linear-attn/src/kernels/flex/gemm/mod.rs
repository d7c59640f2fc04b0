//! Matrix multiplication by the GEMM that burn's CPU backend uses.

#[cfg(target_arch = "x86_64")]
pub(super) mod dense;
pub(super) mod grouped_linear;
pub(super) mod int8;
pub(super) mod linear;
pub(super) mod prefetch;
pub(super) mod quantized_linear;
pub(super) mod transpose;
pub(super) mod widen;

/// A matrix in a slice: element `(row, column)` is at `row * rows + column * columns`.
#[derive(Clone, Copy)]
pub(super) struct Strides {
    pub row: usize,
    pub column: usize,
}

impl Strides {
    /// A row after the other, `columns` long.
    pub fn rows(columns: usize) -> Self {
        Self {
            row: columns,
            column: 1,
        }
    }

    /// The transpose of [`rows`](Self::rows).
    pub fn columns(rows: usize) -> Self {
        Self {
            row: 1,
            column: rows,
        }
    }
}

/// `dst (+)= lhs x rhs` of an `m x k` by a `k x n` matrix on one thread.
#[allow(clippy::too_many_arguments)]
pub(super) fn gemm(
    [m, n, k]: [usize; 3],
    dst: &mut [f32],
    dst_strides: Strides,
    accumulate: bool,
    lhs: &[f32],
    lhs_strides: Strides,
    rhs: &[f32],
    rhs_strides: Strides,
) {
    parallel_gemm(
        [m, n, k],
        dst,
        dst_strides,
        accumulate,
        lhs,
        lhs_strides,
        rhs,
        rhs_strides,
        gemm::Parallelism::None,
    );
}

/// [`gemm`] with the given parallelism.
#[allow(unsafe_code, clippy::too_many_arguments)]
pub(super) fn parallel_gemm(
    [m, n, k]: [usize; 3],
    dst: &mut [f32],
    dst_strides: Strides,
    accumulate: bool,
    lhs: &[f32],
    lhs_strides: Strides,
    rhs: &[f32],
    rhs_strides: Strides,
    parallelism: gemm::Parallelism,
) {
    let last =
        |rows: usize, columns: usize, s: Strides| (rows - 1) * s.row + (columns - 1) * s.column;
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        // A sum of nothing.
        if !accumulate {
            for row in 0..m {
                for column in 0..n {
                    dst[row * dst_strides.row + column * dst_strides.column] = 0.0;
                }
            }
        }
        return;
    }
    assert!(last(m, n, dst_strides) < dst.len(), "destination too small");
    assert!(last(m, k, lhs_strides) < lhs.len(), "left factor too small");
    assert!(
        last(k, n, rhs_strides) < rhs.len(),
        "right factor too small"
    );
    // SAFETY: the asserts above show that the largest offset of each matrix lies inside its slice;
    // offsets are not negative, and `dst` is borrowed mutably, so it overlaps neither factor.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            dst.as_mut_ptr(),
            dst_strides.column as isize,
            dst_strides.row as isize,
            accumulate,
            lhs.as_ptr(),
            lhs_strides.column as isize,
            lhs_strides.row as isize,
            rhs.as_ptr(),
            rhs_strides.column as isize,
            rhs_strides.row as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}
