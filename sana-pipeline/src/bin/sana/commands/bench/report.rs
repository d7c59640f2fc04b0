//! Measurements as a table and as JSON.

use std::io::{self, Write};

use serde::Serialize;

use super::args::Options;
use super::measurement::Measurement;
use super::timing::Statistics;
use crate::device::{OpenDevice, identity};

/// Where it was measured.
#[derive(Debug, Clone)]
pub struct Machine {
    device: String,
    device_name: Option<String>,
    cpu: Option<String>,
    threads: usize,
}

impl Machine {
    /// This machine with the device.
    pub fn of(device: &OpenDevice) -> Self {
        let cpu = std::fs::read_to_string("/proc/cpuinfo").ok();
        let cpu = cpu.as_deref().and_then(cpu_name).map(str::to_owned);
        Self {
            device: device.name.to_string(),
            device_name: match device.name.is_cpu() {
                true => cpu.clone(),
                false => identity(&device.device),
            },
            cpu,
            threads: rayon::current_num_threads(),
        }
    }
}

/// The processor's name in the text of `/proc/cpuinfo`.
fn cpu_name(cpuinfo: &str) -> Option<&str> {
    let line = cpuinfo
        .lines()
        .find(|line| line.starts_with("model name"))?;
    let (_, name) = line.split_once(':')?;
    Some(name.trim())
}

/// A measurement with all that it depends on: one JSON object. `benches/reference/torch_bench.py`
/// writes the same keys.
#[derive(Debug, Serialize)]
pub struct Record<'a> {
    component: &'a str,
    variant: &'a str,
    width: Option<usize>,
    height: Option<usize>,
    batch: usize,
    rows: usize,
    tokens: Option<usize>,
    text_tokens: Option<usize>,
    steps: Option<usize>,
    dtype: &'a str,
    implementation: &'a str,
    version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<&'a str>,
    device: &'a str,
    device_name: Option<&'a str>,
    cpu: Option<&'a str>,
    threads: usize,
    warmup: usize,
    repeat: usize,
    median_s: f64,
    min_s: f64,
    lower_quartile_s: f64,
    upper_quartile_s: f64,
    seconds: &'a [f64],
    gflop: Option<f64>,
    gflop_per_s: Option<f64>,
    gbyte: Option<f64>,
    gbyte_per_s: Option<f64>,
    parameters: u64,
    weights_bytes: u64,
    peak_memory_bytes: Option<u64>,
    device_memory_bytes: Option<u64>,
    finite: bool,
}

impl<'a> Record<'a> {
    pub fn new(
        measurement: &'a Measurement,
        variant: &'a str,
        options: &Options,
        machine: &'a Machine,
    ) -> Self {
        let timing = &measurement.timing;
        let statistics = Statistics::of(&timing.seconds);
        let rate = |work: Option<f64>| work.map(|work| work / statistics.median);
        Self {
            component: measurement.name,
            variant,
            width: measurement.pixels.map(|[width, _]| width),
            height: measurement.pixels.map(|[_, height]| height),
            batch: options.batch,
            rows: measurement.rows,
            tokens: measurement.tokens,
            text_tokens: measurement.text_tokens,
            steps: measurement.steps,
            dtype: options.dtype.name(),
            implementation: "sana",
            version: env!("CARGO_PKG_VERSION"),
            commit: option_env!("SANA_COMMIT"),
            device: &machine.device,
            device_name: machine.device_name.as_deref(),
            cpu: machine.cpu.as_deref(),
            threads: machine.threads,
            warmup: options.warmup,
            repeat: options.repeat,
            median_s: statistics.median,
            min_s: statistics.min,
            lower_quartile_s: statistics.lower_quartile,
            upper_quartile_s: statistics.upper_quartile,
            seconds: &timing.seconds,
            gflop: measurement.gflop,
            gflop_per_s: rate(measurement.gflop),
            gbyte: measurement.gbyte,
            gbyte_per_s: rate(measurement.gbyte),
            parameters: measurement.weights.parameters,
            weights_bytes: measurement.weights.bytes,
            peak_memory_bytes: timing.peak_memory_bytes,
            device_memory_bytes: timing.device_memory_bytes,
            finite: timing.finite,
        }
    }

    /// One line of JSON.
    pub fn write_json(&self, out: &mut impl Write) -> anyhow::Result<()> {
        serde_json::to_writer(&mut *out, self)?;
        writeln!(out)?;
        Ok(())
    }

    /// One line of the table that [`write_head`] begins.
    pub fn write_line(&self, out: &mut impl Write) -> io::Result<()> {
        let rate = match (self.gflop_per_s, self.gbyte_per_s) {
            (Some(rate), _) => format!("{rate:.1} GFLOP/s"),
            (None, Some(rate)) => format!("{rate:.1} GB/s"),
            (None, None) => String::new(),
        };
        let tokens = self.tokens.or(self.text_tokens);
        let tokens = tokens.map_or_else(String::new, |tokens| tokens.to_string());
        let memory = |bytes: Option<u64>| bytes.map_or_else(String::new, gigabytes);
        writeln!(
            out,
            "{:<10} {:>4} {:>9} {:>11} {:>11} {:>11} {:>11} {:>17} {:>9} {:>9}",
            self.component,
            self.rows,
            tokens,
            duration(self.median_s),
            duration(self.min_s),
            duration(self.lower_quartile_s),
            duration(self.upper_quartile_s),
            rate,
            memory(self.peak_memory_bytes),
            memory(self.device_memory_bytes),
        )
    }
}

/// What all lines of the table have in common, and the names of its columns.
pub fn write_head(
    out: &mut impl Write,
    machine: &Machine,
    variant: &str,
    options: &Options,
) -> io::Result<()> {
    let on = machine.device_name.as_deref().unwrap_or("unknown");
    writeln!(
        out,
        "{variant}, {}x{} px, batch {}, {} on {} ({on}), {} CPU threads, {} runs after {}",
        options.width,
        options.height,
        options.batch,
        options.dtype.name(),
        machine.device,
        machine.threads,
        options.repeat,
        options.warmup
    )?;
    writeln!(
        out,
        "{:<10} {:>4} {:>9} {:>11} {:>11} {:>11} {:>11} {:>17} {:>9} {:>9}",
        "component",
        "rows",
        "tokens",
        "median",
        "min",
        "quartile 1",
        "quartile 3",
        "rate",
        "memory",
        "device"
    )
}

/// Seconds with four digits.
fn duration(seconds: f64) -> String {
    if seconds >= 1.0 {
        format!("{seconds:.3} s")
    } else if seconds >= 1e-3 {
        format!("{:.3} ms", seconds * 1e3)
    } else {
        format!("{:.3} us", seconds * 1e6)
    }
}

/// Bytes in GB.
pub fn gigabytes(bytes: u64) -> String {
    format!("{:.2} GB", bytes as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(duration(12.3456), "12.346 s");
        assert_eq!(duration(0.0123456), "12.346 ms");
        assert_eq!(duration(1.5e-6), "1.500 us");
        assert_eq!(gigabytes(6_417_851_008), "6.42 GB");
    }

    #[test]
    fn the_processor_s_name() {
        let text = "processor\t: 0\nmodel name\t: AMD EPYC 9R14\nflags: x\nmodel name\t: other\n";
        assert_eq!(cpu_name(text), Some("AMD EPYC 9R14"));
        assert_eq!(cpu_name("Processor: ARMv8"), None);
    }
}
