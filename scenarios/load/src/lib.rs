//! Load over the public API: a raw gRPC client and a worker without an SDK. The benchmark
//! ([`bench`]) and the disaster-recovery drills share it, so that both drive any
//! Temporal-compatible frontend and know nothing about the server behind it.
//!
//! [`connect`] opens connections, [`script`] says what a workflow of ours does, [`worker`] polls and
//! answers, [`client`] starts workflows and waits for their results, [`measure`] keeps histograms.

pub mod bench;
pub mod client;
pub mod connect;
pub mod measure;
pub mod script;
pub mod worker;
