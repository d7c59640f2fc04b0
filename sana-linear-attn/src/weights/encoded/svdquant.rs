//! Matrices that SVDQuant made 4-bit, in the order in which nunchaku's kernels read them.
//!
//! A weight `[rows, inputs]`, both padded to multiples of 128, is
//! `q * scale / smooth + up down`: `q` from -8 to 7, a scale per row and 64 inputs, a factor per input
//! by which the activations are divided, and two 16-bit matrices of a low rank. All are stored in the
//! order of the registers of a GPU's matrix instructions, which is a fixed permutation:
//!
//! - `qweight`: eight inputs in 32 bits, the first in the lowest four. Tiles of 128 rows and 64
//!   inputs; in a tile, by rows of 16, then the row of 8, then four words of 8 inputs, then which 8 of
//!   the 16 rows, then which 32 of the 64 inputs.
//! - scales, `smooth` and `bias`: 128 rows at a time, each 16 of them as 0 1 8 9 2 3 10 11 ...
//! - `lora_down` `[inputs, rank]` and `lora_up` `[rows, rank]`: tiles of 16 by 16.
//!
//! Source: the packing of deepcompressor and nunchaku (Apache-2.0), Li et al., SVDQuant, 2024.

use std::io;
use std::ops::Range;

use super::{Encoded, Slice, invalid};

const TILE: usize = 128;
const GROUP: usize = 64;
/// Bytes of the values of a tile of 128 rows and 64 inputs.
const TILE_BYTES: usize = TILE * GROUP / 2;

/// Which packed row a row of the weight is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowOrder {
    Same,
    /// The query of query, key and value: the first third.
    Query,
    /// Heads of 32 rows, behind the first `skip` rows: those of the keys, then those of the values of
    /// each head.
    Heads {
        skip: usize,
        values: bool,
    },
    /// The first half of `rows` and the second take turns.
    Pairs {
        rows: usize,
    },
}

impl RowOrder {
    pub fn place(self, row: usize) -> usize {
        match self {
            Self::Same | Self::Query => row,
            Self::Heads { skip, values } => {
                skip + row / 32 * 64 + usize::from(values) * 32 + row % 32
            }
            Self::Pairs { rows } => match row.checked_sub(rows / 2) {
                None => 2 * row,
                Some(row) => 2 * row + 1,
            },
        }
    }

    /// Rows of a layer of so many rows with their padding: three times those of the query where it is
    /// the query, the keys or the values.
    pub fn packed(self, rows: usize) -> usize {
        match self {
            Self::Query | Self::Heads { .. } => 3 * rows.next_multiple_of(TILE),
            Self::Same => rows.next_multiple_of(TILE),
            // The feed-forward's channels are a multiple of 64.
            Self::Pairs { .. } => (2 * (rows / 2).next_multiple_of(64)).next_multiple_of(TILE),
        }
    }
}

/// Where the element of a row is among the scales, the smoothing factors or the bias.
pub(crate) fn lane(row: usize) -> usize {
    let (tile, row) = (row / TILE, row % TILE);
    let (sixteen, eight, pair, one) = (row / 16, row / 8 % 2, row / 2 % 4, row % 2);
    tile * TILE + sixteen * 16 + pair * 4 + eight * 2 + one
}

/// The tensors of a layer.
#[derive(Debug)]
pub(crate) struct SvdMatrix {
    pub qweight: Slice,
    pub scales: Slice,
    pub smooth: Slice,
    pub low_rank: Option<LowRank>,
    /// Packed rows and inputs, multiples of 128.
    pub packed: [usize; 2],
    /// Inputs that are not padding.
    pub inputs: usize,
    pub order: RowOrder,
}

/// The low-rank part: `up [rows, rank]` times `down [inputs, rank]`, transposed.
#[derive(Debug)]
pub(crate) struct LowRank {
    pub down: Slice,
    pub up: Slice,
    /// A multiple of 16.
    pub rank: usize,
}

