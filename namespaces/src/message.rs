//! The message that tells other clusters about a namespace, and the durable queue they pull it from.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use proto_ids::{ClusterName, Timestamp};
use proto_messages::{
    Wire,
    temporal::{
        api::{
            enums::v1::ReplicationState,
            replication::v1::{
                ClusterReplicationConfig, FailoverStatus, NamespaceReplicationConfig,
            },
        },
        server::api::{
            enums::v1::{NamespaceOperation, ReplicationTaskType},
            replication::v1::{
                NamespaceTaskAttributes, ReplicationMessages, ReplicationTask,
                replication_task::Attributes,
            },
        },
    },
    time,
};
use schema_store::{StoreError, namespace::QueueMessage, queue::QueueStore};

use crate::{clusters::Clusters, namespace::Namespace};

/// The durable queue's name.
pub const QUEUE: &str = "namespace-replication";

/// Messages of one answer.
const BATCH: usize = 100;

/// On the wire: no position told.
const UNKNOWN: i64 = -1;

/// A message could not be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// The store did not answer.
    #[error("read the namespace replication queue")]
    Store(#[from] StoreError),
    /// A stored message cannot be read.
    #[error("read message {id} of the namespace replication queue")]
    Corrupt {
        /// Its position.
        id: i64,
        /// Why.
        source: prost::DecodeError,
    },
}

/// The queue that other clusters pull.
#[derive(Clone)]
pub struct Outbox {
    store: Arc<dyn QueueStore>,
    clusters: Clusters,
    /// What was noted last through this handle: consumers repeat themselves while nothing happens, and a
    /// repetition must not cost a write.
    noted: Arc<Mutex<HashMap<ClusterName, i64>>>,
}

/// The namespace as other clusters are told about it. Handover stays a matter of this cluster.
pub(crate) fn attributes(
    namespace: &Namespace,
    operation: NamespaceOperation,
) -> NamespaceTaskAttributes {
    NamespaceTaskAttributes {
        namespace_operation: operation as i32,
        id: namespace.id.to_string(),
        info: Some(namespace.info()),
        config: Some(namespace.config()),
        replication_config: Some(NamespaceReplicationConfig {
            active_cluster_name: namespace.active_cluster.to_string(),
            clusters: cluster_configs(namespace),
            state: match namespace.handover {
                true => ReplicationState::Unspecified as i32,
                false => ReplicationState::Normal as i32,
            },
        }),
        config_version: namespace.config_version,
        failover_version: namespace.failover_version.get(),
        failover_history: namespace.failover_statuses(),
    }
}

pub(crate) fn encode(
    namespace: &Namespace,
    operation: NamespaceOperation,
    now: Timestamp,
) -> QueueMessage {
    let task = ReplicationTask {
        task_type: ReplicationTaskType::NamespaceTask as i32,
        attributes: Some(Attributes::NamespaceTaskAttributes(attributes(
            namespace, operation,
        ))),
        visibility_time: Some(time::to_proto(now)),
        ..Default::default()
    };
    QueueMessage {
        queue: QUEUE.to_owned(),
        data: task.to_wire(),
    }
}

fn cluster_configs(namespace: &Namespace) -> Vec<ClusterReplicationConfig> {
    let names = namespace.clusters.iter();
    names
        .map(|c| ClusterReplicationConfig {
            cluster_name: c.to_string(),
            ..Default::default()
        })
        .collect()
}

impl Namespace {
    /// Where it lives, as the public API tells it.
    pub fn replication_config(&self) -> NamespaceReplicationConfig {
        let state = match (self.is_global, self.handover) {
            (_, true) => ReplicationState::Handover,
            (true, false) => ReplicationState::Normal,
            (false, false) => ReplicationState::Unspecified,
        };
        NamespaceReplicationConfig {
            active_cluster_name: self.active_cluster.to_string(),
            clusters: cluster_configs(self),
            state: state as i32,
        }
    }

    /// Its last failovers, as the public API tells them.
    pub fn failover_statuses(&self) -> Vec<FailoverStatus> {
        let history = self.failover_history.iter();
        history
            .map(|(at, version)| FailoverStatus {
                failover_time: Some(time::to_proto(*at)),
                failover_version: version.get(),
            })
            .collect()
    }
}

impl Outbox {
    /// The queue over the store.
    pub fn new(store: Arc<dyn QueueStore>, clusters: Clusters) -> Self {
        Self {
            store,
            clusters,
            noted: Arc::default(),
        }
    }

    /// Messages after what `consumer` has retrieved (-1: after what it has acknowledged). What it has
    /// processed (-1: no news) is noted, and what all connected clusters have processed is deleted.
    pub async fn pull(
        &self,
        consumer: &ClusterName,
        last_retrieved: i64,
        last_processed: i64,
    ) -> Result<ReplicationMessages, MessageError> {
        if last_processed != UNKNOWN && !consumer.is_empty() {
            self.note(consumer, last_processed).await?;
        }
        let mut last = match last_retrieved {
            UNKNOWN => self
                .store
                .queue_ack_get(QUEUE, consumer.as_str())
                .await?
                .unwrap_or(UNKNOWN),
            told => told,
        };
        let messages = self.store.queue_read(QUEUE, last, BATCH).await?;
        let has_more = messages.len() == BATCH;
        let mut tasks = Vec::with_capacity(messages.len());
        for message in messages {
            let mut task = ReplicationTask::from_wire(message.data).map_err(|source| {
                MessageError::Corrupt {
                    id: message.id,
                    source,
                }
            })?;
            task.source_task_id = message.id;
            last = message.id;
            tasks.push(task);
        }
        Ok(ReplicationMessages {
            replication_tasks: tasks,
            last_retrieved_message_id: last,
            has_more,
            ..Default::default()
        })
    }

    async fn note(&self, consumer: &ClusterName, processed: i64) -> Result<(), MessageError> {
        if self.noted.lock().get(consumer) == Some(&processed) {
            return Ok(());
        }
        self.store
            .queue_ack_set(QUEUE, consumer.as_str(), processed)
            .await?;
        self.trim(processed).await?;
        self.noted.lock().insert(consumer.clone(), processed);
        Ok(())
    }

    /// Deletes what every connected cluster has processed; `at_most` is what one of them just has.
    async fn trim(&self, at_most: i64) -> Result<(), MessageError> {
        let mut least = at_most;
        for remote in self.clusters.remotes() {
            let acked = self
                .store
                .queue_ack_get(QUEUE, remote.name.as_str())
                .await?;
            least = least.min(acked.unwrap_or(0));
        }
        if least > 0 {
            self.store.queue_delete(QUEUE, 0, least).await?;
        }
        Ok(())
    }
}
