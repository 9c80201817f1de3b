//! The matching service: brings tasks and polls together.
//!
//! A waiting poller gets a task without a database write. A task without a waiting poller goes to a durable
//! backlog in a shared, batched transaction. Whether a task still means anything is asked of history when a
//! poller has it in hand; delivery is at least once. Sticky queues have no durable part.
//!
//! [`matcher`] is pure; `queue` holds one queue's state under one lock and never waits inside it.

mod backlog;
mod engine;
pub mod matcher;
mod metrics;
mod queue;
mod service;
mod task;

pub use service::{MatchingDeps, MatchingService};
