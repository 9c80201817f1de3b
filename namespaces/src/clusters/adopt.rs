//! Giving a database to the cluster that the configuration names, after it was started under a wrong name.
//! Each step can be repeated after a crash in the midst of it.

use std::sync::Arc;

use proto_ids::ClusterName;
use schema_store::{
    Store, StoreError,
    namespace::{NamespaceRecord, NamespaceStore},
};

use super::{Directory, SharedKey, read, record};
use crate::{
    clusters::ClusterInfo,
    error::Refusal,
    namespace::Namespace,
    rules::{self, OwnCluster},
};

/// Namespaces of a page.
const PAGE: usize = 100;

/// Makes the database the cluster's own. Returns what was done, a line each; nothing when it was already. No
/// process may use the database meanwhile.
pub async fn adopt(own: &OwnCluster, store: &Store) -> Result<Vec<String>, Refusal> {
    let directory = read(own.name.clone(), store.cluster.as_ref()).await?;
    let wrong = wrong_names(own, &directory);
    if wrong.is_empty() {
        return Ok(Vec::new());
    }
    let stored = directory.topology.clusters.get(&own.name);
    let renamed = directory.topology.clusters.get(&wrong[0]);
    let Some(before) = stored.or(renamed) else {
        return Ok(Vec::new());
    };
    let moved = namespaces_of(store.namespace.as_ref(), &wrong).await?;
    if let Some(shared) = moved.iter().find(|n| n.is_replicated()) {
        return Err(Refusal::Precondition(format!(
            "namespace {} is shared between {}: other clusters know this one as {}, so that it cannot get another name",
            shared.name,
            shared
                .clusters
                .iter()
                .map(ClusterName::as_str)
                .collect::<Vec<_>>()
                .join(", "),
            wrong[0]
        )));
    }
    let mut done = Vec::new();
    let info = ClusterInfo {
        name: own.name.clone(),
        row_version: stored.map_or(0, |s| s.row_version),
        ..(**before).clone()
    };
    let secret = directory
        .secret_of(&own.name)
        .or(directory.secret_of(&wrong[0]));
    let secret = secret.cloned().unwrap_or_else(SharedKey::fresh);
    let mut wanted = directory.topology.clone();
    wanted.clusters.retain(|name, _| !wrong.contains(name));
    wanted
        .clusters
        .insert(own.name.clone(), Arc::new(info.clone()));
    rules::check_directory(&wanted)?;
    store
        .cluster
        .cluster_put(record::encode(&info, secret))
        .await?;
    for namespace in moved {
        let name = namespace.name.clone();
        rename(store.namespace.as_ref(), namespace, &wrong, &own.name).await?;
        done.push(format!("namespace {name} lives in {}", own.name));
    }
    for name in &wrong {
        store.cluster.cluster_delete(name).await?;
        done.push(format!("cluster {name} is forgotten"));
    }
    done.push(format!("the database belongs to cluster {}", own.name));
    Ok(done)
}

/// Clusters that stand where this one should: the one that started here, and the one that has its number.
fn wrong_names(own: &OwnCluster, directory: &Directory) -> Vec<ClusterName> {
    let topology = &directory.topology;
    let owners = directory.owner_names();
    let number = match topology.clusters.get(&own.name) {
        Some(stored) => stored.initial_failover_version,
        None => own.initial_failover_version,
    };
    let others = topology.clusters.values().filter(|c| c.name != own.name);
    let is_wrong = |c: &ClusterInfo| {
        owners.contains(&&c.name)
            || c.initial_failover_version == number
            || topology.clusters.len() == 1
    };
    others
        .filter(|c| is_wrong(c))
        .map(|c| c.name.clone())
        .collect()
}

async fn namespaces_of(
    store: &dyn NamespaceStore,
    clusters: &[ClusterName],
) -> Result<Vec<Namespace>, Refusal> {
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = store.namespace_list(after.take(), PAGE).await?;
        let is_last = page.len() < PAGE;
        for record in page {
            let namespace = decode(&record)?;
            after = Some(namespace.name.clone());
            let lives = clusters
                .iter()
                .any(|c| namespace.lives_in(c) || namespace.active_cluster == *c);
            if lives {
                found.push(namespace);
            }
        }
        if is_last {
            return Ok(found);
        }
    }
}

async fn rename(
    store: &dyn NamespaceStore,
    mut namespace: Namespace,
    from: &[ClusterName],
    to: &ClusterName,
) -> Result<(), Refusal> {
    if from.contains(&namespace.active_cluster) {
        namespace.active_cluster = to.clone();
    }
    for cluster in &mut namespace.clusters {
        if from.contains(cluster) {
            *cluster = to.clone();
        }
    }
    let version = store.namespace_version().await?;
    namespace.notification_version = version;
    store
        .namespace_update(namespace.to_record(), version, None)
        .await?;
    Ok(())
}

pub(super) fn decode(record: &NamespaceRecord) -> Result<Namespace, Refusal> {
    Namespace::from_record(record).map_err(|e| StoreError::Corrupt(e.to_string()).into())
}
