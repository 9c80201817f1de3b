//! Tasks that can only go on when something changes: the run, the namespace's active cluster, or time.

use hashbrown::HashMap;
use parking_lot::Mutex;
use proto_ids::{NamespaceId, RunKey};

use super::{Job, timer::What};

/// Parked tasks of a shard.
#[derive(Default)]
pub(crate) struct Parked(Mutex<State>);

#[derive(Default)]
struct State {
    next: u64,
    by_run: HashMap<RunKey, Vec<(u64, Job)>>,
}

impl Parked {
    /// Parks the task until something happens to its run, or `delay` has passed.
    pub(super) fn park(&self, job: Job, delay: std::time::Duration) {
        let shard = job.shard.clone();
        let run = job.task.run.clone();
        let mut state = self.0.lock();
        state.next += 1;
        let ticket = state.next;
        state
            .by_run
            .entry(run.clone())
            .or_default()
            .push((ticket, job));
        drop(state);
        if shard.is_lost() {
            return self.clear();
        }
        let host = &shard.0.host;
        let at = host.now().plus(delay);
        host.timers
            .arm(at, What::Unpark(shard.clone(), run, ticket));
    }

    /// The run changed.
    pub(crate) fn wake(&self, run: &RunKey) {
        let mut state = self.0.lock();
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
        self.0.lock().by_run.retain(|run, jobs| {
            let goes = changed(&run.namespace_id);
            if goes {
                woken.append(jobs);
            }
            !goes
        });
        for (_, mut job) in woken {
            // A failover is a new beginning: pauses grown on the standby side do not count any more.
            job.attempt = 0;
            job.dispatch();
        }
    }

    /// The time of one task is up.
    pub(super) fn unpark(&self, run: &RunKey, ticket: u64) {
        let mut state = self.0.lock();
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
        self.0.lock().by_run.values().map(Vec::len).sum()
    }

    pub(crate) fn clear(&self) {
        self.0.lock().by_run.clear();
    }
}
