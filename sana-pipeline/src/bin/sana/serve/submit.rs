//! A request on the side of its handler.

use std::time::Instant;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::error::ApiError;
use super::job::{Draft, Event, Job, Made, Signal};
use super::state::State;

/// A job that waits or runs. It is cancelled when this is dropped, as it is when the client goes away.
#[derive(Debug)]
pub struct Submitted {
    events: UnboundedReceiver<Event>,
    signal: Signal,
    /// Images that are made.
    images: usize,
}

impl State {
    /// Checks a draft and puts it into the queue.
    pub fn submit(&self, draft: Draft) -> Result<Submitted, ApiError> {
        let (request, settings) = draft.check(&self.shared.limits, &self.spec)?;
        let (sender, events) = unbounded_channel();
        let signal = Signal::default();
        let images = settings.images();
        self.shared.queue.push(Job {
            draft,
            request,
            settings,
            events: sender,
            signal: signal.clone(),
            since: Instant::now(),
        })?;
        Ok(Submitted {
            events,
            signal,
            images,
        })
    }
}

impl Submitted {
    /// The next event; `None` after the last.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
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
        match images.len() == self.images {
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
