//! What the worker and the handlers of requests share.

pub mod job;
pub mod kept;
pub mod metrics;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::http::HeaderValue;
use sana_pipeline::image::RgbImage;
use sana_pipeline::spec::ModelSpec;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use self::job::{Job, Signal};
use self::kept::Kept;
use self::metrics::Metrics;
use crate::commands::serve::args::Limits;
use crate::commands::serve::error::ApiError;
use crate::commands::serve::key::ApiKey;
use crate::commands::serve::queue::Queue;

/// What worker and handlers share.
#[derive(Debug)]
pub struct Shared {
    pub queue: Queue<Job>,
    pub running: Running,
    pub metrics: Metrics,
    pub limits: Limits,
    /// Whether all previews are decoded.
    pub decode_previews: bool,
    /// Whether images are without the mark that a model made them.
    pub no_mark: bool,
    /// Whether the colours of latents could not be fitted, so that nobody tries again.
    pub no_colors: AtomicBool,
    /// Whether an image was made, so that all weights are there.
    pub ready: AtomicBool,
}

/// The state of every handler.
pub type Server = Arc<State>;

/// What handlers know.
#[derive(Debug)]
pub struct State {
    pub shared: Arc<Shared>,
    pub spec: ModelSpec,
    /// Name of the model.
    pub model: String,
    /// Seconds since 1970 at the start.
    pub started: u64,
    pub key: Option<ApiKey>,
    /// Whether only this machine reaches it, without a key.
    pub is_local: bool,
    /// Origins whose pages may call the server.
    pub origins: Vec<HeaderValue>,
    /// Images that are fetched by their address.
    pub kept: Kept,
    /// Uploads that may be unpacked at a time.
    pub unpacks: Arc<Semaphore>,
}

impl State {
    /// Unpacks uploaded images, few at a time, next to the threads that answer.
    pub async fn unpacking<T: Send + 'static>(
        &self,
        unpack: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let internal = |error: String| ApiError::internal(error);
        let permit = Arc::clone(&self.unpacks).acquire_owned().await;
        let permit = permit.map_err(|error| internal(error.to_string()))?;
        let unpacked = spawn_blocking(move || {
            let unpacked = unpack();
            drop(permit);
            unpacked
        });
        unpacked
            .await
            .map_err(|error| internal(error.to_string()))?
    }
}

impl Shared {
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }
}

/// What is being made.
#[derive(Debug, Default)]
pub struct Running {
    now: Mutex<Option<Progress>>,
    /// When an image of the progress was last asked for.
    watched: Mutex<Option<Instant>>,
}

/// How far it is.
#[derive(Debug, Clone)]
pub struct Progress {
    signals: Vec<Signal>,
    pub since: Instant,
    /// Steps done, of all images.
    pub step: usize,
    /// Steps of all images; 0 before the first.
    pub steps: usize,
    /// The first image as it is.
    pub preview: Option<RgbImage>,
}

impl Running {
    /// How long after progress was asked for previews are made.
    const WATCHED_SECONDS: u64 = 10;

    pub fn begin(&self, signals: impl Iterator<Item = Signal>) {
        *self.lock() = Some(Progress {
            signals: signals.collect(),
            since: Instant::now(),
            step: 0,
            steps: 0,
            preview: None,
        });
    }

    pub fn end(&self) {
        *self.lock() = None;
    }

    pub fn step(&self, step: usize, steps: usize) {
        if let Some(progress) = self.lock().as_mut() {
            (progress.step, progress.steps) = (step, steps);
        }
    }

    pub fn show(&self, preview: &RgbImage) {
        if let Some(progress) = self.lock().as_mut() {
            progress.preview = Some(preview.clone());
        }
    }

    /// That somebody wants to see the image as it is.
    pub fn watch(&self) {
        *self.watched.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    pub fn is_watched(&self) -> bool {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.is_some_and(|last| last.elapsed().as_secs() < Self::WATCHED_SECONDS)
    }

    /// How far it is; `None` when nothing is made.
    pub fn progress(&self) -> Option<Progress> {
        self.lock().clone()
    }

    /// Ends what is being made, with the images as they are.
    pub fn interrupt(&self) {
        if let Some(progress) = self.lock().as_ref() {
            progress.signals.iter().for_each(Signal::interrupt);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Progress>> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
