//! A request on the side of its handler.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::commands::serve::error::ApiError;
use crate::commands::serve::state::State;
use crate::commands::serve::state::job::{Draft, Event, Job, Made, Signal};

/// A job that waits or runs. It is cancelled when this is dropped, as it is when the client goes away.
#[derive(Debug)]
pub struct Submitted {
    events: UnboundedReceiver<Event>,
    signal: Signal,
    /// Images that are made.
    images: usize,
    /// Previews that were not taken yet.
    pending: Arc<AtomicUsize>,
}

impl State {
    /// Checks a draft and puts it into the queue.
    pub fn submit(&self, mut draft: Draft) -> Result<Submitted, ApiError> {
        let (request, settings) = draft.check(&self.shared.limits, &self.spec)?;
        let (sender, events) = unbounded_channel();
        let signal = Signal::default();
        let images = settings.images();
        let pending = Arc::default();
        self.shared.queue.push(Job {
            draft,
            request,
            settings,
            events: sender,
            signal: signal.clone(),
            since: Instant::now(),
            delivered: AtomicUsize::new(0),
            pending: Arc::clone(&pending),
        })?;
        Ok(Submitted {
            events,
            signal,
            images,
            pending,
        })
    }
}

impl Submitted {
    /// The next event; `None` after the last.
    pub async fn next(&mut self) -> Option<Event> {
        let event = self.events.recv().await;
        if let Some(Event::Preview { .. }) = event {
            self.pending.fetch_sub(1, Ordering::Relaxed);
        }
        event
    }

    /// Whether so many images are all that are made.
    pub fn is_all(&self, images: usize) -> bool {
        images == self.images || (images > 0 && self.signal.is_interrupted())
    }

    /// All images, in order.
    pub async fn images(mut self) -> Result<Vec<Made>, ApiError> {
        let mut images = Vec::with_capacity(self.images);
        while let Some(event) = self.next().await {
            match event {
                Event::Image(made) => images.push(*made),
                Event::Failed(error) => return Err(error),
                Event::Step { .. } | Event::Preview { .. } => {}
            }
        }
        match self.is_all(images.len()) {
            true => Ok(images),
            false => Err(ApiError::ended()),
        }
    }
}

impl Drop for Submitted {
    fn drop(&mut self) {
        self.signal.cancel();
    }
}
