//! Visibility rows of a shard that are not there although its runs are: the file that held them was deleted.
//! Every run gets a task to write its row, stored like any other task, so that a crash in the midst costs
//! nothing.

use cluster_core::{Task, TaskKind};
use cluster_runtime::retry;
use futures::future::try_join_all;
use proto_ids::RunKey;

use crate::{
    dlq::DlqEntry,
    error::{ShardError, TxnError},
    shard::{Shard, key_of},
    txn::{Mode, Txn},
};

/// Runs listed, and tasks added, at once.
const PAGE: usize = 64;

const PAUSES: retry::Policy = retry::Policy::exponential(
    std::time::Duration::from_millis(100),
    std::time::Duration::from_secs(10),
);

impl Shard {
    /// Sees to it that every run of the shard has, or will have, its visibility row.
    pub(super) async fn refill_visibility(&self) {
        let worth_it = |error: &ShardError| {
            tracing::warn!(shard = %self.id(), %error, "visibility cannot be filled from the runs yet");
            !self.is_lost()
        };
        let _ = retry::retry(&PAUSES, worth_it, || self.refill_now()).await;
    }

    async fn refill_now(&self) -> Result<(), ShardError> {
        let store = &self.0.host.deps.store.visibility;
        if store.visibility_is_complete(self.id()).await? {
            return Ok(());
        }
        let mut after = None;
        let mut count = 0;
        loop {
            let runs = self.runs(after, PAGE).await?;
            let is_last = runs.len() < PAGE;
            count += runs.len();
            after = runs.last().cloned();
            try_join_all(runs.into_iter().map(|run| self.add_visibility_task(run))).await?;
            if is_last {
                break;
            }
        }
        store.visibility_set_complete(self.id()).await?;
        if count > 0 {
            tracing::info!(shard = %self.id(), runs = count, "visibility is filled from the runs");
        }
        Ok(())
    }

    async fn add_visibility_task(&self, run: RunKey) -> Result<(), ShardError> {
        let key = key_of(&run.namespace_id, &run.workflow_id);
        let added = async {
            let mut txn = Txn::begin(self, key, Mode::Replicating).await?;
            let found = txn.peek(&run.run_id).await.map_err(TxnError::Decided)?;
            if let Some(ms) = found {
                let task = Task {
                    version: ms.last_version(),
                    fire_at: None,
                    kind: TaskKind::Visibility,
                };
                txn.add_tasks(&run.run_id, vec![task])
                    .map_err(TxnError::Decided)?;
            }
            txn.end(Ok(())).await
        };
        match added.await {
            Ok(()) => Ok(()),
            Err(TxnError::Decided(ShardError::Corrupt(cause))) => {
                let entry = DlqEntry::of_run(run, cause);
                Ok(self.send_to_dlq(entry).await?)
            }
            Err(TxnError::Decided(error) | TxnError::Shard(error)) => Err(error),
            Err(other) => Err(ShardError::Unavailable(other.to_string())),
        }
    }
}
