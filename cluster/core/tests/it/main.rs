//! Tests of the core through its public interface.

mod fixtures;
mod laws;
mod limits;
mod others;
mod refused;
mod script;
mod sequences;
mod standby;
