//! Tests of the core through its public interface.

mod fixtures;
mod laws;
mod script;
mod sequences;
