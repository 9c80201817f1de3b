//! Which queues of work have more waiting than is taken from them in a moment.

use std::{
    collections::hash_map::Entry,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{Overload, QueueName};

/// A queue is behind when more wait than are taken from it in this many seconds: what has begun passes through queues
/// many times before it ends.
const BEHIND_SECONDS: f64 = 0.05;
/// and more than these, which is what a careful client has under way at once.
const BEHIND_LEAST: f64 = 64.0;

/// Whether a queue of work has more waiting than is taken from it in a moment. Dropping it forgets the queue.
pub struct Behind {
    overload: Overload,
    name: QueueName,
    is_behind: Arc<AtomicBool>,
}

impl Overload {
    /// Registers a queue that will report whether it is behind. Queues of one name serve the same work: its workflows,
    /// those that stay with a worker, its activities.
    pub fn queue(&self, owner: &str, name: &str) -> Behind {
        let name = (owner.to_owned(), name.to_owned());
        let is_behind = Arc::new(AtomicBool::new(false));
        let mut queues = self.0.queues.lock();
        let named = queues.entry(name.clone()).or_default();
        named.push(is_behind.clone());
        Behind {
            overload: self.clone(),
            name,
            is_behind,
        }
    }
}

impl Behind {
    /// Tells that so many wait, and so many are taken in a second.
    pub fn tell(&self, waiting: usize, per_second: f64) {
        let most = (per_second * BEHIND_SECONDS).max(BEHIND_LEAST);
        self.is_behind
            .store(waiting as f64 > most, Ordering::Relaxed);
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        let mut queues = self.overload.0.queues.lock();
        if let Entry::Occupied(mut named) = queues.entry(self.name.clone()) {
            named.get_mut().retain(|q| !Arc::ptr_eq(q, &self.is_behind));
            if named.get().is_empty() {
                named.remove();
            }
        }
    }
}

impl fmt::Debug for Behind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Behind({}, {:?})", self.name.1, self.is_behind)
    }
}
