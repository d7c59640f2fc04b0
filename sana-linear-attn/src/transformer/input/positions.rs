use burn::tensor::{DType, Device, Tensor, TensorData};

/// Sin-cos positions of a grid of tokens, as the 2K and 4K models add them: positions run to
/// `base_size / interpolation_scale` along either axis, the first half of the channels encodes x, the
/// second y, each as `[sin | cos]`.
///
/// The host computes the two axes once; the device adds them to the tokens of each step, without a
/// table of all tokens in its memory. Made by
/// [`SanaTransformer::positions`](crate::SanaTransformer::positions).
#[derive(Debug, Clone)]
pub struct Positions {
    /// `[1, 1, width, channels]`, 0 in the second half of the channels.
    x: Tensor<4>,
    /// `[1, height, 1, channels]`, 0 in the first half of the channels.
    y: Tensor<4>,
}

/// How far the positions of a grid run.
#[derive(Debug, Clone, Copy)]
pub(in crate::transformer) struct PositionScale {
    /// Tokens of a side that the network's own size has.
    pub base_size: usize,
    /// Divides positions.
    pub interpolation: f64,
}

impl Positions {
    pub(in crate::transformer) fn new(
        channels: usize,
        [height, width]: [usize; 2],
        scale: PositionScale,
        device: &Device,
        dtype: DType,
    ) -> Self {
        let half = channels / 2;
        let axis = |length: usize, first: usize| {
            let mut values = vec![0f32; length * 2 * half];
            for (at, row) in values.chunks_exact_mut(2 * half).enumerate() {
                fill(&mut row[first..first + half], at, length, scale);
            }
            values
        };
        let tensor = |values, shape: [usize; 4]| {
            Tensor::from_data(TensorData::new(values, shape), (device, dtype))
        };
        Self {
            x: tensor(axis(width, 0), [1, 1, width, 2 * half]),
            y: tensor(axis(height, half), [1, height, 1, 2 * half]),
        }
    }

    /// Height and width in tokens.
    pub fn grid(&self) -> [usize; 2] {
        [self.y.dims()[1], self.x.dims()[2]]
    }

    /// Tokens with their positions.
    ///
    /// # Shapes
    /// - input and output `[batch, height * width, channels]`, in row-major order of the grid
    pub(in crate::transformer) fn add_to(&self, tokens: Tensor<3>) -> Tensor<3> {
        let [batch, count, channels] = tokens.dims();
        let [height, width] = self.grid();
        assert_eq!(
            count,
            height * width,
            "positions of {height}x{width} tokens for {count}"
        );
        let image = tokens.reshape([batch, height, width, channels]);
        // One of the two is 0 in each channel: no sum is rounded twice.
        (image + self.x.clone() + self.y.clone()).reshape([batch, count, channels])
    }
}

/// `[sin | cos]` of one position along an axis of `length` tokens.
fn fill(row: &mut [f32], at: usize, length: usize, scale: PositionScale) {
    let half = row.len() / 2;
    // Positions in f32, as in the reference.
    let step = (length as f64 / scale.base_size as f64) as f32;
    let position = f64::from(at as f32 / step / scale.interpolation as f32);
    for i in 0..half {
        let angle = position * 10000f64.powf(-(i as f64) / half as f64);
        row[i] = angle.sin() as f32;
        row[half + i] = angle.cos() as f32;
    }
}

/// The positions themselves, `[1, height * width, channels]`.
#[doc(hidden)]
pub fn sin_cos_positions(
    channels: usize,
    grid: [usize; 2],
    base_size: usize,
    interpolation: f64,
    device: &Device,
    dtype: DType,
) -> Tensor<3> {
    let scale = PositionScale {
        base_size,
        interpolation,
    };
    let [height, width] = grid;
    let zeros = Tensor::zeros([1, height * width, channels], (device, dtype));
    Positions::new(channels, grid, scale, device, dtype).add_to(zeros)
}
