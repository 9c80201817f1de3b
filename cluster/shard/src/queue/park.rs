//! Tasks that can only go on when something changes: the run, the namespace's active cluster, or time. A
//! change that comes while a task is being judged counts as one that comes after it was parked.

use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use parking_lot::Mutex;
use proto_ids::{NamespaceId, RunKey};

use super::{Job, timer::What};
use crate::shard::Shard;

/// Parked tasks of a shard.
#[derive(Default)]
pub(crate) struct Parked {
    state: Mutex<State>,
    /// Changes of namespaces so far.
    namespaces: AtomicU64,
}

#[derive(Default)]
struct State {
    next: u64,
    by_run: HashMap<RunKey, Vec<(u64, Job)>>,
    /// Runs with a task that is being judged.
    judged: HashMap<RunKey, Judged>,
}

#[derive(Default)]
struct Judged {
    tasks: usize,
    /// Changes of the run since the first of them.
    changes: u64,
}

/// A task that is being judged: what changes from here on is not missed.
pub(super) struct Judging {
    shard: Shard,
    run: RunKey,
    changes: u64,
    namespaces: u64,
}

impl Judging {
    /// To be made before anything is looked at.
    pub(super) fn begin(job: &Job) -> Self {
        let (shard, run) = (job.shard.clone(), job.task.run.clone());
        let parked = &shard.0.parked;
        let namespaces = parked.namespaces.load(Ordering::Acquire);
        let mut state = parked.state.lock();
        let judged = state.judged.entry(run.clone()).or_default();
        judged.tasks += 1;
        let changes = judged.changes;
        drop(state);
        Self {
            shard,
            run,
            changes,
            namespaces,
        }
    }

    /// Parks the task until something happens to its run or `delay` has passed. Gives it back when something
    /// happened since it began to be judged.
    pub(super) fn park(self, job: Job, delay: std::time::Duration) -> Option<Job> {
        let parked = &self.shard.0.parked;
        let mut state = parked.state.lock();
        let run_changed = state
            .judged
            .get(&self.run)
            .is_some_and(|judged| judged.changes != self.changes);
        if run_changed || parked.namespaces.load(Ordering::Acquire) != self.namespaces {
            return Some(job);
        }
        state.next += 1;
        let ticket = state.next;
        state
            .by_run
            .entry(self.run.clone())
            .or_default()
            .push((ticket, job));
        drop(state);
        if self.shard.is_lost() {
            parked.clear();
            return None;
        }
        let host = &self.shard.0.host;
        let unpark = What::Unpark(self.shard.clone(), self.run.clone(), ticket);
        host.timers.arm(host.now().plus(delay), unpark);
        None
    }
}

impl Drop for Judging {
    fn drop(&mut self) {
        let mut state = self.shard.0.parked.state.lock();
        let Some(judged) = state.judged.get_mut(&self.run) else {
            return;
        };
        judged.tasks = judged.tasks.saturating_sub(1);
        if judged.tasks == 0 {
            state.judged.remove(&self.run);
        }
    }
}

impl Parked {
    /// The run changed.
    pub(crate) fn wake(&self, run: &RunKey) {
        let mut state = self.state.lock();
        if let Some(judged) = state.judged.get_mut(run) {
            judged.changes += 1;
        }
        if state.by_run.is_empty() {
            return;
        }
        let woken = state.by_run.remove(run);
        drop(state);
        for (_, mut job) in woken.into_iter().flatten() {
            job.attempt = 0;
            job.dispatch();
        }
    }

    /// The namespaces for which this holds changed.
    pub(crate) fn wake_namespaces(&self, changed: impl Fn(&NamespaceId) -> bool) {
        let mut woken = Vec::new();
        let mut state = self.state.lock();
        self.namespaces.fetch_add(1, Ordering::AcqRel);
        state.by_run.retain(|run, jobs| {
            let goes = changed(&run.namespace_id);
            if goes {
                woken.append(jobs);
            }
            !goes
        });
        drop(state);
        for (_, mut job) in woken {
            // A failover is a new beginning: pauses grown on the standby side do not count any more.
            job.attempt = 0;
            job.dispatch();
        }
    }

    /// The time of one task is up.
    pub(super) fn unpark(&self, run: &RunKey, ticket: u64) {
        let mut state = self.state.lock();
        let Some(jobs) = state.by_run.get_mut(run) else {
            return;
        };
        let Some(at) = jobs.iter().position(|(t, _)| *t == ticket) else {
            return;
        };
        let (_, job) = jobs.swap_remove(at);
        if jobs.is_empty() {
            state.by_run.remove(run);
        }
        drop(state);
        job.dispatch();
    }

    pub(crate) fn len(&self) -> usize {
        self.state.lock().by_run.values().map(Vec::len).sum()
    }

    pub(crate) fn clear(&self) {
        self.state.lock().by_run.clear();
    }
}
