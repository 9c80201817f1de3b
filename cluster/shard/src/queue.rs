//! Queues of tasks. Right after the commit that stored them tasks go to workers in memory; rows are read
//! only when a shard is taken over and when timers come near. What is done is tracked per category, so that
//! rows can be trimmed behind a contiguous prefix.

use std::sync::{Arc, atomic::AtomicBool};

use async_trait::async_trait;
use cluster_core::Task;
use proto_ids::{RunKey, TaskId, Timestamp};

use crate::shard::Shard;

pub(crate) mod ack;
mod park;
mod recover;
mod refill;
mod replication;
mod rows;
mod timer;
mod transfer;
mod visibility;

pub(crate) use ack::Queues;
pub(crate) use park::Parked;
pub(crate) use replication::Remote;
pub use replication::{AckRefused, Reader, reader_name};
pub(crate) use timer::TimerQueue;
pub(crate) use transfer::{Pool, start as start_workers};
pub(crate) use visibility::VisibilityInbox;

/// A task of a run, with its position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedTask {
    /// Its position in the shard; 0 for a task that lives in memory only so far.
    pub task_id: TaskId,
    /// The run.
    pub run: RunKey,
    /// The task.
    pub task: Task,
    /// When it was made.
    pub at: Timestamp,
}

/// What this cluster is to the task's namespace at the moment of execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Do it.
    Active,
    /// Verify that it has been done elsewhere.
    Standby,
}

/// What became of an execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Done, or no longer needed.
    Done,
    /// Try again after at least this long; pauses grow.
    Retry(std::time::Duration),
    /// Nothing to do before the run changes, the namespace fails over, or some time passes.
    Park,
    /// It can never be done: it is set aside for an operator.
    Poison(String),
}

/// Executes tasks of one kind of queue. Executions may be repeated (after a crash, a failover or a retry) and
/// may run beside one another even for one run; an executor checks state and does nothing twice.
#[async_trait]
pub trait Executor: Send + Sync + 'static {
    /// Executes a task. Cancelled at shutdown.
    async fn execute(&self, shard: &Shard, task: &QueuedTask, role: Role) -> Verdict;
}

/// Who executes what.
#[derive(Clone)]
pub struct Executors {
    /// Tasks that are due at once.
    pub transfer: Arc<dyn Executor>,
    /// Tasks with a fire time.
    pub timer: Arc<dyn Executor>,
}

/// Where the stored form of a task lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// In an outbox row.
    Outbox,
    /// In a timer row with this time.
    Row(Timestamp),
}

/// A task that moves to a timer row because it has been in the way of trimming for too long.
#[derive(Clone, Debug)]
pub(crate) struct Homed {
    pub(crate) task: Arc<QueuedTask>,
    pub(crate) fire_at: Timestamp,
}

/// A task on its way through memory.
#[derive(Clone)]
pub(crate) struct Job {
    pub(crate) shard: Shard,
    pub(crate) task: Arc<QueuedTask>,
    pub(crate) attempt: u32,
    /// When raised, a stored copy has taken its place.
    pub(crate) superseded: Option<Arc<AtomicBool>>,
}

impl Job {
    pub(crate) fn new(shard: &Shard, task: Arc<QueuedTask>) -> Self {
        Self {
            shard: shard.clone(),
            task,
            attempt: 0,
            superseded: None,
        }
    }

    /// Whether nobody needs it any more.
    pub(crate) fn is_void(&self) -> bool {
        let superseded = |s: &Arc<AtomicBool>| s.load(std::sync::atomic::Ordering::Acquire);
        self.shard.is_lost() || self.superseded.as_ref().is_some_and(superseded)
    }

    /// Hands it to the workers of its category.
    pub(crate) fn dispatch(self) {
        use cluster_core::task::Category;
        let host = self.shard.0.host.clone();
        match self.task.task.kind.category() {
            Category::Transfer => host.transfer.push(self),
            Category::Timer => host.timer.push(self),
            Category::Visibility => host.visibility.push(&self.shard, &self.task),
            Category::Replication => {}
        }
    }
}
