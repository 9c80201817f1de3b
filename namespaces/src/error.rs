//! Why a change to a namespace or to the cluster directory was not made. A variant is what the caller
//! tells its client; texts are part of the public behaviour.

use schema_store::StoreError;

/// A change that was not made.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The request cannot be right.
    #[error("{0}")]
    Invalid(String),
    /// No namespace with this name or id.
    #[error("Namespace {0} is not found.")]
    NamespaceNotFound(String),
    /// The name or id is taken.
    #[error("Namespace already exists.")]
    NamespaceExists,
    /// No such cluster.
    #[error("cluster metadata not found for {0}")]
    ClusterNotFound(String),
    /// Right in itself, but not in the present state.
    #[error("{0}")]
    Precondition(String),
    /// Another cluster's namespace has this name with another id, or this id with another name.
    #[error("namespace {name} with id {id} collides with one that exists here")]
    Collision {
        /// The name in the message.
        name: String,
        /// The id in the message.
        id: String,
    },
    /// The cluster that tells of the namespace has no copy of it, as far as is known here; perhaps that is told by
    /// another one a little later.
    #[error("cluster {cluster} tells of namespace {namespace}, which does not live there")]
    NotShared {
        /// The namespace's name.
        namespace: String,
        /// The cluster that told.
        cluster: String,
    },
    /// Others changed namespaces all the time while this was tried; try again.
    #[error("namespaces are being changed by others, try again")]
    Contended,
    /// The store did not do it.
    #[error("write the change")]
    Store(#[from] StoreError),
}

impl Refusal {
    /// A refusal of a request that cannot be right.
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::Invalid(text.into())
    }
}
