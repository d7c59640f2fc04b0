//! How an image is cut into tiles, and tiles into tasks.

use std::ops::Range;

use crate::kernels::flex::backend::primitive::{Primitive, dims};

/// Outputs of a tile along an axis.
pub(super) const TILE: usize = 4;
/// Inputs that a tile reads along an axis, and its products.
pub(super) const READ: usize = 6;
/// Tiles that are transformed together.
pub(super) const LANES: usize = 16;
/// Bytes of transformed inputs and products that one task holds at a time, about: a core's
/// second-level cache and a part of the third.
pub(super) const TASK_BYTES: usize = 2 << 20;
/// Tiles of a task at least: products with fewer columns are slow.
pub(super) const TASK_TILES: usize = 48;

/// Tasks of an image at least, where it has as many rows of tiles.
pub(super) const IMAGE_TASKS: usize = 8;

/// A number for each of the tiles that are transformed together.
pub(super) type Lanes = [f32; LANES];

#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub batch: usize,
    pub input: usize,
    pub output: usize,
    /// Of the output, and of the input where it is not doubled.
    pub height: usize,
    pub width: usize,
    /// Whether each pixel of the input stands for a square of 2x2.
    pub doubled: bool,
    pub tile_rows: usize,
    pub tile_columns: usize,
}

/// The tile rows of one task.
#[derive(Clone, Copy)]
pub(super) struct Band {
    pub item: usize,
    pub first: usize,
    pub rows: usize,
}

impl Shape {
    pub(super) fn new(x: &Primitive, weight: &Primitive, doubled: bool) -> Self {
        let [batch, input, height, width] = dims(x);
        let [output, ..] = dims::<4>(weight);
        let scale = 1 + usize::from(doubled);
        let (height, width) = (scale * height, scale * width);
        Self {
            batch,
            input,
            output,
            height,
            width,
            doubled,
            tile_rows: height.div_ceil(TILE),
            tile_columns: width.div_ceil(TILE),
        }
    }

    /// The pixels of a channel that a band reads.
    pub(super) fn pixels(&self, band: Band) -> Range<usize> {
        let rows = (TILE * band.first).saturating_sub(1)
            ..self.height.min(TILE * (band.first + band.rows) + 1);
        match self.doubled {
            true => {
                let width = self.width / 2;
                rows.start / 2 * width..rows.end.div_ceil(2) * width
            }
            false => rows.start * self.width..rows.end * self.width,
        }
    }

    pub(super) fn bands(&self) -> Vec<Band> {
        let bytes_per_tile = READ * READ * (self.input + self.output) * size_of::<f32>();
        let tiles = (TASK_BYTES / bytes_per_tile).max(TASK_TILES);
        // Neither batch nor threads decide: an image is the same alone and in a batch.
        let shared = self.tile_rows.div_ceil(IMAGE_TASKS).max(1);
        let rows = tiles.div_ceil(self.tile_columns).clamp(1, shared);
        (0..self.batch)
            .flat_map(|item| {
                (0..self.tile_rows)
                    .step_by(rows)
                    .map(move |first| (item, first))
            })
            .map(|(item, first)| Band {
                item,
                first,
                rows: rows.min(self.tile_rows - first),
            })
            .collect()
    }
}

/// Where the tiles of one row and channel stand in a buffer: those of product `p` from
/// `start + p * step`.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub start: usize,
    pub step: usize,
}
