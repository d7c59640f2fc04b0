//! Whether a device works, found out by using it.
//!
//! burn's GPU backends open a device at its first use and panic, on whichever thread that is,
//! where a driver is missing. Such panics end here, as messages.

use std::panic::{self, AssertUnwindSafe};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};

use burn::tensor::{Device, Tensor, TensorData};

/// Computes something small that needs the driver, its compiler and its mathematical functions.
///
/// # Errors
/// What the device or its driver said.
pub fn probe(device: &Device) -> Result<(), String> {
    let answer = catch(|| {
        let numbers = TensorData::from([0.0f32, 1.0, 2.0, 3.0]);
        let row = Tensor::<1>::from_data(numbers, device)
            .exp()
            .reshape([1, 4]);
        let product = row.clone().matmul(row.transpose());
        product
            .try_into_vec_as::<f32>()
            .map_err(|error| brief(&error.to_string()))
    })??;
    let expected: f32 = (0..4).map(|n| (2.0 * n as f32).exp()).sum();
    match answer.as_slice() {
        [value] if (value - expected).abs() < 0.01 * expected => catch(|| time(device)),
        other => Err(format!("a sum of {expected} came out as {other:?}")),
    }
}

/// Measures how long something takes, as tuning does at the first use of every shape: what a driver
/// lacks for it is known here, and not in the middle of the first image.
fn time(device: &Device) {
    let work = || {
        let numbers = Tensor::<1>::ones([4], device);
        let _ = numbers.exp().try_into_vec_as::<f32>();
    };
    // Some devices cannot measure, and are tuned by the clock.
    if let Ok(((), duration)) = device.profile(work) {
        let mut resolved = pin!(duration.resolve());
        let mut context = Context::from_waker(Waker::noop());
        while resolved.as_mut().poll(&mut context).is_pending() {
            std::thread::yield_now();
        }
    }
}

/// Runs `work` with panics silenced, those of other threads too.
///
/// # Errors
/// The message of the first panic, if `work` panicked.
pub fn catch<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);

    let first = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&first);
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let message = info.payload_as_str().unwrap_or("panic without a message");
        let mut first = seen.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| brief(message));
    }));
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    panic::set_hook(usual);

    outcome.map_err(|_| {
        let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
        first
            .take()
            .unwrap_or_else(|| "the driver panicked".to_owned())
    })
}

/// The beginning of a driver's message on one line: the rest is a backtrace.
fn brief(message: &str) -> String {
    let lines = message
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    let line = lines.take(4).collect::<Vec<_>>().join(" ");
    // What cudarc says of a function that the driver's library does not have.
    match line.contains("Missing symbol cu") {
        true => format!("the NVIDIA driver is older than R570 (CUDA 12.8): update it ({line})"),
        false => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_panic_is_the_message() {
        let outcome = catch(|| {
            let worker = std::thread::spawn(|| panic!("cannot load libcuda.so"));
            worker.join().expect("the device thread has gone");
        });
        assert_eq!(outcome, Err("cannot load libcuda.so".to_owned()));
        assert_eq!(catch(|| 7), Ok(7));
    }

    #[test]
    fn backtraces_are_left_out() {
        assert_eq!(brief("failed\n\n  because: x\n"), "failed because: x");
        assert_eq!(brief("a\nb\nc\nd\ne\nf"), "a b c d");
    }

    /// Of such a driver and of nothing else.
    #[test]
    fn old_drivers_are_named() {
        let missing = "Missing symbol cuEventElapsedTime_v2: libcuda.so.1: undefined symbol";
        let said = brief(missing);
        assert!(said.starts_with("the NVIDIA driver is older than R570 (CUDA 12.8): update it"));
        assert!(said.contains(missing), "{said}");
        assert_eq!(brief("out of memory"), "out of memory");
    }

    #[cfg(feature = "flex")]
    #[test]
    fn flex_works() {
        assert_eq!(probe(&Device::flex()), Ok(()));
    }
}
