//! The project's rules about itself, as checks that `cargo test` runs and `cargo xtask` prints.

pub mod layers;
pub mod tidy;

use std::path::PathBuf;

/// The workspace's root folder.
pub fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(PathBuf::from).unwrap_or(here)
}
