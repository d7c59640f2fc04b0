//! Encoding and decoding large images in overlapping tiles.

use burn::tensor::{Device, Tensor, TensorData};

use crate::DcAeError;

/// Square or oblong tiles that overlap by `tile - stride` pixels, in which the two tiles are mixed
/// linearly. Sizes are `[height, width]` in pixels of the image, for decoding too.
///
/// Peak memory is that of one tile instead of the whole image. Attention and convolutions do not
/// see beyond a tile, so the result differs from that of the whole image, by an amount that depends
/// on the weights and on how many latents a tile has. Measured on decoded images: with the default
/// tiles and trained weights (those of `sana-pipeline`'s built-in model, 1024 x 1024 pixels) a PSNR of
/// 45 dB, and 35 % of the range of values at the worst pixel; with tiles of 96 pixels, three latents,
/// and random weights (the example `round_trip`) up to 0.96 where the range is [-1, 1]. Tiles much
/// smaller than the default are of use in tests only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiling {
    /// Size of a tile; an image no larger than this along both axes is not cut.
    pub tile: [usize; 2],
    /// Distance from one tile to the next.
    pub stride: [usize; 2],
}

/// Tiles of 512 pixels every 448. For 4096-pixel images tiles of 1024 every 896 are usual.
impl Default for Tiling {
    fn default() -> Self {
        Self::square(512, 448)
    }
}

impl Tiling {
    /// The same tile size and stride along both axes.
    pub fn square(tile: usize, stride: usize) -> Self {
        Self {
            tile: [tile; 2],
            stride: [stride; 2],
        }
    }

    /// The default tiles, with a stride that `compression` divides: 512 and 448, but 512 and 384
    /// for a ratio of 128.
    pub fn for_compression(compression: usize) -> Self {
        let down = |pixels: usize| (pixels / compression * compression).max(compression);
        Self::square(down(512), down(448))
    }

    /// Checks the sizes against a compression ratio.
    ///
    /// # Errors
    /// [`DcAeError::InvalidTiling`] where a size is zero or no multiple of the ratio, or a stride
    /// leaves gaps between tiles.
    pub fn validate(&self, compression: usize) -> Result<(), DcAeError> {
        for (index, axis) in ["height", "width"].into_iter().enumerate() {
            let (tile, stride) = (self.tile[index], self.stride[index]);
            let fits = |pixels: usize| pixels > 0 && pixels.is_multiple_of(compression);
            if !(fits(tile) && fits(stride) && stride <= tile) {
                return Err(DcAeError::InvalidTiling {
                    axis,
                    tile,
                    stride,
                    compression,
                });
            }
        }
        Ok(())
    }

    /// The grid of an encoder, from pixels to latents.
    pub(crate) fn encoding(&self, compression: usize) -> TileGrid {
        let latents = |pixels: [usize; 2]| pixels.map(|pixels| pixels / compression);
        TileGrid {
            tile: self.tile,
            stride: self.stride,
            out_tile: latents(self.tile),
            out_stride: latents(self.stride),
        }
    }

    /// The grid of a decoder, from latents to pixels.
    pub(crate) fn decoding(&self, compression: usize) -> TileGrid {
        let encoding = self.encoding(compression);
        TileGrid {
            tile: encoding.out_tile,
            stride: encoding.out_stride,
            out_tile: self.tile,
            out_stride: self.stride,
        }
    }
}

/// Tiles in units of the input and of the output, `[height, width]`.
pub(crate) struct TileGrid {
    tile: [usize; 2],
    stride: [usize; 2],
    out_tile: [usize; 2],
    out_stride: [usize; 2],
}

impl TileGrid {
    /// Applies `network` to `x` tile by tile, or at once where one tile covers it.
    ///
    /// Tiles are mixed in reading order, each with the already mixed tile above it and then with
    /// the one on its left, as the reference does.
    pub(crate) fn apply(
        &self,
        x: Tensor<4>,
        network: impl Fn(Tensor<4>) -> Tensor<4>,
    ) -> Tensor<4> {
        let [_, _, height, width] = x.dims();
        if height <= self.tile[0] && width <= self.tile[1] {
            return network(x);
        }
        let overlap = [0, 1].map(|axis| self.out_tile[axis] - self.out_stride[axis]);

        let mut bands = Vec::new();
        let mut above: Vec<Tensor<4>> = Vec::new();
        for top in (0..height).step_by(self.stride[0]) {
            let rows = self.tile[0].min(height - top);
            let band = x.clone().narrow(2, top, rows);
            let mut row: Vec<Tensor<4>> = Vec::new();
            for left in (0..width).step_by(self.stride[1]) {
                let columns = self.tile[1].min(width - left);
                let mut tile = network(band.clone().narrow(3, left, columns));
                if let Some(neighbour) = above.get(row.len()) {
                    tile = blend(neighbour, tile, 2, overlap[0]);
                }
                if let Some(neighbour) = row.last() {
                    tile = blend(neighbour, tile, 3, overlap[1]);
                }
                row.push(tile);
            }
            let cropped = row.iter().map(|tile| {
                let tile = crop(tile.clone(), 2, self.out_stride[0]);
                crop(tile, 3, self.out_stride[1])
            });
            bands.push(Tensor::cat(cropped.collect(), 3));
            above = row;
        }
        Tensor::cat(bands, 2)
    }
}

