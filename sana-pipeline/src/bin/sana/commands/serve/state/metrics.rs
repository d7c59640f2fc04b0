//! What the server counts, for Prometheus.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use sana_pipeline::Generation;
use sana_pipeline::memory::resident_bytes;

/// Counters and histograms, and what is read when they are asked for.
#[derive(Debug)]
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    images: Counter,
    waited: Histogram,
    step: Histogram,
    stages: Family<StageLabels, Histogram>,
    queued: Gauge,
    resident: Gauge,
    registry: Mutex<Registry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabels {
    stage: Stage,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Stage(&'static str);

impl EncodeLabelValue for Stage {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        EncodeLabelValue::encode(&self.0, encoder)
    }
}

/// Seconds from 1 ms to 9 minutes.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 3.0, 13))
}

impl Metrics {
    pub fn new(model: &str, device: &str) -> Self {
        let info = prometheus_client::metrics::info::Info::new(vec![
            ("model".to_owned(), model.to_owned()),
            ("device".to_owned(), device.to_owned()),
            ("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ]);
        let metrics = Self {
            requests: Family::default(),
            images: Counter::default(),
            waited: seconds(),
            step: seconds(),
            stages: Family::new_with_constructor(seconds),
            queued: Gauge::default(),
            resident: Gauge::default(),
            registry: Mutex::new(Registry::with_prefix("sana")),
        };
        let mut registry = metrics
            .registry
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        registry.register("model", "The model and its device", info);
        registry.register(
            "requests",
            "Requests by route and status",
            metrics.requests.clone(),
        );
        registry.register("images", "Images made", metrics.images.clone());
        registry.register("queue_depth", "Requests that wait", metrics.queued.clone());
        let mut timed = |name: &str, help: &str, histogram: &Histogram| {
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        };
        timed("queue_wait", "Time a request waited", &metrics.waited);
        timed("step", "Time of a denoising step", &metrics.step);
        registry.register_with_unit(
            "stage",
            "Time of a stage of a batch",
            Unit::Seconds,
            metrics.stages.clone(),
        );
        registry.register_with_unit(
            "resident_memory",
            "Memory of the process that is in use",
            Unit::Bytes,
            metrics.resident.clone(),
        );
        drop(registry);
        metrics
    }

    /// A request was answered. `route` is one of the server's, so that there are few of them.
    pub fn answered(&self, route: &str, status: u16) {
        let labels = RequestLabels {
            route: route.to_owned(),
            status,
        };
        self.requests.get_or_create(&labels).inc();
    }

    /// A request was taken from the queue after this time.
    pub fn waited(&self, time: Duration) {
        self.waited.observe(time.as_secs_f64());
    }

    /// A denoising step took this time.
    pub fn step(&self, time: Duration) {
        self.step.observe(time.as_secs_f64());
    }

    /// A batch was made.
    pub fn made(&self, generation: &Generation) {
        self.images.inc_by(generation.images.len() as u64);
        for stage in &generation.stages {
            let labels = StageLabels {
                stage: Stage(stage.name),
            };
            self.stages.get_or_create(&labels).observe(stage.seconds);
        }
    }

    /// In the text format of OpenMetrics.
    pub fn text(&self, queued: usize) -> Result<String, std::fmt::Error> {
        self.queued.set(queued as i64);
        if let Some(bytes) = resident_bytes() {
            self.resident.set(bytes as i64);
        }
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        encode(&mut text, &registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text() {
        let metrics = Metrics::new("built-in", "flex");
        metrics.answered("/v1/images/generations", 200);
        metrics.answered("/v1/images/generations", 200);
        metrics.waited(Duration::from_millis(2));
        let text = metrics.text(3).unwrap();
        for line in [
            "sana_requests_total{route=\"/v1/images/generations\",status=\"200\"} 2",
            "sana_queue_depth 3",
            "sana_queue_wait_seconds_count 1",
            "sana_images_total 0",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        assert!(text.contains("model=\"built-in\""), "{text}");
    }
}
