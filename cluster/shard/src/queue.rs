//! The queues of a shard: transfer queue, timer queue, visibility queue, replication queue. Right after the
//! commit that stored them tasks go to workers in memory; rows are read only when a shard is taken over and
//! when timers come near. What is done is tracked per category, so that rows can be trimmed behind a contiguous
//! prefix.

use std::sync::{Arc, atomic::AtomicBool};

use async_trait::async_trait;
use cluster_core::Task;
use proto_ids::{RunKey, TaskId, Timestamp};

use crate::shard::Shard;

pub(crate) mod ack;
mod recover;
mod refill;
mod replication;
mod rows;
mod timer;
mod transfer;
mod visibility;
mod wait_list;

pub(crate) use ack::Queues;
pub(crate) use replication::Remote;
pub use replication::{AckRefused, Reader, reader_name};
pub(crate) use timer::TimerQueue;
pub(crate) use transfer::{WorkerQueue, start as start_workers};
pub(crate) use visibility::VisibilityQueue;
pub(crate) use wait_list::WaitList;

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

/// How a task is executed: by what this cluster is to the task's namespace at that time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecutionMode {
    /// The namespace is active here: the task is done.
    Active,
    /// The namespace is active elsewhere: it is verified that the task has been done there.
    Standby,
}

/// The outcome of an execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done, or no longer needed.
    Done,
    /// Try again after at least this long; pauses grow.
    Retry(std::time::Duration),
    /// Wait until the run changes, the namespace fails over, or some time has passed.
    Wait,
    /// It can never be done: it goes to the dead-letter queue.
    PermanentFailure(String),
}

/// Executes tasks of one kind of queue. Executions may be repeated (after a crash, a failover or a retry) and
/// may run beside one another even for one run; an executor checks state and does nothing twice.
#[async_trait]
pub trait Executor: Send + Sync + 'static {
    /// Executes a task. Cancelled at shutdown.
    async fn execute(&self, shard: &Shard, task: &QueuedTask, mode: ExecutionMode) -> Outcome;
}

/// The executors of the transfer queue and the timer queue.
#[derive(Clone)]
pub struct Executors {
    /// Executes transfer tasks, which are due at once.
    pub transfer: Arc<dyn Executor>,
    /// Tasks with a fire time.
    pub timer: Arc<dyn Executor>,
}

/// Where a task is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// In an outbox row.
    Outbox,
    /// In a timer row with this time.
    TimerRow(Timestamp),
}

/// A task that is rescheduled: it moves to a timer row because it has blocked trimming for too long.
#[derive(Clone, Debug)]
pub(crate) struct Rescheduled {
    pub(crate) task: Arc<QueuedTask>,
    pub(crate) fire_at: Timestamp,
}

/// A task in memory, with its state of execution.
#[derive(Clone)]
pub(crate) struct Executable {
    pub(crate) shard: Shard,
    pub(crate) task: Arc<QueuedTask>,
    pub(crate) attempt: u32,
    /// Set when a stored copy has taken its place.
    pub(crate) superseded: Option<Arc<AtomicBool>>,
}

impl Executable {
    pub(crate) fn new(shard: &Shard, task: Arc<QueuedTask>) -> Self {
        Self {
            shard: shard.clone(),
            task,
            attempt: 0,
            superseded: None,
        }
    }

    /// Whether it need not be executed any more.
    pub(crate) fn is_obsolete(&self) -> bool {
        let superseded = |s: &Arc<AtomicBool>| s.load(std::sync::atomic::Ordering::Acquire);
        self.shard.is_lost() || self.superseded.as_ref().is_some_and(superseded)
    }

    /// Puts it into the queue of its category.
    pub(crate) fn dispatch(self) {
        use cluster_core::task::Category;
        let host = self.shard.0.host.clone();
        match self.task.task.kind.category() {
            Category::Transfer => host.transfer_queue.push(self),
            Category::Timer => host.timer_queue.push(self),
            Category::Visibility => host.visibility_queue.push(&self.shard, &self.task),
            Category::Replication => {}
        }
    }
}
