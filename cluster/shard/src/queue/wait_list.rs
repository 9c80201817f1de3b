//! The wait list: tasks that can only go on when something changes: the run, the namespace's active cluster, or the
//! time. A change that comes while a task is being executed counts as one that comes after it began to wait.

use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use parking_lot::Mutex;
use proto_ids::{NamespaceId, RunKey};

use super::{Executable, timer::TimerAction};
use crate::shard::Shard;

/// The tasks of a shard that wait for a change.
#[derive(Default)]
pub(crate) struct WaitList {
    state: Mutex<State>,
    /// Changes of namespaces so far.
    namespaces: AtomicU64,
}

#[derive(Default)]
struct State {
    next: u64,
    by_run: HashMap<RunKey, Vec<(u64, Executable)>>,
    /// Runs with a task that is being executed.
    observed: HashMap<RunKey, Observations>,
}

#[derive(Default)]
struct Observations {
    tasks: usize,
    /// Changes of the run since the first of them.
    changes: u64,
}

/// A task that is being executed, its run and namespace under observation: no change from here on is missed.
pub(super) struct Observed {
    shard: Shard,
    run: RunKey,
    changes: u64,
    namespaces: u64,
}

impl Observed {
    /// To be made before anything is looked at.
    pub(super) fn begin(executable: &Executable) -> Self {
        let (shard, run) = (executable.shard.clone(), executable.task.run.clone());
        let wait_list = &shard.0.wait_list;
        let namespaces = wait_list.namespaces.load(Ordering::Acquire);
        let mut state = wait_list.state.lock();
        let observed = state.observed.entry(run.clone()).or_default();
        observed.tasks += 1;
        let changes = observed.changes;
        drop(state);
        Self {
            shard,
            run,
            changes,
            namespaces,
        }
    }

    /// Makes the task wait until its run changes or `delay` has passed. Gives it back when something changed since its
    /// execution began.
    pub(super) fn wait(
        self,
        executable: Executable,
        delay: std::time::Duration,
    ) -> Option<Executable> {
        let wait_list = &self.shard.0.wait_list;
        let mut state = wait_list.state.lock();
        let run_changed = state
            .observed
            .get(&self.run)
            .is_some_and(|observed| observed.changes != self.changes);
        if run_changed || wait_list.namespaces.load(Ordering::Acquire) != self.namespaces {
            return Some(executable);
        }
        state.next += 1;
        let ticket = state.next;
        state
            .by_run
            .entry(self.run.clone())
            .or_default()
            .push((ticket, executable));
        drop(state);
        if self.shard.is_lost() {
            wait_list.clear();
            return None;
        }
        let host = &self.shard.0.host;
        let release = TimerAction::WaitOver(self.shard.clone(), self.run.clone(), ticket);
        host.timers.arm(host.now().plus(delay), release);
        None
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        let mut state = self.shard.0.wait_list.state.lock();
        let Some(observed) = state.observed.get_mut(&self.run) else {
            return;
        };
        observed.tasks = observed.tasks.saturating_sub(1);
        if observed.tasks == 0 {
            state.observed.remove(&self.run);
        }
    }
}

impl WaitList {
    /// The run changed.
    pub(crate) fn wake(&self, run: &RunKey) {
        let mut state = self.state.lock();
        if let Some(observed) = state.observed.get_mut(run) {
            observed.changes += 1;
        }
        if state.by_run.is_empty() {
            return;
        }
        let woken = state.by_run.remove(run);
        drop(state);
        for (_, mut executable) in woken.into_iter().flatten() {
            executable.attempt = 0;
            executable.dispatch();
        }
    }

    /// The namespaces for which this holds changed.
    pub(crate) fn wake_namespaces(&self, changed: impl Fn(&NamespaceId) -> bool) {
        let mut woken = Vec::new();
        let mut state = self.state.lock();
        self.namespaces.fetch_add(1, Ordering::AcqRel);
        state.by_run.retain(|run, executables| {
            let goes = changed(&run.namespace_id);
            if goes {
                woken.append(executables);
            }
            !goes
        });
        drop(state);
        for (_, mut executable) in woken {
            // A failover is a new beginning: pauses grown on the standby side do not count any more.
            executable.attempt = 0;
            executable.dispatch();
        }
    }

    /// Releases one task because its time is up.
    pub(super) fn release(&self, run: &RunKey, ticket: u64) {
        let mut state = self.state.lock();
        let Some(executables) = state.by_run.get_mut(run) else {
            return;
        };
        let Some(at) = executables.iter().position(|(t, _)| *t == ticket) else {
            return;
        };
        let (_, executable) = executables.swap_remove(at);
        if executables.is_empty() {
            state.by_run.remove(run);
        }
        drop(state);
        executable.dispatch();
    }

    pub(crate) fn len(&self) -> usize {
        self.state.lock().by_run.values().map(Vec::len).sum()
    }

    pub(crate) fn clear(&self) {
        self.state.lock().by_run.clear();
    }
}