impl SvdMatrix {
    /// Checks that the tensors are of one layer, and gives the packed rows and inputs.
    pub fn sizes(
        qweight: &Slice,
        scales: &Slice,
        smooth: &Slice,
        low_rank: Option<&LowRank>,
    ) -> Result<[usize; 2], String> {
        let &[rows, half] = qweight.shape() else {
            return Err(format!("qweight has the shape {:?}", qweight.shape()));
        };
        let inputs = half.checked_mul(2).unwrap_or_default();
        if qweight.len() != rows * half
            || !rows.is_multiple_of(TILE)
            || !inputs.is_multiple_of(TILE)
        {
            return Err(format!(
                "qweight has the shape {:?} of {:?}, expected bytes for multiples of {TILE}",
                qweight.shape(),
                qweight.dtype()
            ));
        }
        let expect = |name: &str, slice: &Slice, [rows, columns]: [usize; 2]| {
            // A tensor without elements may have an axis of any length.
            if rows.checked_mul(columns) == Some(slice.elements()) {
                return Ok(());
            }
            let found = slice.shape();
            Err(format!(
                "{name} has the shape {found:?}, expected {rows} times {columns} elements"
            ))
        };
        expect("wscales", scales, [inputs / GROUP, rows])?;
        expect("smooth", smooth, [inputs, 1])?;
        if let Some(LowRank { down, up, rank }) = low_rank {
            if !rank.is_multiple_of(16) {
                return Err(format!("a low rank of {rank}, expected a multiple of 16"));
            }
            expect("lora_down", down, [inputs, *rank])?;
            expect("lora_up", up, [rows, *rank])?;
        }
        Ok([rows, inputs])
    }

    /// The smoothing factors of the inputs that are not padding.
    fn smooth(&self) -> io::Result<Vec<f32>> {
        let stored = self.smooth.all()?;
        let smooth: Vec<f32> = (0..self.inputs).map(|input| stored[lane(input)]).collect();
        match smooth.iter().position(|&factor| factor == 0.0) {
            Some(input) => Err(invalid(format!(
                "the smoothing factor of input {input} is 0"
            ))),
            None => Ok(smooth),
        }
    }

    /// The rows of `down` transposed: `[rank, inputs]`.
    fn down(&self, low_rank: &LowRank) -> io::Result<Vec<f32>> {
        let (stored, rank) = (low_rank.down.all()?, low_rank.rank);
        let mut down = vec![0.0; rank * self.inputs];
        for (index, row) in down.chunks_exact_mut(self.inputs).enumerate() {
            for (input, value) in row.iter_mut().enumerate() {
                let [tile, input] = [input / 16, input % 16];
                *value = stored[(tile * rank / 16 + index / 16) * 256 + in_tile(index % 16, input)];
            }
        }
        Ok(down)
    }

    /// The values of a row without the low-rank part: its 4-bit numbers times their scales.
    fn unpack(&self, bytes: &[u8], scales: &[f32], row: usize, values: &mut [f32]) {
        let (sixteen, eight, lane_of_row) = (row / 16, row / 8 % 2, row % 8);
        let words = values.chunks_mut(8).enumerate();
        for (word, values) in words {
            let (tile, half, quarter) = (word / 8, word / 4 % 2, word % 4);
            let scale = scales[tile * TILE + lane(row)];
            let place = ((sixteen * 8 + lane_of_row) * 4 + quarter) * 4 + eight * 2 + half;
            let bytes = &bytes[tile * TILE_BYTES + place * 4..][..4];
            let word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            for (index, value) in values.iter_mut().enumerate() {
                // Four bits with a sign, from the top of 32.
                let quant = (word << (28 - 4 * index)) as i32 >> 28;
                *value = quant as f32 * scale;
            }
        }
    }
}

/// Place in a tile of 16 by 16 of the low-rank matrices.
fn in_tile(row: usize, column: usize) -> usize {
    let (eight, lane_of_row) = (row / 8, row % 8);
    let (half, pair, one) = (column / 8, column / 2 % 4, column % 2);
    lane_of_row * 32 + pair * 8 + eight * 4 + half * 2 + one
}

