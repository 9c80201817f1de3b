//! Conflict resolution between branches of history, as pure rules.
//!
//! A run's history is a tree once two clusters have written to it. Each branch is a list of items (last
//! event id, version); a version belongs to exactly one cluster, so two branches that share a version share
//! the events of it up to the shorter one. From that alone follow: where two branches part ([`branch`]),
//! what a batch of events means for a run and which branch is current then ([`batch_decision`]), which of several
//! runs of one workflow id is current ([`runs`]), what of an activity in flight is taken over ([`activity`]),
//! and what of a losing branch is delivered again ([`reapply`]).
//!
//! Law, a property test: any arrival order of the same branches ends with equal version histories and the
//! same current branch. No I/O, no clock, no randomness; nothing here knows where events came from.

pub mod activity;
pub mod batch_decision;
pub mod branch;
pub mod reapply;
pub mod runs;

pub use activity::Admission;
pub use batch_decision::{
    Absent, BatchDecision, BranchRole, Incoming, Missing, Plan, Refused, Target,
};
pub use branch::Broken;
pub use reapply::{Reappliable, Source};
pub use runs::{Arbitration, RunFacts, Suppress};
