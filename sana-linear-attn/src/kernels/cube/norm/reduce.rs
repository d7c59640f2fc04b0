//! Sums over rows of channels that several units share.

use burn_cubecl::cubecl::{self, prelude::*};

use crate::kernels::cube::layout::UNITS;

/// How a cube's units are spread over rows.
pub(crate) struct RowUnits {
    /// Units of each row, a power of two.
    pub lanes: usize,
    /// Rows of a cube.
    pub per_cube: usize,
}

impl RowUnits {
    /// Units for rows of so many vectors: each reads a few of them, so that a sum takes few steps
    /// and its reads are under way together.
    pub fn new(vectors: usize) -> Self {
        let lanes = vectors.div_ceil(8).next_power_of_two().clamp(8, UNITS);
        Self {
            lanes,
            per_cube: UNITS / lanes,
        }
    }

    pub fn dim(&self) -> CubeDim {
        CubeDim::new_1d((self.lanes * self.per_cube) as u32)
    }
}

/// The sum of the vectors of a row's units, the same for all of them. Every unit of the cube must
/// come here.
///
/// The tree is the same in every run. Plane operations would save steps where a device has them;
/// shared memory serves on every device.
#[cube]
pub(crate) fn sum_of_row<N: Size>(
    sums: &mut Shared<[f32]>,
    part: Vector<f32, N>,
    #[comptime] width: usize,
    #[comptime] lanes: usize,
) -> f32 {
    let unit = UNIT_POS as usize;
    let lane = unit % lanes;
    let mut sum = part.extract(0usize);
    #[unroll]
    for i in 1..width {
        sum += part.extract(i);
    }
    // What the last sum left has been read by all.
    sync_cube();
    sums[unit] = sum;
    sync_cube();
    let mut half = comptime![lanes / 2].runtime();
    while half > 0 {
        if lane < half {
            let other = sums[unit + half];
            sums[unit] += other;
        }
        sync_cube();
        half /= 2;
    }
    sums[unit - lane]
}
