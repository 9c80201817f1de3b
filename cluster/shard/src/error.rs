//! Errors of the kernel, by what the caller does next.

use cluster_core::Refusal;
use proto_ids::{ClusterName, NamespaceId, NamespaceName, ShardId};
use schema_store::StoreError;

/// Why a shard did not do what was asked. Unless a variant says otherwise nothing happened, and nothing
/// was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShardError {
    /// The ring gives the shard to another member: ask that one.
    #[error("shard {shard} belongs to {owner:?}")]
    NotOwner {
        /// The shard.
        shard: ShardId,
        /// The member it belongs to, as far as is known: the id of the member.
        owner: Option<String>,
    },
    /// Ownership went away while the request was under way: ask again, perhaps elsewhere.
    #[error("shard {0} was lost to another owner")]
    Lost(ShardId),
    /// The store or the process cannot do it now: ask again after a pause.
    #[error("the shard is unavailable: {0}")]
    Unavailable(String),
    /// The write did not become durable and all state that built on it was dropped: ask again.
    #[error("the write was dropped: {0}")]
    Dropped(String),
    /// The store refuses the write for its content: do not repeat.
    #[error("the store refused the write: {0}")]
    Rejected(String),
    /// Stored data cannot be read: do not repeat, an operator has to look.
    #[error("stored state cannot be read: {0}")]
    Corrupt(String),
}

/// How a transaction ended without an effect.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TxnError<E> {
    /// The caller's own decision.
    #[error("the transaction decided against it")]
    Decided(E),
    /// The namespace is active in another cluster: redirect.
    #[error("namespace {namespace} is active in {active}, not in {current}")]
    NotActive {
        /// The namespace.
        namespace: NamespaceName,
        /// This cluster.
        current: ClusterName,
        /// Where it is active.
        active: ClusterName,
    },
    /// Writes of the namespace are held back for a planned failover: wait.
    #[error("namespace {0} is in handover")]
    Handover(NamespaceName),
    /// The namespace does not exist.
    #[error("namespace {0} is not known")]
    NamespaceNotFound(NamespaceId),
    /// Too much is waiting to be written: RESOURCE_EXHAUSTED.
    #[error("too many writes are waiting: {0}")]
    Busy(String),
    /// The shard.
    #[error(transparent)]
    Shard(#[from] ShardError),
}

/// How an update of one run ended without an effect.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum UpdateError {
    /// The rules refused it.
    #[error("refused: {0:?}")]
    Refused(Refusal),
    /// There is no such run.
    #[error("the run does not exist")]
    NotFound,
    /// The namespace is active in another cluster: redirect.
    #[error("namespace {namespace} is active in {active}, not in {current}")]
    NotActive {
        /// The namespace.
        namespace: NamespaceName,
        /// This cluster.
        current: ClusterName,
        /// Where it is active.
        active: ClusterName,
    },
    /// Writes of the namespace are held back for a planned failover: wait.
    #[error("namespace {0} is in handover")]
    Handover(NamespaceName),
    /// The namespace does not exist.
    #[error("namespace {0} is not known")]
    NamespaceNotFound(NamespaceId),
    /// Too much is waiting to be written: RESOURCE_EXHAUSTED.
    #[error("too many writes are waiting: {0}")]
    Busy(String),
    /// The shard.
    #[error(transparent)]
    Shard(#[from] ShardError),
}

/// Why a run could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// There is no such run.
    #[error("the run does not exist")]
    NotFound,
    /// The shard.
    #[error(transparent)]
    Shard(#[from] ShardError),
}

/// The ways in which an update can end besides a result.
#[derive(Clone, Debug)]
pub(crate) enum Ended {
    /// The rules refused.
    Refused(Refusal),
    /// There is no such run.
    NotFound,
}

impl From<StoreError> for ShardError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Corrupt(text) | StoreError::NotFound(text) => Self::Corrupt(text),
            StoreError::Invalid(text) => Self::Rejected(text),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

impl<E> TxnError<E> {
    /// The same error around another decision.
    pub fn map<F>(self, f: impl FnOnce(E) -> F) -> TxnError<F> {
        match self {
            Self::Decided(e) => TxnError::Decided(f(e)),
            Self::NotActive {
                namespace,
                current,
                active,
            } => TxnError::NotActive {
                namespace,
                current,
                active,
            },
            Self::Handover(namespace) => TxnError::Handover(namespace),
            Self::NamespaceNotFound(id) => TxnError::NamespaceNotFound(id),
            Self::Busy(text) => TxnError::Busy(text),
            Self::Shard(error) => TxnError::Shard(error),
        }
    }
}

impl From<TxnError<Ended>> for UpdateError {
    fn from(error: TxnError<Ended>) -> Self {
        match error {
            TxnError::Decided(Ended::Refused(refusal)) => Self::Refused(refusal),
            TxnError::Decided(Ended::NotFound) => Self::NotFound,
            TxnError::NotActive {
                namespace,
                current,
                active,
            } => Self::NotActive {
                namespace,
                current,
                active,
            },
            TxnError::Handover(namespace) => Self::Handover(namespace),
            TxnError::NamespaceNotFound(id) => Self::NamespaceNotFound(id),
            TxnError::Busy(text) => Self::Busy(text),
            TxnError::Shard(error) => Self::Shard(error),
        }
    }
}
