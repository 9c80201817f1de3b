//! Calls of workers and matching about workflow tasks.

mod completed;
mod failed;
mod started;
mod sticky;

pub use completed::completed;
pub use failed::failed;
pub use started::started;
pub use sticky::reset_sticky;
