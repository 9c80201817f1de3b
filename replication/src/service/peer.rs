//! The peer of a stream. A cluster is identified by its number, and its store by the cluster id
//! (UUID) that it was given when it was created: what was acknowledged for another store does not count. A
//! client of this kind tells the id with the stream. One of Temporal Server does not; it is asked to describe
//! itself.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use proto_ids::ClusterName;
use proto_messages::temporal::server::api::adminservice::v1::DescribeClusterRequest;
use tokio::time::Instant;
use tonic::{Status, metadata::MetadataMap};

use super::ReplicationHost;
use crate::{
    remotes::{self, CLIENT_STORE},
    route::{self, StreamKey},
    sender::Peer,
};

/// How long an id counts that a cluster was asked for. All its streams come at the same time.
const ASKED_FOR: Duration = Duration::from_secs(10);

/// The longest id; a UUID has 36 characters.
const ID_LENGTH_MAX: usize = 64;

/// The stores at the other ends, as far as they were learned.
#[derive(Default)]
pub(super) struct Stores {
    known: Mutex<HashMap<ClusterName, String>>,
    /// Held while one asks; the others of the same cluster wait for its answer.
    asked: tokio::sync::Mutex<HashMap<ClusterName, (Instant, String)>>,
}

impl ReplicationHost {
    /// Checks both ends of a stream, and learns whose they are.
    pub(super) async fn peer(
        &self,
        key: &StreamKey,
        headers: &MetadataMap,
    ) -> Result<Peer, Status> {
        let own = self.deps.clusters.current();
        if i64::from(key.server.cluster) != own.initial_failover_version {
            return Err(Status::invalid_argument(format!(
                "this is cluster {}, not {}",
                own.initial_failover_version, key.server.cluster
            )));
        }
        let client = self.deps.clusters.by_id(i64::from(key.client.cluster));
        let Some(client) = client.filter(|c| c.name != own.name) else {
            return Err(Status::invalid_argument(format!(
                "cluster {} is not known here",
                key.client.cluster
            )));
        };
        if !remotes::may_replicate(&client, &self.deps.settings) {
            return Err(Status::failed_precondition(format!(
                "replication with cluster {} is disabled here",
                client.name
            )));
        }
        let (ours, theirs) = (own.shard_count, client.shard_count);
        if !route::is_joined(key.client.shard, theirs, key.server.shard, ours) {
            return Err(Status::invalid_argument(format!(
                "shard {} of {theirs} is not joined with shard {} of {ours}",
                key.client.shard, key.server.shard
            )));
        }
        let told = headers.get(CLIENT_STORE).and_then(|id| id.to_str().ok());
        let incarnation = match told.filter(|id| !id.is_empty()) {
            Some(id) if id.len() > ID_LENGTH_MAX => {
                return Err(Status::invalid_argument(format!(
                    "the header {CLIENT_STORE} has {} characters; {ID_LENGTH_MAX} are allowed",
                    id.len()
                )));
            }
            Some(id) => id.to_owned(),
            None => self.ask(&client.name).await,
        };
        self.note(&client.name, &incarnation, &client.cluster_id);
        Ok(Peer {
            name: client.name.clone(),
            incarnation,
            shard_count: theirs,
        })
    }

    /// The cluster id that a cluster describes itself with; empty when it does not answer, which says nothing.
    async fn ask(&self, cluster: &ClusterName) -> String {
        let mut asked = self.stores.asked.lock().await;
        if let Some((at, id)) = asked.get(cluster)
            && at.elapsed() < ASKED_FOR
        {
            return id.clone();
        }
        let answer = match self.deps.remotes.admin(cluster) {
            Ok(mut admin) => {
                let wanted = remotes::request(DescribeClusterRequest::default());
                admin.describe_cluster(wanted).await
            }
            Err(status) => Err(status),
        };
        let id = match answer {
            Ok(said) => said.into_inner().cluster_id,
            Err(status) => {
                tracing::info!(remote_cluster = %cluster, %status,
                    "the id of the cluster's store could not be learned; it is taken for the one of before");
                String::new()
            }
        };
        asked.insert(cluster.clone(), (Instant::now(), id.clone()));
        id
    }

    /// Says once when the store is another one than before.
    fn note(&self, cluster: &ClusterName, incarnation: &str, listed: &str) {
        if incarnation.is_empty() {
            return;
        }
        let mut known = self.stores.known.lock();
        let before = known.insert(cluster.clone(), incarnation.to_owned());
        let before = before.unwrap_or_else(|| listed.to_owned());
        if !before.is_empty() && before != incarnation {
            tracing::warn!(
                remote_cluster = %cluster,
                cluster_id = incarnation,
                before,
                "the cluster has a new store: what it had acknowledged does not count, and it needs a resync"
            );
        }
    }
}
