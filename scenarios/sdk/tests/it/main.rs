//! The official Rust SDK, unmodified, against the real binary: what its users do first has to work with
//! nothing but an address changed. One server serves all tests; each has its own task queue and worker.

mod drills;
mod harness;
mod messages;
mod steps;
mod structure;
mod workflows;
