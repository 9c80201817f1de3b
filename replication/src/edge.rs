//! Services of a frontend for replication beside the shard-bound calls: the dead letters, and the extension
//! service that Temporal's own protocol has no words for.

mod extension;
mod letters;
mod task_letters;

pub use extension::{Extension, ExtensionDeps};
pub use letters::{LetterBox, LetterBoxDeps};