impl Encoded for SvdMatrix {
    fn kind(&self) -> &'static str {
        "svdq-int4"
    }

    fn stored_bytes(&self) -> usize {
        let low_rank = self.low_rank.as_ref();
        let low_rank = low_rank.map_or(0, |low_rank| low_rank.down.len() + low_rank.up.len());
        self.qweight.len() + self.scales.len() + self.smooth.len() + low_rank
    }

    fn rows_at_once(&self) -> usize {
        TILE
    }

    fn decode(&self, rows: Range<usize>, values: &mut [f32]) -> io::Result<()> {
        let [packed_rows, packed_inputs] = self.packed;
        let places: Vec<usize> = rows.map(|row| self.order.place(row)).collect();
        let (Some(&first), Some(&last)) = (places.iter().min(), places.iter().max()) else {
            return Ok(());
        };
        if last >= packed_rows || values.len() != places.len() * self.inputs {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let tiles = first / TILE..last / TILE + 1;
        let groups = packed_inputs / GROUP;
        let (tile_bytes, tile_scales) = (groups * TILE_BYTES, groups * TILE);
        let smooth = self.smooth()?;
        let scales = self
            .scales
            .floats(tiles.start * tile_scales..tiles.end * tile_scales)?;
        let low_rank = self.low_rank.as_ref().filter(|low_rank| low_rank.rank > 0);
        let low_rank = low_rank.map(|low_rank| {
            let up = tiles.start * TILE * low_rank.rank..tiles.end * TILE * low_rank.rank;
            Ok::<_, io::Error>((low_rank.rank, self.down(low_rank)?, low_rank.up.floats(up)?))
        });
        let low_rank = low_rank.transpose()?;
        let bytes = tiles.start * tile_bytes..tiles.end * tile_bytes;
        self.qweight.read(bytes, |bytes| {
            for (&place, values) in places.iter().zip(values.chunks_exact_mut(self.inputs)) {
                let tile = place / TILE - tiles.start;
                let (bytes, scales) = (&bytes[tile * tile_bytes..], &scales[tile * tile_scales..]);
                self.unpack(bytes, scales, place % TILE, values);
                for (value, smooth) in values.iter_mut().zip(&smooth) {
                    *value /= smooth;
                }
                let Some((rank, down, up)) = &low_rank else {
                    continue;
                };
                let place = place - tiles.start * TILE;
                for (index, down) in down.chunks_exact(self.inputs).enumerate() {
                    let tile = place / 16 * rank / 16 + index / 16;
                    let factor = up[tile * 256 + in_tile(place % 16, index % 16)];
                    for (value, down) in values.iter_mut().zip(down) {
                        *value += factor * down;
                    }
                }
            }
        })
    }
}

/// A bias in the order of the scales.
#[derive(Debug)]
pub(crate) struct PackedBias {
    pub bias: Slice,
    pub order: RowOrder,
}

impl Encoded for PackedBias {
    fn kind(&self) -> &'static str {
        self.bias.float_kind()
    }

    fn stored_bytes(&self) -> usize {
        self.bias.len()
    }

    fn decode(&self, rows: Range<usize>, values: &mut [f32]) -> io::Result<()> {
        let stored = self.bias.all()?;
        for (row, value) in rows.zip(values) {
            let place = lane(self.order.place(row));
            *value = *stored.get(place).ok_or(io::ErrorKind::UnexpectedEof)?;
        }
        Ok(())
    }
}

/// Zeros: the bias of a layer that has none in the file.
#[derive(Debug)]
pub(crate) struct Zeros;

impl Encoded for Zeros {
    fn kind(&self) -> &'static str {
        "zero"
    }

    fn stored_bytes(&self) -> usize {
        0
    }

    fn decode(&self, _: Range<usize>, values: &mut [f32]) -> io::Result<()> {
        values.fill(0.0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sizes of Sana 1.6B, as nunchaku's constructors have them: 70 heads of 32, 5600 channels.
    #[test]
    fn padding_of_the_released_model() {
        let pairs = RowOrder::Pairs { rows: 11_200 };
        let keys = RowOrder::Heads {
            skip: 2304,
            values: false,
        };
        assert_eq!(RowOrder::Query.packed(2240), 6912);
        assert_eq!(keys.packed(2240), 6912);
        assert_eq!(RowOrder::Same.packed(2240), 2304);
        assert_eq!(pairs.packed(11_200), 11_264);
        assert_eq!(keys.place(2239), 2304 + 69 * 64 + 31);
        assert_eq!([pairs.place(5599), pairs.place(5600)], [11_198, 1]);
    }

    /// As the comment of the packing has it: 0 1 8 9 2 3 10 11, then 16 17 24 25.
    #[test]
    fn lanes() {
        let mut rows: Vec<usize> = (0..128).collect();
        rows.sort_by_key(|&row| lane(row));
        assert_eq!(rows[..8], [0, 1, 8, 9, 2, 3, 10, 11]);
        assert_eq!(rows[16..20], [16, 17, 24, 25]);
        assert_eq!(rows[124..], [118, 119, 126, 127]);
        assert_eq!(lane(130), 128 + 4);
    }
}
