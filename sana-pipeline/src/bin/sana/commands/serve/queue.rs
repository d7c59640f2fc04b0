//! The requests that wait for the worker.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What waits in a queue.
pub trait Waiting {
    /// Whether nobody waits for it any more.
    fn is_cancelled(&self) -> bool;
}

/// A bounded queue, from which what belongs together is taken together.
#[derive(Debug)]
pub struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    capacity: usize,
}

#[derive(Debug)]
struct State<T> {
    waiting: VecDeque<T>,
    closed: bool,
    /// Seconds that one takes, averaged over the last ones.
    seconds: f64,
}

/// Why something was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// There is no room, and probably none for so many seconds.
    Full { retry_after: u64 },
    /// Nothing is taken from the queue any more.
    Closed,
}

impl<T: Waiting> Queue<T> {
    /// A queue of at most so many.
    pub fn new(capacity: usize) -> Self {
        Self {
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                closed: false,
                seconds: 0.0,
            }),
            changed: Condvar::new(),
            capacity,
        }
    }

    /// Adds one at the end.
    pub fn push(&self, one: T) -> Result<(), Refused> {
        let mut state = self.lock();
        if state.closed {
            return Err(Refused::Closed);
        }
        state.waiting.retain(|one| !one.is_cancelled());
        if state.waiting.len() >= self.capacity {
            // Room for one appears when the next is taken.
            let retry_after = (state.seconds.ceil() as u64).clamp(1, 3600);
            return Err(Refused::Full { retry_after });
        }
        state.waiting.push_back(one);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// The first, and those after it that `fits` takes with what is taken already. Waits for one;
    /// `None` when the queue is closed and empty.
    pub fn next(&self, fits: impl Fn(&[T], &T) -> bool) -> Option<Vec<T>> {
        let mut state = self.lock();
        loop {
            state.waiting.retain(|one| !one.is_cancelled());
            if let Some(first) = state.waiting.pop_front() {
                let mut taken = vec![first];
                let mut index = 0;
                while index < state.waiting.len() {
                    match fits(&taken, &state.waiting[index]) {
                        true => taken.extend(state.waiting.remove(index)),
                        false => index += 1,
                    }
                }
                return Some(taken);
            }
            if state.closed {
                return None;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        let state = self.lock();
        state
            .waiting
            .iter()
            .filter(|one| !one.is_cancelled())
            .count()
    }

    /// That so many took so long.
    pub fn took(&self, seconds: f64, many: usize) {
        let mut state = self.lock();
        let each = seconds / many.max(1) as f64;
        state.seconds = match state.seconds {
            0.0 => each,
            before => 0.7 * before + 0.3 * each,
        };
    }

    /// Takes no more; what waits is still handed out.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No code of ours panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[derive(Debug, PartialEq)]
    struct One(&'static str, bool);

    impl Waiting for One {
        fn is_cancelled(&self) -> bool {
            self.1
        }
    }

    fn names(taken: Option<Vec<One>>) -> Vec<&'static str> {
        taken.unwrap().iter().map(|one| one.0).collect()
    }

    #[test]
    fn equals_are_taken_together() {
        let queue = Queue::new(8);
        for name in ["a1", "b1", "a2", "a3", "b2"] {
            queue.push(One(name, false)).unwrap();
        }
        let fits = |taken: &[One], one: &One| taken.len() < 2 && taken[0].0[..1] == one.0[..1];
        assert_eq!(names(queue.next(fits)), ["a1", "a2"]);
        assert_eq!(names(queue.next(fits)), ["b1", "b2"]);
        assert_eq!(queue.len(), 1);
        queue.close();
        assert_eq!(queue.push(One("c", false)), Err(Refused::Closed));
        assert_eq!(names(queue.next(fits)), ["a3"]);
        assert!(queue.next(fits).is_none());
    }

    #[test]
    fn a_full_queue_refuses() {
        let queue = Queue::new(2);
        queue.push(One("a", false)).unwrap();
        queue.push(One("gone", true)).unwrap();
        assert_eq!(queue.len(), 1);
        // Who has gone makes room.
        queue.push(One("b", false)).unwrap();
        let refused = queue.push(One("c", false));
        assert_eq!(refused, Err(Refused::Full { retry_after: 1 }));
        queue.took(20.0, 2);
        queue.took(40.0, 1);
        let refused = queue.push(One("c", false));
        assert_eq!(refused, Err(Refused::Full { retry_after: 19 }));
        assert_eq!(names(queue.next(|_, _| false)), ["a"]);
        queue.push(One("c", false)).unwrap();
    }

    #[test]
    fn taking_waits_for_one() {
        let queue = Arc::new(Queue::new(1));
        let taker = thread::spawn({
            let queue = Arc::clone(&queue);
            move || (queue.next(|_, _| true), queue.next(|_, _| true))
        });
        queue.push(One("a", false)).unwrap();
        while queue.len() > 0 {
            thread::yield_now();
        }
        queue.close();
        let (first, second) = taker.join().unwrap();
        assert_eq!(names(first), ["a"]);
        assert!(second.is_none());
    }
}
