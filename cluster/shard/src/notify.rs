//! Notifies waiters of what a commit did to a run. Runs without watchers cost nothing.

use hashbrown::HashMap;
use parking_lot::Mutex;
use proto_ids::{EventId, RunId, RunKey};
use tokio::sync::watch;

use cluster_core::MutableState;

/// The durable progress of a run, as far as long polls need it. The default value means that nothing was
/// committed since the watch began: subscribe first, then read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunProgress {
    /// Id of the next event.
    pub next_event_id: EventId,
    /// The current branch.
    pub branch_id: String,
    /// Started event of the last completed workflow task.
    pub last_completed_started_event_id: EventId,
    /// Whether the run is closed.
    pub closed: bool,
    /// The run that continues this one; empty for none.
    pub new_run_id: RunId,
    /// The run was deleted.
    pub deleted: bool,
}

/// Watched runs of a shard.
#[derive(Default)]
pub(crate) struct Watchers(Mutex<HashMap<RunKey, watch::Sender<RunProgress>>>);

impl RunProgress {
    pub(crate) fn of(ms: &MutableState) -> Self {
        Self {
            next_event_id: ms.execution_info.next_event_id,
            branch_id: ms
                .versions
                .histories
                .get(ms.versions.current)
                .map(|h| h.branch.branch_id.clone())
                .unwrap_or_default(),
            last_completed_started_event_id: ms.execution_info.last_completed_started_event_id,
            closed: !ms.is_running(),
            new_run_id: ms.execution_info.new_run_id.clone(),
            deleted: false,
        }
    }
}

impl Watchers {
    pub(crate) fn watch(&self, key: &RunKey) -> watch::Receiver<RunProgress> {
        let mut runs = self.0.lock();
        if let Some(known) = runs.get(key) {
            return known.subscribe();
        }
        // Forget those without watchers before the map grows.
        if runs.len() == runs.capacity() {
            runs.retain(|_, sender| sender.receiver_count() > 0);
        }
        let (sender, receiver) = watch::channel(RunProgress::default());
        runs.insert(key.clone(), sender);
        receiver
    }

    pub(crate) fn notify(&self, key: &RunKey, progress: &RunProgress) {
        let mut runs = self.0.lock();
        let Some(sender) = runs.get(key) else { return };
        if sender.receiver_count() == 0 {
            runs.remove(key);
        } else {
            sender.send_replace(progress.clone());
        }
    }

    /// Ends all watches: waiting callers try again, at the new owner.
    pub(crate) fn clear(&self) {
        self.0.lock().clear();
    }
}
