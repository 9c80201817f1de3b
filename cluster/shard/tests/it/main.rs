//! The kernel over the memory store, with faults injected between them.

mod commits;
mod dlq;
mod faults;
mod ownership;
mod queues;
mod recovery;
mod regeneration;
mod timers;
mod world;
