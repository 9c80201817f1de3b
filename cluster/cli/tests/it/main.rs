//! The commands against a server whose answers the test chooses.

mod moves;
mod server;
