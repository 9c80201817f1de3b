//! The crate against itself: real listeners and real channels on port 0.

mod limits;
mod routing;
mod serving;
