//! The real binary as real processes, driven over the public API: what an operator does to it, and what
//! a machine does to it. Nothing here reaches inside; what was acknowledged is what counts.

mod backup;
mod bind;
mod check;
mod crash;
mod ledger;
mod postgres;
mod process;
mod processes;
mod readiness;
mod restored;
mod roles;
mod samples;
mod up;
mod usage;
