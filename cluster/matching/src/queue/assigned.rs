//! A task in the hands of one poll.

use std::sync::Weak;

use super::Queue;
use crate::task::{Fate, Origin, QueryTask, Waiting};

/// A task given to one poll. Dropping it unsettled gives the task back.
#[derive(Debug)]
pub(crate) struct Assigned {
    pub(super) task: Option<Waiting>,
    pub(super) queue: Weak<Queue>,
}

impl Assigned {
    /// The task.
    pub(crate) fn task(&self) -> Option<&Waiting> {
        self.task.as_ref()
    }

    /// Takes a query out for good.
    pub(crate) fn into_query(mut self) -> Option<Box<QueryTask>> {
        match self.task.take()?.origin {
            Origin::Query(query) => Some(query),
            _ => None,
        }
    }

    /// The task was started or is obsolete.
    pub(crate) fn done(mut self) {
        if let (Some(task), Some(queue)) = (self.task.take(), self.queue.upgrade()) {
            queue.state.lock().settle(task, Fate::Done);
        }
    }

    /// Starting it failed for now: a held one goes back to its caller, a backlog one waits here.
    pub(crate) fn failed(mut self, why: &str) {
        let (Some(task), Some(queue)) = (self.task.take(), self.queue.upgrade()) else {
            return;
        };
        let mut state = queue.state.lock();
        match &task.origin {
            Origin::Held(_) => state.settle(task, Fate::Again(why.to_owned())),
            _ => state.give_back(task),
        }
    }
}

impl Drop for Assigned {
    fn drop(&mut self) {
        if let (Some(task), Some(queue)) = (self.task.take(), self.queue.upgrade()) {
            let now = queue.now();
            let mut state = queue.state.lock();
            state.give_back(task);
            queue.pump(&mut state, now);
        }
    }
}
