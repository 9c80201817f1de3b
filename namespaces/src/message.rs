//! The message about a namespace to other clusters, and the durable queue they pull it from.

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

use crate::{
    clusters::{ClusterInfo, Clusters},
    namespace::Namespace,
    registry::Registry,
};

/// The durable queue's name.
pub const QUEUE: &str = "namespace-replication";

/// Messages of one answer.
const BATCH: usize = 100;

/// On the wire: no position.
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
    /// The acknowledgement of the consumer is impossible.
    #[error("{0}")]
    Refused(String),
}

/// The queue that other clusters pull.
#[derive(Clone)]
pub struct Outbox {
    store: Arc<dyn QueueStore>,
    clusters: Clusters,
    registry: Registry,
    state: Arc<Mutex<State>>,
}

/// The state of this handle.
#[derive(Default)]
struct State {
    /// The acknowledgement that was stored last: consumers repeat themselves while nothing happens, and a
    /// repetition must not cost a write.
    noted: HashMap<ClusterName, (String, i64)>,
    /// The highest id that the queue is known to have given.
    end: i64,
}

/// The namespace as it is sent to other clusters. Handover stays a matter of this cluster.
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
    /// Its clusters, in the form of the public API.
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

    /// Its last failovers, in the form of the public API.
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
    /// The queue over the store. A consumer without a past gets `registry`'s namespaces as they are.
    pub fn new(store: Arc<dyn QueueStore>, clusters: Clusters, registry: Registry) -> Self {
        Self {
            store,
            clusters,
            registry,
            state: Arc::default(),
        }
    }

    /// Messages after what `consumer` has retrieved (-1: after what it has acknowledged). What it has
    /// processed (-1: no news) is noted, and what all clusters with a copy have processed is deleted. What a
    /// consumer acknowledged belongs to its store, of which it told the cluster id (none: the directory's); one
    /// with a new store is told of its namespaces once more.
    pub async fn pull(
        &self,
        consumer: &ClusterName,
        store_id: Option<&str>,
        last_retrieved: i64,
        last_processed: i64,
    ) -> Result<ReplicationMessages, MessageError> {
        let known = self.clusters.get(consumer);
        let known =
            known.filter(|c| c.connection_enabled && c.name != self.clusters.current_name());
        let known = known.ok_or_else(|| {
            MessageError::Refused(format!(
                "cluster {consumer} is not known or not enabled here"
            ))
        })?;
        let told = store_id.filter(|id| !id.is_empty());
        let store_id = told.unwrap_or(&known.cluster_id).to_owned();
        self.check(consumer, last_retrieved).await?;
        self.check(consumer, last_processed).await?;
        if last_processed != UNKNOWN {
            self.note(&known, &store_id, last_processed).await?;
        }
        let acked = match last_retrieved {
            UNKNOWN => self.acked(&known, &store_id).await?,
            told => Some(told),
        };
        let mut last = acked.unwrap_or(UNKNOWN);
        let messages = self.store.queue_read(QUEUE, last, BATCH).await?;
        let has_more = messages.len() == BATCH;
        let mut tasks = match (acked, messages.first()) {
            // Nothing went yet, so the messages tell all.
            (None, Some(first)) if first.id <= 1 => Vec::new(),
            (None, _) => self.all_of(consumer).await?,
            (Some(_), _) => Vec::with_capacity(messages.len()),
        };
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
        let mut state = self.state.lock();
        state.end = state.end.max(last);
        drop(state);
        Ok(ReplicationMessages {
            replication_tasks: tasks,
            last_retrieved_message_id: last,
            has_more,
            ..Default::default()
        })
    }

    /// The namespaces a consumer has a copy of, as if each had changed just now.
    async fn all_of(&self, consumer: &ClusterName) -> Result<Vec<ReplicationTask>, MessageError> {
        self.registry.catch_up().await?;
        let all = self.registry.all().into_iter();
        let shared = all.filter(|n| n.is_replicated() && !n.is_deleted() && n.lives_in(consumer));
        // A namespace that is missing is created by an update, too.
        let tasks = shared.map(|n| ReplicationTask {
            task_type: ReplicationTaskType::NamespaceTask as i32,
            attributes: Some(Attributes::NamespaceTaskAttributes(attributes(
                &n,
                NamespaceOperation::Update,
            ))),
            ..Default::default()
        });
        Ok(tasks.collect())
    }

    /// Checks that an acknowledged position lies within what the queue has given.
    async fn check(&self, consumer: &ClusterName, told: i64) -> Result<(), MessageError> {
        if (UNKNOWN..=self.state.lock().end).contains(&told) {
            return Ok(());
        }
        let end = self.store.queue_last_id(QUEUE).await?;
        self.state.lock().end = end;
        if (UNKNOWN..=end).contains(&told) {
            return Ok(());
        }
        tracing::warn!(remote_cluster = %consumer, told, end,
            "a position in the namespace replication queue is refused");
        Err(MessageError::Refused(format!(
            "cluster {consumer} tells position {told}, and the namespace replication queue ends at {end}"
        )))
    }

    async fn note(
        &self,
        consumer: &ClusterInfo,
        store_id: &str,
        processed: i64,
    ) -> Result<(), MessageError> {
        let noted = (store_id.to_owned(), processed);
        if self.state.lock().noted.get(&consumer.name) == Some(&noted) {
            return Ok(());
        }
        let key = consumer_key(&consumer.name, store_id);
        self.store.queue_ack_set(QUEUE, &key, processed).await?;
        self.state.lock().noted.insert(consumer.name.clone(), noted);
        self.trim(processed).await
    }

    /// The acknowledged position of a consumer. Earlier releases identified consumers by their name.
    async fn acked(
        &self,
        consumer: &ClusterInfo,
        store_id: &str,
    ) -> Result<Option<i64>, MessageError> {
        let key = consumer_key(&consumer.name, store_id);
        let acked = self.store.queue_ack_get(QUEUE, &key).await?;
        if acked.is_some() || store_id != consumer.cluster_id {
            return Ok(acked);
        }
        let older = self.store.queue_ack_get(QUEUE, consumer.name.as_str());
        Ok(older.await?)
    }

    /// Deletes what every cluster with a copy of a namespace has processed, one that is disabled for now
    /// included; `at_most` is what one of them just has.
    async fn trim(&self, at_most: i64) -> Result<(), MessageError> {
        let mut least = at_most;
        let current = self.clusters.current_name();
        let namespaces = self.registry.all();
        let has_copy = |c: &ClusterInfo| {
            let mut all = namespaces.iter();
            c.connection_enabled || all.any(|n| n.is_replicated() && n.lives_in(&c.name))
        };
        let all = self.clusters.all().into_iter();
        for remote in all.filter(|c| c.name != current && has_copy(c)) {
            let noted = self.state.lock().noted.get(&remote.name).cloned();
            let store_id = noted.map_or(remote.cluster_id.clone(), |(store_id, _)| store_id);
            let acked = self.acked(&remote, &store_id).await?;
            least = least.min(acked.unwrap_or(0));
        }
        if least > 0 {
            self.store.queue_delete(QUEUE, 0, least).await?;
        }
        Ok(())
    }
}

fn consumer_key(cluster: &ClusterName, store_id: &str) -> String {
    format!("{cluster}/{store_id}")
}
