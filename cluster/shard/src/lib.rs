//! The shard kernel: the only place where workflow state and the store meet.
//!
//! A [`Shard`] is the unit of ownership and fencing. A transaction on a workflow id locks it, loads it on
//! demand, lets the caller decide, hands the write to a *commit lane* and unlocks: the next transaction
//! builds on state that is not durable yet, and every answer waits for the commit that holds what it saw.
//! One lane drains the ready writes of all shards of the process; tasks go to their queues in memory right
//! after the commit that stored them, and rows of tasks exist for recovery only.
//!
//! Invariants, each tested by fault injection:
//! 1. No answer and no dispatch before the commit that contains its cause succeeded.
//! 2. Every commit names the range of every shard in it; the store checks them.
//! 3. After a commit with unknown outcome the lane takes the ranges again before it looks what happened.
//! 4. State ahead of the durable one leaves the process only where it is not acknowledged to a client ("started").
//! 5. Whatever a new owner owes can be rebuilt from rows alone.
//!
//! No workflow rule and no RPC type lives here.

mod changes;
mod commit;
mod controller;
mod dlq;
mod error;
mod event_cache;
mod flush;
mod handover;
mod history;
mod host;
mod lease;
mod limits;
mod load;
mod metrics;
mod notify;
mod options;
mod queue;
mod record;
mod regenerate;
mod shard;
mod txn;

pub use changes::ChangedRuns;
pub use controller::Shards;
pub use dlq::{DlqEntry, TaskDlq, dlq_name};
pub use error::{ReadError, ShardError, TxnError, UpdateError};
pub use history::{HistoryBatch, HistoryPage};
pub use host::ShardsDeps;
pub use limits::SETTINGS;
pub use notify::RunProgress;
pub use options::ShardsOptions;
pub use queue::{
    AckRefused, ExecutionMode, Executor, Executors, Outcome, QueuedTask, Reader, reader_name,
};
pub use record::RecordError;
pub use schema_store::execution::CurrentRecord;
pub use shard::{Shard, Updated};
pub use txn::{CurrentChange, OwnedDecisionContext, Txn};
