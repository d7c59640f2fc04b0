use burn::tensor::{Device, Tensor, TensorData};

/// Elements that share a scale (SANA-1.5, arXiv 2501.18427, section 2.3).
const BLOCK: usize = 2048;
/// Steps between the least and the largest value of a block.
const LEVELS: f32 = 255.0;

/// Values of 8 bits, block by block, linear from the least to the largest:
///
/// ```text
/// scale = (max - min) / 255     q = round((x - min) / scale)     x ~ q scale + min
/// ```
///
/// A block of equal values has `scale = 0` and `q = 0`, and is exact. It is on the host, whatever
/// the device is.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::train) struct Quantized {
    data: Vec<u8>,
    scale: Vec<f32>,
    min: Vec<f32>,
}

impl Quantized {
    /// As many zeros.
    pub fn zeros(length: usize) -> Self {
        let blocks = length.div_ceil(BLOCK);
        Self {
            data: vec![0; length],
            scale: vec![0.0; blocks],
            min: vec![0.0; blocks],
        }
    }

    /// The nearest to these values.
    pub fn of(values: &Tensor<1>) -> Self {
        let data = values.clone().into_data();
        let values: Vec<f32> = data.iter::<f32>().collect();
        let mut quantized = Self::zeros(0);
        for block in values.chunks(BLOCK) {
            quantized.push(block);
        }
        quantized
    }

    /// Bytes of all of it.
    pub fn bytes(&self) -> usize {
        self.data.len() + (self.scale.len() + self.min.len()) * size_of::<f32>()
    }

    fn push(&mut self, block: &[f32]) {
        let min = block.iter().copied().fold(f32::INFINITY, f32::min);
        let max = block.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let scale = (max - min) / LEVELS;
        let level = |value: &f32| match scale > 0.0 {
            true => ((value - min) / scale).round_ties_even() as u8, // saturates
            false => 0,
        };
        self.data.extend(block.iter().map(level));
        self.scale.push(scale);
        self.min.push(min);
    }

    /// The values in f32.
    pub fn read(&self, device: &Device) -> Tensor<1> {
        let blocks = self
            .data
            .chunks(BLOCK)
            .zip(self.scale.iter().zip(&self.min));
        let values: Vec<f32> = blocks
            .flat_map(|(block, (scale, min))| {
                block
                    .iter()
                    .map(move |level| f32::from(*level) * scale + min)
            })
            .collect();
        let length = values.len();
        Tensor::from_data(TensorData::new(values, [length]), device)
    }

    /// What it holds, by name, as it is saved.
    pub fn tensors(&self) -> Vec<(&'static str, TensorData)> {
        let blocks = self.scale.len();
        vec![
            (DATA, TensorData::new(self.data.clone(), [self.data.len()])),
            (SCALE, TensorData::new(self.scale.clone(), [blocks])),
            (MIN, TensorData::new(self.min.clone(), [blocks])),
        ]
    }

    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        self.scale.len()
    }

    /// From what was saved, with as many blocks; the reason if it is of another length.
    pub fn restore(&mut self, data: &[u8], scale: Vec<f32>, min: Vec<f32>) -> Result<(), String> {
        let (found, expected) = (data.len(), self.data.len());
        if found != expected {
            return Err(format!("{found} bytes instead of {expected}"));
        }
        *self = Self {
            data: data.to_vec(),
            scale,
            min,
        };
        Ok(())
    }
}

/// Names of what is saved.
pub(in crate::train) const DATA: &str = "exp_avg_q";
pub(in crate::train) const SCALE: &str = "exp_avg_scale";
pub(in crate::train) const MIN: &str = "exp_avg_min";

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> Device {
        sana_linear_attn::parity::device()
    }

    fn tensor(values: &[f32]) -> Tensor<1> {
        Tensor::from_floats(values, &device())
    }

    fn read(quantized: &Quantized) -> Vec<f32> {
        let data = quantized.read(&device()).into_data();
        data.iter::<f32>().collect()
    }

    #[test]
    fn equal_values_are_level_zero_and_exact() {
        for value in [0.0, -3.7e-5, 1e30] {
            let quantized = Quantized::of(&tensor(&[value; 5000]));
            assert!(quantized.data.iter().all(|level| *level == 0));
            assert_eq!(quantized.scale, [0.0; 3]);
            assert_eq!(read(&quantized), [value; 5000]);
        }
        assert_eq!(Quantized::of(&tensor(&[0.0; 5000])), Quantized::zeros(5000));
    }

    #[test]
    fn levels_and_blocks() {
        // Levels are the values themselves where the scale is 1; halves go to the even level.
        let values: Vec<f32> = (0..=255).map(|level| level as f32 - 100.0).collect();
        let quantized = Quantized::of(&tensor(&values));
        assert_eq!(quantized.data, (0..=255).collect::<Vec<u8>>());
        assert_eq!(read(&quantized), values);
        let halves = Quantized::of(&tensor(&[0.0, 0.5, 1.5, 2.5, 255.0]));
        assert_eq!(halves.data, [0, 0, 2, 2, 255]);

        // A large value costs its own block of 2048 elements precision, and no other.
        let mut values = vec![0.001; 2 * 2048 + 1];
        values[7] = 1000.0;
        values[2048] = 0.002;
        let quantized = Quantized::of(&tensor(&values));
        assert_eq!(quantized.scale.len(), 3);
        let again = read(&quantized);
        assert!((again[0] - 0.001).abs() < 1e-6 && (again[7] - 1000.0).abs() < 1e-3);
        assert_eq!(again[2049..], values[2049..]);
        assert!((again[2048] - 0.002).abs() < 1e-9);
    }

    /// The error is at most half a level.
    #[test]
    fn values_are_the_nearest() {
        let values: Vec<f32> = (0..3000).map(|i| (i as f32 * 0.37).sin()).collect();
        let quantized = Quantized::of(&tensor(&values));
        for (index, (value, again)) in values.iter().zip(read(&quantized)).enumerate() {
            let level = quantized.scale[index / BLOCK];
            assert!((value - again).abs() <= 0.501 * level, "{value}, {again}");
        }
    }
}
