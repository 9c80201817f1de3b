//! Regeneration of tasks. When state that was ahead of the store is dropped, tasks may have been done on the ground of
//! it: the pending tasks of its runs are generated from what is stored, as new tasks. Until that is done the
//! acknowledgement levels of the shard stand still, so that a new owner of the shard finds the
//! old tasks if this one dies first.

use std::sync::Arc;

use cluster_core::Task;
use cluster_runtime::{TaskKind, retry};
use hashbrown::HashMap;
use parking_lot::Mutex;
use proto_ids::RunId;

use crate::{
    dlq::DlqEntry,
    error::{ShardError, TxnError},
    load::{Entry, WorkflowKey},
    shard::Shard,
    txn::{Mode, Txn},
};

const PAUSES: retry::Policy = retry::Policy::exponential(
    std::time::Duration::from_millis(50),
    std::time::Duration::from_secs(5),
);

/// Workflow ids of a shard whose tasks have to be generated again.
#[derive(Default)]
pub(crate) struct Regenerations(Mutex<State>);

#[derive(Default)]
struct State {
    by_key: HashMap<WorkflowKey, Regeneration>,
    /// A background task works on them.
    is_running: bool,
}

#[derive(Clone)]
struct Regeneration {
    entry: Arc<Entry>,
    runs: Vec<RunId>,
    /// Rises when something is added.
    round: u64,
}

/// Held by the background task that regenerates tasks; dropped however that ends.
struct RegenerationGuard(Shard);

impl Drop for RegenerationGuard {
    fn drop(&mut self) {
        self.0.0.regenerations.0.lock().is_running = false;
        // The flusher sees whether anything is left.
        self.0.mark_dirty();
    }
}

impl Regenerations {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().by_key.is_empty()
    }

    pub(crate) fn clear(&self) {
        self.0.lock().by_key.clear();
    }

    fn add(&self, entry: Arc<Entry>, runs: Vec<RunId>) {
        let mut state = self.0.lock();
        let regeneration = state
            .by_key
            .entry(entry.key.clone())
            .or_insert_with(|| Regeneration {
                entry,
                runs: Vec::new(),
                round: 0,
            });
        regeneration.round += 1;
        for run in runs {
            if !regeneration.runs.contains(&run) {
                regeneration.runs.push(run);
            }
        }
    }

    fn all(&self) -> Vec<Regeneration> {
        self.0.lock().by_key.values().cloned().collect()
    }

    /// Removes a regeneration that is complete; what was added to it meanwhile stays.
    fn complete(&self, completed: &Regeneration) {
        let mut state = self.0.lock();
        let key = &completed.entry.key;
        if state
            .by_key
            .get(key)
            .is_some_and(|d| d.round == completed.round)
        {
            state.by_key.remove(key);
        }
    }

    /// Claims the work; false when there is none or another task has claimed it.
    fn claim(&self) -> bool {
        let mut state = self.0.lock();
        let is_free = !state.is_running && !state.by_key.is_empty();
        state.is_running |= is_free;
        is_free
    }
}

impl Shard {
    /// Regenerates the pending tasks of runs whose state was dropped from memory, from what is stored.
    pub(crate) fn regenerate_tasks(&self, entry: Arc<Entry>, runs: Vec<RunId>) {
        if self.is_lost() || runs.is_empty() {
            return;
        }
        self.0.regenerations.add(entry, runs);
        self.run_regenerations();
    }

    /// Regenerates tasks in the background, unless a task does so already.
    pub(crate) fn run_regenerations(&self) {
        if self.is_lost() || !self.0.regenerations.claim() {
            return;
        }
        let guard = RegenerationGuard(self.clone());
        let tasks = &self.0.host.deps.tasks;
        tasks.spawn(TaskKind::Background, "regenerate-tasks", async move {
            let shard = &guard.0;
            let mut pauses = PAUSES.pauses();
            while !shard.is_lost() && !shard.0.regenerations.is_empty() {
                let mut any_failed = false;
                for regeneration in shard.0.regenerations.all() {
                    match shard.regenerate(&regeneration).await {
                        Ok(()) => shard.0.regenerations.complete(&regeneration),
                        Err(_) if shard.is_lost() => return,
                        Err(error) => {
                            any_failed = true;
                            tracing::warn!(shard = %shard.id(), %error,
                                namespace = %regeneration.entry.key.namespace_id,
                                workflow_id = %regeneration.entry.key.workflow_id,
                                "the tasks of a workflow cannot be generated again yet");
                        }
                    }
                }
                if any_failed {
                    tokio::time::sleep(pauses.next_pause()).await;
                }
            }
        });
    }

    async fn regenerate(&self, regeneration: &Regeneration) -> Result<(), TxnError<ShardError>> {
        let mut txn = Txn::begin(self, regeneration.entry.key.clone(), Mode::Replicating).await?;
        let context = txn.decision_context();
        let limits = context.borrowed().limits;
        for run_id in &regeneration.runs {
            let tasks: Vec<Task> = match txn.peek(run_id).await {
                Ok(Some(ms)) if ms.is_running() => ms.pending_tasks(limits),
                Ok(_) => continue,
                // It can be read only after a repair: it must not hold the whole shard until then.
                Err(ShardError::Corrupt(cause)) => {
                    let entry = DlqEntry::of_run(regeneration.entry.run_key(run_id), cause);
                    let send_to_dlq = self.send_to_dlq(entry).await;
                    send_to_dlq.map_err(|e| TxnError::Shard(e.into()))?;
                    continue;
                }
                Err(error) => return Err(TxnError::Shard(error)),
            };
            txn.add_tasks(run_id, tasks).map_err(TxnError::Decided)?;
        }
        txn.end(Ok(())).await
    }
}
