use burn::tensor::{DType, Device, Tensor, TensorData};

/// Sinusoidal features of timesteps or guidance scales, which is what the network is given of them:
///
/// ```text
/// [cos(t w_i) | sin(t w_i)],   w_i = 10000^(-i / 128),   i = 0, .., 127
/// ```
///
/// They are computed on the host, in f32. Angles reach 1000 rad, and shaders of Vulkan and WebGPU
/// promise no accuracy for sines outside of [-pi, pi] (2^-11 inside).
#[derive(Debug, Clone)]
pub struct Sinusoids(Tensor<2>);

impl Sinusoids {
    /// Channels of the features.
    pub(in crate::transformer) const CHANNELS: usize = 256;

    /// The features of these values on a device, one row each. They are uploaded here, at once:
    /// [`row`](Self::row) takes those of a step.
    pub fn new(values: &[f32], device: &Device) -> Self {
        let half = Self::CHANNELS / 2;
        let frequency = |i: usize| (-(10000f32.ln()) * i as f32 / half as f32).exp();
        let frequencies: Vec<f32> = (0..half).map(frequency).collect();
        let features = values.iter().flat_map(|value| {
            let cosines = frequencies.iter().map(move |w| (value * w).cos());
            let sines = frequencies.iter().map(move |w| (value * w).sin());
            cosines.chain(sines)
        });
        let features = TensorData::new(
            features.collect::<Vec<f32>>(),
            [values.len(), Self::CHANNELS],
        );
        Self(Tensor::from_data(features, (device, DType::F32)))
    }

    /// Those of one value for every item of a batch.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, index: usize, batch: usize) -> Self {
        Self(
            self.0
                .clone()
                .narrow(0, index, 1)
                .expand([batch, Self::CHANNELS]),
        )
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.0.dims()[0]
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `[values, 256]`.
    pub(in crate::transformer) fn features(self, dtype: DType) -> Tensor<2> {
        self.0.cast(dtype)
    }
}

/// Of values `[values]` that are on a device, which is waited for: [`new`](Sinusoids::new) is for values
/// that the host has.
impl From<Tensor<1>> for Sinusoids {
    fn from(values: Tensor<1>) -> Self {
        let device = values.device();
        let values: Vec<f32> = values.into_data().iter::<f32>().collect();
        Self::new(&values, &device)
    }
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use super::*;
    use crate::parity::{device, values};

    const CHANNELS: usize = Sinusoids::CHANNELS;

    /// Sines and cosines of the exact angles, whatever the device.
    #[test]
    fn features_are_those_of_f64() {
        let device = device();
        let times = [0.0f32, 0.5, 1.0, 37.25, 999.0, 1000.0];
        let all = Sinusoids::new(&times, &device);
        assert_eq!(all.len(), times.len());
        for (index, time) in times.into_iter().enumerate() {
            let row = all.row(index, 2);
            assert_eq!(row.0.dims(), [2, CHANNELS]);
            let ours = values(row.0.narrow(0, 1, 1));
            for i in 0..CHANNELS / 2 {
                let angle = f64::from(time) * 10000f64.powf(-(i as f64) / 128.0);
                // Angles of up to 1000 rad, rounded to f32 twice.
                let bound = 2e-4;
                assert!((f64::from(ours[i]) - angle.cos()).abs() < bound);
                assert!((f64::from(ours[CHANNELS / 2 + i]) - angle.sin()).abs() < bound);
            }
        }
        let given = Sinusoids::from(Tensor::<1>::from_data(times, (&device, DType::F32)));
        assert_eq!(values(given.0), values(all.0));
    }
}
