//! Errors by what a caller does next.

use proto_ids::{RunKey, ShardId};

/// Why a read or a plain write did not work.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached or is overloaded: nothing was done, try again.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// A compare-and-set lost, or the row exists already: read again and decide anew.
    #[error("the stored value changed meanwhile: {0}")]
    Conflict(String),
    /// A row that has to be there is not.
    #[error("not found: {0}")]
    NotFound(String),
    /// The caller's fence is old: it lost ownership.
    #[error("fenced out: {0}")]
    Fenced(String),
    /// The connection broke during COMMIT: the write may have happened.
    #[error("the outcome of the write is unknown: {0}")]
    Unknown(String),
    /// The request cannot be done (bad query, value too large): do not repeat.
    #[error("refused: {0}")]
    Invalid(String),
    /// Stored data is corrupt (bad encoding, missing node).
    #[error("corrupt data: {0}")]
    Corrupt(String),
}

/// How a batch ended when it did not commit.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Another owner has acquired these shards. Nothing of the batch was written: drop the shards, submit the rest.
    #[error("fenced out of shards {0:?}")]
    Fenced(Vec<ShardId>),
    /// These updates' guards failed (version, current run, or a run that exists). Nothing was written: answer
    /// them, submit the rest.
    #[error("guards failed for {0:?}")]
    Conflict(Vec<RunKey>),
    /// Nothing was written; the store is in trouble. Submit again after a pause.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// Nothing was written; the store has no room and will have none before an operator makes some. Answer the
    /// waiting ones with the reason.
    #[error("the store has no room: {0}")]
    Full(String),
    /// The batch may or may not be written. Take the ranges again, then ask
    /// [`crate::execution::ExecutionStore::commit_happened`].
    #[error("the outcome of the commit is unknown: {0}")]
    Unknown(String),
    /// The database refuses the batch for its content: nothing was written. Halve it to find the culprit.
    #[error("the store refused the batch: {0}")]
    Refused(String),
}
