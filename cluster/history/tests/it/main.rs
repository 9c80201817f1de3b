//! The history service with the real kernel, the real matching and a scripted worker.

mod activities;
mod answers;
mod children;
mod crowd;
mod failover;
mod history;
mod lifecycle;
mod queries;
mod resets;
mod world;
