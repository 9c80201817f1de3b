//! Tasks that have to be found again. When state that was ahead of the store is dropped, tasks may be done on
//! the ground of it: what its runs owe is generated from what is stored, as new tasks. The debt is the
//! shard's until it is paid; queue positions stand still so long, so that a new owner of the shard finds the
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
pub(crate) struct Owed(Mutex<Debts>);

#[derive(Default)]
struct Debts {
    by_key: HashMap<WorkflowKey, Debt>,
    /// Somebody works on them.
    is_worked_on: bool,
}

#[derive(Clone)]
struct Debt {
    entry: Arc<Entry>,
    runs: Vec<RunId>,
    /// Rises when something is added.
    round: u64,
}

/// Whoever works on the debts; dropped however that ends.
struct Worker(Shard);

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.0.owed.0.lock().is_worked_on = false;
        // The sweeper sees whether anything is left.
        self.0.mark();
    }
}

impl Owed {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().by_key.is_empty()
    }

    pub(crate) fn clear(&self) {
        self.0.lock().by_key.clear();
    }

    fn add(&self, entry: Arc<Entry>, runs: Vec<RunId>) {
        let mut debts = self.0.lock();
        let debt = debts
            .by_key
            .entry(entry.key.clone())
            .or_insert_with(|| Debt {
                entry,
                runs: Vec::new(),
                round: 0,
            });
        debt.round += 1;
        for run in runs {
            if !debt.runs.contains(&run) {
                debt.runs.push(run);
            }
        }
    }

    fn all(&self) -> Vec<Debt> {
        self.0.lock().by_key.values().cloned().collect()
    }

    /// What was added while the debt was being paid stays.
    fn paid(&self, paid: &Debt) {
        let mut debts = self.0.lock();
        let key = &paid.entry.key;
        if debts.by_key.get(key).is_some_and(|d| d.round == paid.round) {
            debts.by_key.remove(key);
        }
    }

    /// Whether the caller is the one to work on them.
    fn take_up(&self) -> bool {
        let mut debts = self.0.lock();
        let is_free = !debts.is_worked_on && !debts.by_key.is_empty();
        debts.is_worked_on |= is_free;
        is_free
    }
}

impl Shard {
    /// After state was dropped from memory: what its runs owe is generated again from what is stored.
    pub(crate) fn regenerate_tasks(&self, entry: Arc<Entry>, runs: Vec<RunId>) {
        if self.is_lost() || runs.is_empty() {
            return;
        }
        self.0.owed.add(entry, runs);
        self.pay_debts();
    }

    /// Works on what is owed, in the background, unless somebody does already.
    pub(crate) fn pay_debts(&self) {
        if self.is_lost() || !self.0.owed.take_up() {
            return;
        }
        let worker = Worker(self.clone());
        let tasks = &self.0.host.deps.tasks;
        tasks.spawn(TaskKind::Background, "regenerate-tasks", async move {
            let shard = &worker.0;
            let mut pauses = PAUSES.pauses();
            while !shard.is_lost() && !shard.0.owed.is_empty() {
                let mut any_failed = false;
                for debt in shard.0.owed.all() {
                    match shard.pay(&debt).await {
                        Ok(()) => shard.0.owed.paid(&debt),
                        Err(_) if shard.is_lost() => return,
                        Err(error) => {
                            any_failed = true;
                            tracing::warn!(shard = %shard.id(), %error,
                                namespace = %debt.entry.key.namespace_id,
                                workflow_id = %debt.entry.key.workflow_id,
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

    async fn pay(&self, debt: &Debt) -> Result<(), TxnError<ShardError>> {
        let mut txn = Txn::begin(self, debt.entry.key.clone(), Mode::Replicating).await?;
        let context = txn.decision_context();
        let limits = context.borrowed().limits;
        for run_id in &debt.runs {
            let tasks: Vec<Task> = match txn.peek(run_id).await {
                Ok(Some(ms)) if ms.is_running() => ms.pending_tasks(limits),
                Ok(_) => continue,
                // It can be read only after a repair: it must not hold the whole shard until then.
                Err(ShardError::Corrupt(cause)) => {
                    let entry = DlqEntry::of_run(debt.entry.run_key(run_id), cause);
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
