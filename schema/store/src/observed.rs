//! A store that tells an observer how every call ended and how long it took. It adds nothing else: what a call
//! means is said by the traits.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use proto_ids::{
    ClusterName, NamespaceId, NamespaceName, RangeId, RunId, RunKey, ShardId, TaskId, Timestamp,
    WorkflowId,
};

use crate::{
    Store,
    cluster::*,
    error::{CommitError, StoreError},
    execution::*,
    history::*,
    namespace::*,
    queue::*,
    shard::*,
    task_queue::*,
    visibility::{self, *},
};

/// Which part of the store was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Everything but visibility.
    Main,
    /// Visibility.
    Visibility,
}

/// How a call ended, if not well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The kind of error, one of a closed list.
    pub kind: &'static str,
    /// Whether the store is to blame, and not what it was asked.
    pub is_the_stores: bool,
}

/// Is notified of every call. It must not block.
pub trait Observer: Send + Sync + 'static {
    /// A call ended. The operation is named as Temporal names it, where Temporal has one.
    fn called(&self, part: Part, operation: &'static str, took: Duration, failure: Option<Failure>);
}

/// The same store, observed.
pub fn observed(store: Store, observer: Arc<dyn Observer>) -> Store {
    macro_rules! wrap {
        ($($field:ident),*) => {
            Store { $($field: Arc::new(Observed { inner: store.$field, observer: observer.clone() }),)* }
        };
    }
    wrap!(
        execution, history, shard, task_queue, namespace, cluster, queue, visibility
    )
}

struct Observed<T: ?Sized> {
    inner: Arc<T>,
    observer: Arc<dyn Observer>,
}

trait Failed {
    fn failure(&self) -> Failure;
}

impl Failed for StoreError {
    fn failure(&self) -> Failure {
        let (kind, is_the_stores) = match self {
            Self::Unavailable(_) => ("Unavailable", true),
            Self::Unknown(_) => ("Unknown", true),
            Self::Corrupt(_) => ("DataLoss", true),
            Self::Conflict(_) => ("ConditionFailed", false),
            Self::NotFound(_) => ("NotFound", false),
            Self::Fenced(_) => ("ShardOwnershipLost", false),
            Self::Invalid(_) => ("InvalidArgument", false),
        };
        Failure {
            kind,
            is_the_stores,
        }
    }
}

impl Failed for CommitError {
    fn failure(&self) -> Failure {
        let (kind, is_the_stores) = match self {
            Self::Fenced(_) => ("ShardOwnershipLost", false),
            Self::Conflict(_) => ("ConditionFailed", false),
            Self::Unavailable(_) => ("Unavailable", true),
            Self::Unknown(_) => ("Unknown", true),
            Self::Full(_) => ("ResourceExhausted", true),
            Self::Refused(_) => ("InvalidArgument", false),
        };
        Failure {
            kind,
            is_the_stores,
        }
    }
}

impl<T: ?Sized> Observed<T> {
    async fn call<A, E: Failed>(
        &self,
        part: Part,
        operation: &'static str,
        call: impl Future<Output = Result<A, E>>,
    ) -> Result<A, E> {
        let began = Instant::now();
        let result = call.await;
        let failure = result.as_ref().err().map(Failed::failure);
        self.observer
            .called(part, operation, began.elapsed(), failure);
        result
    }
}

/// Each line: method, arguments, answer, and the operation's name.
macro_rules! observe {
    ($trait:ident, $part:ident, {
        $($method:ident($($argument:ident: $type:ty),*) -> $answer:ty, $error:ty, $operation:literal;)*
    }) => {
        #[async_trait]
        impl $trait for Observed<dyn $trait> {
            $(async fn $method(&self, $($argument: $type),*) -> Result<$answer, $error> {
                self.call(Part::$part, $operation, self.inner.$method($($argument),*)).await
            })*
        }
    };
}

observe!(ExecutionStore, Main, {
    commit(batch: CommitBatch) -> (), CommitError, "UpdateWorkflowExecution";
    commit_happened(lane: &str, seq: i64) -> bool, StoreError, "GetCommit";
    run_load(shard: ShardId, key: &RunKey) -> Option<RunRecord>, StoreError, "GetWorkflowExecution";
    current_load(shard: ShardId, namespace_id: &NamespaceId, workflow_id: &WorkflowId) -> Option<CurrentRecord>,
        StoreError, "GetCurrentExecution";
    outbox_read(shard: ShardId, after: TaskId, limit: usize) -> Vec<OutboxRow>, StoreError, "GetTransferTasks";
    timer_read(shard: ShardId, after: (Timestamp, TaskId), until: Timestamp, limit: usize) -> Vec<TimerRow>,
        StoreError, "GetTimerTasks";
    run_list(shard: ShardId, after: Option<RunKey>, limit: usize) -> Vec<RunKey>, StoreError,
        "ListConcreteExecutions";
});

observe!(HistoryStore, Main, {
    history_read(range: HistoryRange) -> Vec<HistoryNode>, StoreError, "ReadHistoryBranch";
    history_branches(shard: ShardId, tree_id: &str) -> Vec<BranchRecord>, StoreError, "GetHistoryTree";
    history_delete(branch: &BranchRecord) -> (), StoreError, "DeleteHistoryBranch";
});

