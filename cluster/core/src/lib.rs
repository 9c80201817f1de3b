//! The pure core: workflow state and its rules.
//!
//! A request or an event batch goes in; events, tasks and a state change come out. There is no I/O, no
//! clock, no randomness and no async here: `now`, ids and limits are arguments. Live execution, replay,
//! reset and replication share the one applier in [`apply`], so they cannot diverge.
//!
//! Laws, each a property test: replay equals live; the same input gives the same bytes; derived tasks are
//! among the rebuilt ones; event ids are gapless and versions never fall.

pub mod context;
pub mod cron;
pub mod mutable_state;
pub mod record;
pub mod request;
pub mod retry;
pub mod task;
pub mod transition;
pub mod version;

mod apply;
mod command;
mod component;
mod decision;
mod describe;
mod event;
mod invariants;
mod limits;
mod pending_tasks;
mod replica;
mod reset;
mod sync;

pub use context::{DecisionContext, IdSeed, Limits};
pub use limits::{RESETTER, SERVER};
pub use mutable_state::MutableState;
pub use record::{ItemRow, RecordError};
pub use request::{Request, Reset, Start};
pub use sync::NonHistoryState;
pub use task::{Task, TaskKind};
pub use transition::{
    Applied, Corrupt, Delta, Durability, EventBatch, ItemKey, NewRun, Refusal, Reply, Transition,
};
pub use version::{BranchToken, VersionHistories, VersionHistory, VersionItem};
