//! The memory store: every trait over plain ordered maps under one lock. It is the reference for what the
//! traits mean (the conformance suite runs on it first) and the store of tests and of simulated time. Its
//! invariant is that of the traits: a write is checked whole before anything changes, so it is done whole
//! or not at all. Nothing here waits, so a write never ends unknown.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use proto_ids::{ClusterName, NamespaceId, RunId, RunKey, ShardId, TaskId, Timestamp, WorkflowId};

use crate::{
    Store,
    cluster::{ClusterRecord, MemberRecord},
    execution::{BranchRecord, CurrentRecord, HistoryNode, ItemRowKey, OutboxRow},
    namespace::NamespaceRecord,
    shard::ShardRecord,
    task_queue::{TaskQueueKey, TaskQueueRecord},
    visibility::VisibilityRecord,
};

mod cluster;
mod execution;
mod history;
mod namespace;
mod queue;
mod shard;
mod task_queue;
mod visibility;

/// A store in memory. Clones share the data.
#[derive(Clone, Default)]
pub struct MemoryStore(Arc<Mutex<State>>);

/// Everything that is stored.
struct State {
    shards: BTreeMap<ShardId, ShardRecord>,
    runs: BTreeMap<(ShardId, RunKey), Run>,
    currents: BTreeMap<CurrentKey, CurrentRecord>,
    branches: BTreeMap<TreeKey, BTreeMap<String, BranchRecord>>,
    nodes: BTreeMap<TreeKey, BTreeMap<(String, i64), HistoryNode>>,
    outbox: BTreeMap<(ShardId, TaskId), OutboxRow>,
    timers: BTreeMap<(ShardId, Timestamp, TaskId), Bytes>,
    lanes: BTreeMap<String, BTreeSet<i64>>,
    task_queues: BTreeMap<TaskQueueKey, TaskQueueRecord>,
    backlog: BTreeMap<(TaskQueueKey, TaskId), Bytes>,
    namespaces: BTreeMap<NamespaceId, NamespaceRecord>,
    namespace_version: i64,
    clusters: BTreeMap<ClusterName, ClusterRecord>,
    members: BTreeMap<String, MemberRecord>,
    queues: BTreeMap<String, Queue>,
    acks: BTreeMap<(String, String), i64>,
    visibility: BTreeMap<(NamespaceId, RunId), VisibilityRecord>,
}

/// Names a current pointer.
type CurrentKey = (ShardId, NamespaceId, WorkflowId);

/// Names a history tree.
type TreeKey = (ShardId, String);

#[derive(Clone)]
struct Run {
    version: i64,
    hot: Bytes,
    start: Bytes,
    items: BTreeMap<ItemRowKey, Bytes>,
}

#[derive(Default)]
struct Queue {
    last_id: i64,
    messages: BTreeMap<i64, Bytes>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// A handle per trait, all over this data.
    pub fn store(&self) -> Store {
        let all = Arc::new(self.clone());
        Store {
            execution: all.clone(),
            history: all.clone(),
            shard: all.clone(),
            task_queue: all.clone(),
            namespace: all.clone(),
            cluster: all.clone(),
            queue: all.clone(),
            visibility: all,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

impl Default for State {
    fn default() -> Self {
        Self {
            shards: BTreeMap::new(),
            runs: BTreeMap::new(),
            currents: BTreeMap::new(),
            branches: BTreeMap::new(),
            nodes: BTreeMap::new(),
            outbox: BTreeMap::new(),
            timers: BTreeMap::new(),
            lanes: BTreeMap::new(),
            task_queues: BTreeMap::new(),
            backlog: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            namespace_version: crate::namespace::FIRST_NOTIFICATION_VERSION,
            clusters: BTreeMap::new(),
            members: BTreeMap::new(),
            queues: BTreeMap::new(),
            acks: BTreeMap::new(),
            visibility: BTreeMap::new(),
        }
    }
}

impl Queue {
    fn push(&mut self, data: Bytes) -> i64 {
        self.last_id += 1;
        self.messages.insert(self.last_id, data);
        self.last_id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn conforms() {
        crate::conformance::run(async || MemoryStore::new().store()).await;
    }
}
