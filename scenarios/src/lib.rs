//! Disaster-recovery drills: a file says which clusters to run, what load to put on them and what goes
//! wrong; the runner does it with real processes of this same binary, records every acknowledged call,
//! and judges the outcome by both clusters' histories.
//!
//! Nothing here knows the server's insides. Drills act through the public API, the operator's commands
//! and process control; judges in [`check`] read recorded calls and histories and share no code with
//! what they judge.

pub mod check;
mod command;
pub mod definition;
mod fault;
pub mod oracle;
mod reading;
pub mod report;
mod runner;
mod timeline;
mod workload;
mod world;

pub use command::{DrillArgs, run};
