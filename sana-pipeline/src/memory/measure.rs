//! How long a stage takes and how much memory.
//!
//! On Linux the peak is `VmHWM` of `/proc/self/status`: the largest resident size of the process,
//! which counts touched pages of mapped weight files too. Elsewhere it is unknown.

use burn::tensor::Device;
use serde::Serialize;
use web_time::Instant;

/// What a stage took.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageReport {
    /// Its name: `text`, `control`, `encode` (of images to start from), `denoise` or `decode` in
    /// [`generate`](crate::SanaPipeline::generate).
    pub name: &'static str,
    /// Wall-clock seconds, [`load_seconds`](Self::load_seconds) included.
    pub seconds: f64,
    /// Seconds of these that went into loading weights.
    pub load_seconds: f64,
    /// Largest resident size of the process during the stage, in bytes.
    pub peak_memory_bytes: Option<u64>,
    /// What the device's memory pool holds at the end of the stage, in bytes; `None` on the CPU.
    pub device_memory_bytes: Option<u64>,
}

/// Measures one stage, from [`start`](Self::start) to [`finish`](Self::finish).
#[derive(Debug)]
pub struct StageMeter {
    device: Device,
    started: Instant,
}

impl StageMeter {
    /// Starts measuring. So that the peak is that of the stage and not of the whole run, the
    /// kernel's counter for this process is set back where it can be ([`reset_peak`]).
    pub fn start(device: &Device) -> Self {
        reset_peak();
        Self {
            device: device.clone(),
            started: Instant::now(),
        }
    }

    /// Seconds since the start.
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Ends measuring; work that the device was given before should be done by now.
    pub fn finish(self, name: &'static str, load_seconds: f64) -> StageReport {
        StageReport {
            name,
            seconds: self.seconds(),
            load_seconds,
            peak_memory_bytes: peak_resident_bytes(),
            device_memory_bytes: self
                .device
                .memory_pool_usage()
                .map(|usage| usage.bytes_reserved),
        }
    }
}

/// Largest resident size of this process since it began or since [`reset_peak`], in bytes.
pub fn peak_resident_bytes() -> Option<u64> {
    kilobytes(
        &std::fs::read_to_string("/proc/self/status").ok()?,
        "VmHWM:",
    )
}

/// Resident size of this process, in bytes.
pub fn resident_bytes() -> Option<u64> {
    kilobytes(
        &std::fs::read_to_string("/proc/self/status").ok()?,
        "VmRSS:",
    )
}

/// Main memory that can be had without swapping, in bytes: of the system, of the control group
/// (version 2) whose limit a container runs under, or what is left of the address space that this
/// process is limited to (`ulimit -v`), whichever is least.
pub fn available_bytes() -> Option<u64> {
    let system = kilobytes(
        &std::fs::read_to_string("/proc/meminfo").ok()?,
        "MemAvailable:",
    )?;
    let limits = [group_bytes(), address_space_bytes()];
    Some(limits.into_iter().flatten().fold(system, u64::min))
}

fn address_space_bytes() -> Option<u64> {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/self/{file}")).ok();
    left_of_address_space(&read("limits")?, &read("status")?)
}

/// What a process may still map. `None` without a limit, which is written `unlimited`.
fn left_of_address_space(limits: &str, status: &str) -> Option<u64> {
    let mut lines = limits.lines();
    let limit = lines.find_map(|line| line.strip_prefix("Max address space"))?;
    let limit: u64 = limit.split_whitespace().next()?.parse().ok()?;
    Some(limit.saturating_sub(kilobytes(status, "VmSize:")?))
}

fn group_bytes() -> Option<u64> {
    let read = |file: &str| std::fs::read_to_string(format!("/sys/fs/cgroup/{file}")).ok();
    left_of_limit(
        &read("memory.max")?,
        &read("memory.current")?,
        &read("memory.stat")?,
    )
}

/// What a control group may still take. Its use includes cached pages of files, which are given back
/// when memory is short. `None` without a limit, which is written `max`.
fn left_of_limit(limit: &str, current: &str, statistics: &str) -> Option<u64> {
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let cached = |key: &str| {
        let lines = statistics.lines();
        let value = lines.filter_map(|line| line.split_once(' '));
        let mut value = value.filter(|(found, _)| *found == key);
        value
            .next()
            .and_then(|(_, value)| number(value))
            .unwrap_or(0)
    };
    let files = cached("inactive_file").saturating_add(cached("active_file"));
    let used = number(current)?.saturating_sub(files);
    Some(number(limit)?.saturating_sub(used))
}

/// Sets the peak that [`peak_resident_bytes`] returns back to the present size. It is a counter of
/// the whole process; where the system does not allow it, nothing happens.
pub fn reset_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let number: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(number * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernel_s_tables() {
        let table = "VmPeak:\t  1234 kB\nVmHWM:\t   56 kB\nThreads:\t2\n";
        assert_eq!(kilobytes(table, "VmHWM:"), Some(56 * 1024));
        assert_eq!(kilobytes(table, "VmRSS:"), None);
        assert_eq!(kilobytes(table, "Threads:"), None);
    }

    #[test]
    fn limits_of_the_address_space() {
        let status = "VmPeak:\t 900 kB\nVmSize:\t 600 kB\n";
        let limits = |limit: &str| {
            format!(
                "Max stack size  8388608  unlimited  bytes\nMax address space  {limit}  unlimited  bytes\n"
            )
        };
        let left = |limit: &str| left_of_address_space(&limits(limit), status);
        assert_eq!(left("1024000"), Some(400 * 1024));
        assert_eq!(left("1000"), Some(0));
        assert_eq!(left("unlimited"), None);
        assert_eq!(left_of_address_space("", status), None);
    }

    #[test]
    fn limits_of_control_groups() {
        let statistics = "anon 500\ninactive_file 200\nactive_file 100\nfile_mapped 50\n";
        assert_eq!(left_of_limit("1000\n", "900\n", statistics), Some(400));
        assert_eq!(left_of_limit("1000\n", "100\n", statistics), Some(1000));
        assert_eq!(left_of_limit("1000", "1500", ""), Some(0));
        assert_eq!(left_of_limit("max\n", "900\n", statistics), None);
        assert_eq!(left_of_limit("1000", "?", statistics), None);
    }

    #[test]
    #[cfg(all(target_os = "linux", feature = "flex"))]
    fn a_stage_is_measured() {
        let meter = StageMeter::start(&Device::flex());
        let buffer = vec![1u8; 32 << 20];
        assert_eq!(std::hint::black_box(&buffer).len(), 32 << 20);
        let report = meter.finish("test", 0.5);
        assert_eq!((report.name, report.load_seconds), ("test", 0.5));
        assert!(report.seconds > 0.0);
        assert!(report.peak_memory_bytes.unwrap() >= 32 << 20);
        assert!(available_bytes().unwrap() > 0);
    }
}
