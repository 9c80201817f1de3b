//! The history service: requests and queue tasks about workflow runs, over the shard kernel.
//!
//! A request looks up its shard, lets the pure core decide under the run's lock, and answers from memory
//! once the commit has happened. Queue executors carry out what commits owe: tasks to matching, children,
//! signals and cancels between runs, timers, ends. No workflow rule is here, and nothing is known of other
//! clusters: replication is another driver over the same kernel.

mod api;
mod change;
mod engine;
mod error;
mod events;
mod metrics;
mod poll;
mod query_registry;
mod queue;
mod service;
mod settings;
mod token;

pub use engine::HistoryDeps;
pub use queue::{ExecutorDeps, executors};
pub use service::HistoryService;
pub use settings::SETTINGS;