/// The first `length` entries of an axis, or all of it.
fn crop(x: Tensor<4>, axis: usize, length: usize) -> Tensor<4> {
    let length = length.min(x.dims()[axis]);
    x.narrow(axis, 0, length)
}

/// Replaces the first `overlap` entries of `tile` along an axis by a mixture with the last ones of
/// `before`: at entry `i` the weight of `tile` is `i / overlap`.
fn blend(before: &Tensor<4>, tile: Tensor<4>, axis: usize, overlap: usize) -> Tensor<4> {
    let (available, length) = (before.dims()[axis], tile.dims()[axis]);
    let overlap = overlap.min(available).min(length);
    if overlap == 0 {
        return tile;
    }
    let weight = ramp(overlap, axis, &tile.device());
    let end = before.clone().narrow(axis, available - overlap, overlap);
    let start = tile.clone().narrow(axis, 0, overlap);
    let mixed = end.clone() + (start - end) * weight;
    if overlap == length {
        return mixed;
    }
    Tensor::cat(
        vec![mixed, tile.narrow(axis, overlap, length - overlap)],
        axis,
    )
}

/// `i / length` along an axis of a `[1, 1, .., ..]` tensor.
fn ramp(length: usize, axis: usize, device: &Device) -> Tensor<4> {
    let mut shape = [1; 4];
    shape[axis] = length;
    let weights: Vec<f32> = (0..length).map(|i| i as f32 / length as f32).collect();
    Tensor::from_data(TensorData::new(weights, shape), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(value: f32, shape: [usize; 4]) -> Tensor<4> {
        Tensor::full(shape, value, &Device::flex())
    }

    fn values(x: Tensor<4>) -> Vec<f32> {
        x.into_data_as::<f32>().try_into_vec().expect("f32 data")
    }

    #[test]
    fn blend_is_linear_in_the_overlap() {
        let mixed = blend(&filled(0.0, [1, 1, 1, 6]), filled(8.0, [1, 1, 1, 5]), 3, 4);
        assert_eq!(values(mixed), [0.0, 2.0, 4.0, 6.0, 8.0]);
        let short = blend(&filled(0.0, [1, 1, 6, 1]), filled(8.0, [1, 1, 2, 1]), 2, 4);
        assert_eq!(values(short), [0.0, 4.0]);
    }

    /// A network that acts on each pixel alone cannot tell tiles from the whole.
    #[test]
    fn a_pointwise_network_is_not_changed_by_tiles() {
        let data: Vec<f32> = (0..2 * 3 * 11 * 14)
            .map(|i| (i as f32 * 0.37).sin())
            .collect();
        let x = Tensor::<4>::from_data(TensorData::new(data, [2, 3, 11, 14]), &Device::flex());
        for (tile, stride) in [
            ([4, 6], [3, 2]),
            ([5, 5], [5, 5]),
            ([11, 3], [7, 3]),
            ([20, 4], [1, 4]),
        ] {
            let grid = TileGrid {
                tile,
                stride,
                out_tile: tile,
                out_stride: stride,
            };
            let tiled = values(grid.apply(x.clone(), |tile| tile * 2.0));
            for (tiled, whole) in tiled.into_iter().zip(values(x.clone() * 2.0)) {
                assert!((tiled - whole).abs() < 1e-6, "{tiled} is not {whole}");
            }
        }
    }

    #[test]
    fn default_tiles_fit_every_released_ratio() {
        for compression in [32, 64, 128] {
            assert!(
                Tiling::for_compression(compression)
                    .validate(compression)
                    .is_ok()
            );
        }
        assert_eq!(Tiling::for_compression(32), Tiling::default());
        assert_eq!(Tiling::for_compression(128), Tiling::square(512, 384));
    }
}
