//! Repeated runs and their statistics.

use std::hint::black_box;
use std::time::Instant;

use anyhow::anyhow;
use burn::tensor::{DType, Device, Tensor};
use sana_pipeline::memory::{peak_resident_bytes, reset_peak};

/// Runs of one operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Timing {
    /// Seconds of every run that counts, in their order.
    pub seconds: Vec<f64>,
    /// Largest resident size of the process meanwhile, weights included.
    pub peak_memory_bytes: Option<u64>,
    /// What the device's memory pool holds afterwards; pools grow and seldom shrink.
    pub device_memory_bytes: Option<u64>,
    /// Whether the last result had finite values only.
    pub finite: bool,
}

/// Runs `operation` `warmup` times and then `repeat` times between two waits for the device each.
/// Dropping a result is not timed.
///
/// # Errors
/// Of the operation, or of the device.
pub fn measure<T: Finite>(
    device: &Device,
    warmup: usize,
    repeat: usize,
    mut operation: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<Timing> {
    wait_for(device)?;
    reset_peak();
    let mut seconds = Vec::with_capacity(repeat);
    let mut result = None;
    for run in 0..warmup + repeat {
        drop(result.take());
        wait_for(device)?;
        let started = Instant::now();
        let answer = black_box(operation()?);
        wait_for(device)?;
        let elapsed = started.elapsed().as_secs_f64();
        if run >= warmup {
            seconds.push(elapsed);
        }
        result = Some(answer);
    }
    let usage = device.memory_pool_usage();
    Ok(Timing {
        seconds,
        peak_memory_bytes: peak_resident_bytes(),
        device_memory_bytes: usage.map(|usage| usage.bytes_reserved),
        finite: result.map_or(Ok(true), T::finite)?,
    })
}

fn wait_for(device: &Device) -> anyhow::Result<()> {
    let failed = |error| anyhow!("the device failed: {error:?}");
    device.sync().map_err(failed)
}

/// A result whose values can be looked at.
pub trait Finite {
    /// Whether all of them are finite.
    fn finite(self) -> anyhow::Result<bool>;
}

impl<const D: usize> Finite for Tensor<D> {
    fn finite(self) -> anyhow::Result<bool> {
        let sum = self.cast(DType::F32).abs().sum();
        let sum: f32 = sum
            .try_into_scalar()
            .map_err(|error| anyhow!("a result cannot be read: {error:?}"))?;
        Ok(sum.is_finite())
    }
}

/// Order statistics of a sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Statistics {
    pub min: f64,
    pub lower_quartile: f64,
    pub median: f64,
    pub upper_quartile: f64,
}

impl Statistics {
    /// Of at least one number. Quantiles lie linearly between the two nearest, as Python's
    /// `statistics.quantiles(method="inclusive")` has them.
    pub fn of(sample: &[f64]) -> Self {
        let mut sorted = sample.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let position = share * (sorted.len().max(1) - 1) as f64;
            let (below, above) = (position.floor() as usize, position.ceil() as usize);
            let value = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
            value(below) + (value(above) - value(below)) * position.fract()
        };
        Self {
            min: at(0.0),
            lower_quartile: at(0.25),
            median: at(0.5),
            upper_quartile: at(0.75),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics() {
        let one = Statistics::of(&[3.0]);
        let expected = [3.0; 4];
        assert_eq!(
            [one.min, one.lower_quartile, one.median, one.upper_quartile],
            expected
        );
        // statistics.quantiles([1, 2, 4, 8, 16, 32], n=4, method="inclusive") = [2.5, 6.0, 14.0]
        let six = Statistics::of(&[32.0, 1.0, 8.0, 2.0, 16.0, 4.0]);
        assert_eq!(
            [six.min, six.lower_quartile, six.median, six.upper_quartile],
            [1.0, 2.5, 6.0, 14.0]
        );
    }

    #[cfg(feature = "flex")]
    #[test]
    fn only_runs_after_the_warm_up_count() {
        let device = Device::flex();
        let mut runs = 0;
        let timing = measure(&device, 2, 3, || {
            runs += 1;
            Ok(Tensor::<1>::from_floats([1.0, f32::NAN], &device))
        })
        .unwrap();
        assert_eq!((runs, timing.seconds.len()), (5, 3));
        assert!(!timing.finite);
        let failed = measure::<Tensor<1>>(&device, 0, 1, || Err(anyhow!("no")));
        assert_eq!(failed.unwrap_err().to_string(), "no");
    }
}