observe!(ShardStore, Main, {
    shard_acquire(shard: ShardId, owner: &str, now: Timestamp) -> ShardRecord, StoreError, "UpdateShard";
    shard_get(shard: ShardId) -> Option<ShardRecord>, StoreError, "GetOrCreateShard";
});

observe!(TaskQueueStore, Main, {
    task_queue_acquire(key: &TaskQueueKey) -> TaskQueueRecord, StoreError, "GetTaskQueue";
    task_queue_append(appends: Vec<BacklogAppend>) -> (), StoreError, "CreateTasks";
    task_queue_read(key: &TaskQueueKey, after: TaskId, limit: usize) -> Vec<BacklogTask>, StoreError, "GetTasks";
    task_queue_count(key: &TaskQueueKey, after: TaskId) -> i64, StoreError, "CountTasks";
    task_queue_ack(key: &TaskQueueKey, range: RangeId, ack: TaskId) -> (), StoreError, "UpdateTaskQueue";
});

observe!(NamespaceStore, Main, {
    namespace_version() -> i64, StoreError, "GetMetadata";
    namespace_create(record: NamespaceRecord, version: i64, message: Option<QueueMessage>) -> (), StoreError,
        "CreateNamespace";
    namespace_update(record: NamespaceRecord, version: i64, message: Option<QueueMessage>) -> (), StoreError,
        "UpdateNamespace";
    namespace_get(id: &NamespaceId) -> Option<NamespaceRecord>, StoreError, "GetNamespace";
    namespace_get_by_name(name: &NamespaceName) -> Option<NamespaceRecord>, StoreError, "GetNamespace";
    namespace_list(after: Option<NamespaceName>, limit: usize) -> Vec<NamespaceRecord>, StoreError,
        "ListNamespaces";
    namespace_delete(id: &NamespaceId) -> (), StoreError, "DeleteNamespace";
});

observe!(ClusterStore, Main, {
    cluster_list() -> Vec<ClusterRecord>, StoreError, "ListClusterMetadata";
    cluster_put(record: ClusterRecord) -> (), StoreError, "SaveClusterMetadata";
    cluster_delete(name: &ClusterName) -> (), StoreError, "DeleteClusterMetadata";
    member_put(record: MemberRecord) -> (), StoreError, "UpsertClusterMembership";
    member_list(since: Timestamp) -> Vec<MemberRecord>, StoreError, "GetClusterMembers";
    member_delete(id: &str) -> (), StoreError, "PruneClusterMembership";
    cluster_restored() -> bool, StoreError, "GetClusterMetadata";
    cluster_restored_settle() -> (), StoreError, "SaveClusterMetadata";
});

observe!(QueueStore, Main, {
    queue_enqueue(queue: &str, data: Bytes) -> i64, StoreError, "EnqueueMessage";
    queue_read(queue: &str, after: i64, limit: usize) -> Vec<Message>, StoreError, "ReadQueueMessages";
    queue_delete(queue: &str, first: i64, last: i64) -> i64, StoreError, "RangeDeleteMessages";
    queue_last_id(queue: &str) -> i64, StoreError, "GetQueueLastMessage";
    queue_list(prefix: &str) -> Vec<QueueInfo>, StoreError, "ListQueues";
    queue_ack_get(queue: &str, consumer: &str) -> Option<i64>, StoreError, "GetAckLevels";
    queue_ack_set(queue: &str, consumer: &str, id: i64) -> (), StoreError, "UpdateAckLevel";
});

observe!(VisibilityStore, Visibility, {
    visibility_write(writes: Vec<VisibilityWrite>) -> (), StoreError, "UpsertWorkflowExecution";
    visibility_list(namespace_id: &NamespaceId, query: &visibility::query::Query, page_size: usize, after: Option<Bytes>)
        -> VisibilityPage, StoreError, "ListWorkflowExecutions";
    visibility_count(namespace_id: &NamespaceId, query: &visibility::query::Query) -> VisibilityCount, StoreError,
        "CountWorkflowExecutions";
    visibility_get(namespace_id: &NamespaceId, run_id: &RunId) -> Option<VisibilityRecord>, StoreError,
        "GetWorkflowExecution";
});

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;
    use crate::memory::MemoryStore;

    #[derive(Default)]
    struct Notes(Mutex<Vec<(&'static str, Option<&'static str>)>>);

    impl Observer for Notes {
        fn called(&self, _: Part, operation: &'static str, _: Duration, failure: Option<Failure>) {
            self.0.lock().push((operation, failure.map(|f| f.kind)));
        }
    }

    #[tokio::test]
    async fn every_call_is_told_with_its_end() {
        let notes = Arc::new(Notes::default());
        let store = observed(MemoryStore::new().store(), notes.clone());
        store.queue.queue_last_id("q").await.expect("read");
        let missing = store.namespace.namespace_delete(&"nobody".into()).await;
        let expected = missing.err().map(|e| e.failure().kind);
        assert_eq!(
            *notes.0.lock(),
            [("GetQueueLastMessage", None), ("DeleteNamespace", expected)]
        );
    }

    #[test]
    fn what_was_asked_is_told_apart_from_what_the_store_did() {
        assert!(
            StoreError::Unavailable(String::new())
                .failure()
                .is_the_stores
        );
        assert!(!StoreError::Conflict(String::new()).failure().is_the_stores);
        assert!(!CommitError::Fenced(Vec::new()).failure().is_the_stores);
    }
}
