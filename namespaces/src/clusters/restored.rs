//! What follows from a database that is a copy and was put back. It has forgotten what the cluster wrote after the copy,
//! and other clusters have not: written on, one version of a namespace would get two histories. So the store gets an
//! id of its own, by which the others know that it does not have what they sent to the one before, and namespaces that
//! live in other clusters, too, are held: nothing of them is written here until a failover has raised their version.
//!
//! The cluster's row is written last, so whoever dies in the midst of it begins again. No other process may use the
//! database meanwhile.

use proto_ids::{NamespaceName, Timestamp};
use schema_store::{Store, namespace::NamespaceStore};

use super::{adopt::decode, read, record};
use crate::{error::Refusal, namespace::Namespace, rules::OwnCluster};

/// Namespaces of a page.
const PAGE: usize = 100;

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// The id the store has from now on; empty where no cluster has started on it.
    pub cluster_id: String,
    /// The namespaces that are held.
    pub held: Vec<NamespaceName>,
}

/// Draws the conclusions, if the store says that it is a copy.
pub async fn settle_if_copy(own: &OwnCluster, store: &Store) -> Result<Option<Restored>, Refusal> {
    if !store.cluster.cluster_restored().await? {
        return Ok(None);
    }
    settle(own, store).await.map(Some)
}

/// Draws the conclusions, as an operator asks who knows that the database was put back.
pub async fn settle(own: &OwnCluster, store: &Store) -> Result<Restored, Refusal> {
    let mut restored = Restored::default();
    let mut after = None;
    loop {
        let page = store.namespace.namespace_list(after.take(), PAGE).await?;
        let is_last = page.len() < PAGE;
        for stored in &page {
            let namespace = decode(stored)?;
            after = Some(namespace.name.clone());
            let is_shared = namespace.is_replicated() && !namespace.is_deleted();
            if is_shared && namespace.is_active_in(&own.name) {
                restored.held.push(namespace.name.clone());
                hold(store.namespace.as_ref(), namespace).await?;
            }
        }
        if is_last {
            break;
        }
    }
    let directory = read(own.name.clone(), store.cluster.as_ref()).await?;
    if let Some(known) = directory.topology.clusters.get(&own.name) {
        let mut info = (**known).clone();
        info.cluster_id = uuid::Uuid::new_v4().to_string();
        restored.cluster_id.clone_from(&info.cluster_id);
        let secret = directory.secret_of(&own.name).cloned().unwrap_or_default();
        let row = record::encode(&info, secret);
        store.cluster.cluster_put(row).await?;
    }
    store.cluster.cluster_restored_settle().await?;
    Ok(restored)
}

async fn hold(store: &dyn NamespaceStore, mut namespace: Namespace) -> Result<(), Refusal> {
    if namespace.is_held_since_restore() {
        return Ok(());
    }
    namespace.handover = true;
    namespace.handover_until = Timestamp::MAX;
    let version = store.namespace_version().await?;
    namespace.notification_version = version;
    // Told to nobody: it is this cluster that has lost something.
    store
        .namespace_update(namespace.to_record(), version, None)
        .await?;
    Ok(())
}
