//! Writes on their way to the store. A [`Write`] is what one transaction made of one workflow id; it is
//! committed whole or not at all, in the order in which its shard's writes were submitted.

use std::sync::{Arc, OnceLock};

use cluster_core::Task;
use proto_ids::{RunKey, ShardId, TaskId, Timestamp};
use schema_store::execution::{
    BranchRecord, CurrentWrite, Expected, HistoryNode, ItemWrite, RowWrite,
};
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use crate::{
    error::ShardError, load::Entry, notify::RunProgress, queue::Rescheduled, shard::Shard,
};

mod batch;
mod lane;
mod merge;
mod resolve;

pub(crate) use lane::{Driver, Lane};

/// The end of one write, to be waited for by everybody who saw its effect.
#[derive(Default)]
pub(crate) struct Ticket {
    ended: OnceLock<Result<(), Failure>>,
    notify: Notify,
}

/// The reason why a write did not become durable. No caller was answered with success, and nothing of it remains.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// The shard has another owner.
    Lost(ShardId),
    /// This write, or one it built on, failed.
    Dropped(&'static str),
    /// The store refuses it.
    Rejected(String),
    /// The store has no room for it.
    Full(String),
}

/// A transaction's write.
pub(crate) struct Write {
    pub(crate) shard: Shard,
    pub(crate) entry: Arc<Entry>,
    /// The entry's epoch it was made in; void when the entry has moved on.
    pub(crate) epoch: u64,
    pub(crate) runs: Vec<RunWrite>,
    pub(crate) ticket: Arc<Ticket>,
    pub(crate) bytes: usize,
    /// When it was handed to the lane.
    pub(crate) since: Instant,
}

/// The write of a transaction to one run.
#[derive(Clone)]
pub(crate) struct RunWrite {
    pub(crate) key: RunKey,
    pub(crate) expected: Expected,
    pub(crate) row: RowWrite,
    pub(crate) items: Vec<ItemWrite>,
    pub(crate) items_replaced: bool,
    pub(crate) current: Option<CurrentWrite>,
    pub(crate) branches: Vec<BranchRecord>,
    pub(crate) history: Vec<HistoryNode>,
    pub(crate) tasks: Vec<Task>,
    /// Tasks that are stored already and move from the outbox to a timer row.
    pub(crate) rescheduled: Vec<Rescheduled>,
    pub(crate) at: Timestamp,
    /// The progress that watchers are notified of afterwards.
    pub(crate) progress: Option<RunProgress>,
}

/// Queue positions of a shard, to be stored with the next batch.
pub(crate) struct Progress {
    pub(crate) shard: Shard,
    pub(crate) state: bytes::Bytes,
    pub(crate) trim_outbox: Option<TaskId>,
    pub(crate) trim_timers: Option<(Timestamp, TaskId)>,
}

/// A unit of work of a lane.
pub(crate) enum Unit {
    Write(Box<Write>),
    Progress(Progress),
    /// Answered when everything before it has ended.
    Barrier(oneshot::Sender<()>),
}

impl Ticket {
    /// Returns when the write has ended.
    pub(crate) async fn wait(&self) -> Result<(), ShardError> {
        loop {
            let notify = self.notify.notified();
            tokio::pin!(notify);
            notify.as_mut().enable();
            if let Some(ended) = self.ended.get() {
                return ended.clone().map_err(ShardError::from);
            }
            notify.await;
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.ended.get().is_some()
    }

    pub(crate) fn end(&self, how: Result<(), Failure>) {
        let _ = self.ended.set(how);
        self.notify.notify_waiters();
    }
}

impl From<Failure> for ShardError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Lost(shard) => Self::Lost(shard),
            Failure::Dropped(why) => Self::Dropped(why.to_owned()),
            Failure::Rejected(why) => Self::Rejected(why),
            Failure::Full(why) => Self::Unavailable(format!("the store has no room: {why}")),
        }
    }
}

impl Write {
    /// Whether what it was built on is still true.
    pub(crate) fn is_invalid(&self) -> bool {
        self.shard.is_lost() || self.entry.epoch() != self.epoch
    }

    /// Ends it without effect. What built on it fails with it.
    pub(crate) fn fail(self, failure: Failure) {
        if self.shard.is_lost() {
            self.ticket.end(Err(Failure::Lost(self.shard.id())));
            return;
        }
        if self.entry.epoch() == self.epoch {
            self.entry.fail();
            let runs = self.runs.iter().map(|r| r.key.run_id.clone()).collect();
            self.shard.regenerate_tasks(self.entry.clone(), runs);
        }
        self.ticket.end(Err(failure));
    }
}

/// About how many bytes a write puts into a batch.
pub(crate) fn bytes_of(runs: &[RunWrite]) -> usize {
    runs.iter()
        .map(|r| {
            let row = match &r.row {
                RowWrite::Put { hot, start, .. } => {
                    hot.len() + start.as_ref().map_or(0, bytes::Bytes::len)
                }
                RowWrite::Delete | RowWrite::Keep => 0,
            };
            let items: usize = r
                .items
                .iter()
                .map(|i| 40 + i.value.as_ref().map_or(0, bytes::Bytes::len))
                .sum();
            let history: usize = r.history.iter().map(|n| 100 + n.data.len()).sum();
            200 + row + items + history + 64 * r.tasks.len()
        })
        .sum()
}
