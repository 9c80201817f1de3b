//! One cluster in one process over the memory store: the real kernel, history and matching, and a worker
//! that is told what to answer.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use cluster_history::{ExecutorDeps, HistoryDeps, HistoryService, executors};
use cluster_matching::{MatchingDeps, MatchingService};
use cluster_membership::{Member, Membership, Role};
use cluster_rpc::{HistoryClient, MatchingClient};
use cluster_runtime::{Metrics, Settings, SystemClock, Tasks, settings::Value};
use cluster_shard::{Shards, ShardsDeps, ShardsOptions};
use namespaces::{ClusterInfo, Clusters, Namespace, Registry};
use proto_ids::ShardId;
use proto_messages::{
    meridian::{history::v1 as history, matching::v1 as matching},
    temporal::api::{
        command::v1::{Command, command::Attributes},
        common::v1::{Payload, Payloads, WorkflowExecution, WorkflowType},
        enums::v1::{CommandType, EventType, HistoryEventFilterType, TaskQueueKind},
        history::v1::HistoryEvent,
        taskqueue::v1::{StickyExecutionAttributes, TaskQueue},
        workflowservice::v1 as api,
    },
    time::duration_to_proto,
};
use schema_store::{
    StoreError,
    execution::{BranchRecord, HistoryNode},
    history::{HistoryRange, HistoryStore},
    memory::MemoryStore,
};
use tokio::sync::watch;
use tonic::Status;

pub const NS: &str = "11111111-1111-4111-8111-111111111111";
pub const QUEUE: &str = "queue";
pub const STICKY: &str = "sticky";
const DEFAULT_COUNT: i64 = 51_200;

/// A running cluster.
pub struct World {
    pub history: HistoryClient,
    pub matching: MatchingClient,
    /// Reads of stored history.
    pub reads: Arc<HeldReads>,
    store: MemoryStore,
    tasks: Tasks,
    pub shards: Shards,
    registry: Registry,
}

/// The store's history, whose reads can be held back.
pub struct HeldReads {
    inner: Arc<dyn HistoryStore>,
    held: watch::Sender<bool>,
    waiting: watch::Sender<usize>,
}

impl HeldReads {
    fn before(inner: Arc<dyn HistoryStore>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            held: watch::Sender::new(false),
            waiting: watch::Sender::new(0),
        })
    }

    /// Holds reads back, or lets them go on.
    pub fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    /// Returns once a read is held back.
    pub async fn one_waits(&self) {
        let mut waiting = self.waiting.subscribe();
        let waits = tokio::time::timeout(Duration::from_secs(15), waiting.wait_for(|n| *n > 0));
        waits.await.expect("a read within 15 s").expect("watched");
    }
}

#[async_trait]
impl HistoryStore for HeldReads {
    async fn history_read(&self, range: HistoryRange) -> Result<Vec<HistoryNode>, StoreError> {
        self.waiting.send_modify(|n| *n += 1);
        let go = self.held.subscribe().wait_for(|held| !held).await.is_ok();
        assert!(go, "the world outlives its reads");
        self.waiting.send_modify(|n| *n -= 1);
        self.inner.history_read(range).await
    }

    async fn history_branches(
        &self,
        shard: ShardId,
        tree_id: &str,
    ) -> Result<Vec<BranchRecord>, StoreError> {
        self.inner.history_branches(shard, tree_id).await
    }

    async fn history_delete(&self, branch: &BranchRecord) -> Result<(), StoreError> {
        self.inner.history_delete(branch).await
    }
}

/// The namespace, active in the given cluster under the given version.
fn namespace(active: &str, version: i64) -> Namespace {
    Namespace {
        id: NS.into(),
        name: "test".into(),
        retention: Duration::from_secs(86_400),
        is_global: true,
        active_cluster: active.into(),
        clusters: vec!["here".into(), "there".into()],
        failover_version: version.into(),
        ..Namespace::default()
    }
}

fn cluster(name: &str, version: i64) -> ClusterInfo {
    ClusterInfo {
        name: name.into(),
        shard_count: 4,
        initial_failover_version: version,
        failover_version_increment: 10,
        ..ClusterInfo::default()
    }
}

impl World {
    pub async fn new() -> Self {
        Self::over(MemoryStore::new(), DEFAULT_COUNT).await
    }

    /// With this limit of events in one run.
    pub async fn with_event_limit(limit: i64) -> Self {
        Self::over(MemoryStore::new(), limit).await
    }

    async fn over(store: MemoryStore, event_limit: i64) -> Self {
        let tasks = Tasks::new("test");
        let settings = Settings::of([
            ("history.workflowIdReuseMinimalInterval", Value::from("0s")),
            ("history.longPollExpirationInterval", Value::from("2s")),
            ("limit.historyCount.error", Value::Int(event_limit)),
        ]);
        let registry = Registry::fixed(vec![namespace("here", 1)]);
        let clusters = Clusters::fixed(cluster("here", 1), vec![cluster("there", 2)]);
        let at = ([127, 0, 0, 1], 1).into();
        let membership = Membership::alone(Member {
            id: "me".into(),
            gossip: at,
            roles: vec![(Role::Matching, at), (Role::History, at)],
            incarnation: 1,
        });
        let (history, matching) = (HistoryClient::local(4), MatchingClient::local());
        let (clock, metrics) = (SystemClock::shared(), Metrics::new());
        let mut handles = store.store();
        let reads = HeldReads::before(handles.history.clone());
        handles.history = reads.clone();
        let shards = Shards::start(
            ShardsOptions::default(),
            ShardsDeps {
                store: handles,
                membership: membership.clone(),
                registry: registry.clone(),
                clusters: clusters.clone(),
                overload: Default::default(),
                clock: clock.clone(),
                tasks: tasks.child("shards"),
                settings: settings.clone(),
                metrics: metrics.clone(),
            },
        );
        history.set_local(HistoryService::new(HistoryDeps {
            shards: shards.clone(),
            registry: registry.clone(),
            clusters,
            matching: matching.clone(),
            history: history.clone(),
            overload: None,
            clock: clock.clone(),
            settings: settings.clone(),
            metrics: metrics.clone(),
            tasks: tasks.child("history"),
        }));
        matching.set_local(MatchingService::new(MatchingDeps {
            store: store.store().task_queue,
            history: history.clone(),
            membership,
            overload: Default::default(),
            clock,
            registry: registry.clone(),
            metrics,
            tasks: tasks.child("matching"),
        }));
        shards.run_queues(executors(ExecutorDeps {
            registry: registry.clone(),
            matching: matching.clone(),
            history: history.clone(),
        }));
        Self {
            history,
            matching,
            reads,
            store,
            tasks,
            shards,
            registry,
        }
    }

    /// Makes the namespace active in a cluster, as if the news had just arrived.
    pub fn fail_over(&self, to: &str, version: i64) {
        self.registry.set(vec![namespace(to, version)]);
    }

    /// Starts another process over the same store, without a word to the first, as after a crash.
    pub async fn take_over(&self) -> Self {
        Self::over(self.store.clone(), DEFAULT_COUNT).await
    }

    /// Stops everything and starts anew over what is stored.
    pub async fn reopen(self) -> Self {
        self.shards.drain().await;
        self.tasks.shutdown(Duration::from_secs(5)).await;
        Self::over(self.store, DEFAULT_COUNT).await
    }

    pub async fn start(&self, id: &str) -> String {
        let request = start_request(id);
        self.start_with(request).await.expect("start").run_id
    }

    pub async fn start_with(
        &self,
        request: api::StartWorkflowExecutionRequest,
    ) -> Result<api::StartWorkflowExecutionResponse, Status> {
        let call = history::StartWorkflowExecutionRequest {
            namespace_id: NS.into(),
            request: Some(request),
            ..Default::default()
        };
        self.history.start_workflow_execution(call).await
    }

    pub async fn signal(&self, id: &str, name: &str) -> Result<(), Status> {
        let request = api::SignalWorkflowExecutionRequest {
            workflow_execution: Some(execution(id, "")),
            signal_name: name.into(),
            ..Default::default()
        };
        let call = history::SignalWorkflowExecutionRequest {
            namespace_id: NS.into(),
            request: Some(request),
            ..Default::default()
        };
        self.history.signal_workflow_execution(call).await.map(drop)
    }

    pub async fn poll(&self) -> api::PollWorkflowTaskQueueResponse {
        self.poll_on(queue(QUEUE)).await
    }

    pub async fn poll_sticky(&self) -> api::PollWorkflowTaskQueueResponse {
        self.poll_on(TaskQueue {
            name: STICKY.into(),
            kind: TaskQueueKind::Sticky as i32,
            normal_name: QUEUE.into(),
        })
        .await
    }

    async fn poll_on(&self, queue: TaskQueue) -> api::PollWorkflowTaskQueueResponse {
        let call = matching::PollWorkflowTaskQueueRequest {
            namespace_id: NS.into(),
            request: Some(api::PollWorkflowTaskQueueRequest {
                task_queue: Some(queue),
                identity: "worker".into(),
                ..Default::default()
            }),
            poller_id: "poller".into(),
        };
        let polled = self.matching.poll_workflow_task_queue(call);
        let polled = tokio::time::timeout(Duration::from_secs(15), polled).await;
        polled.expect("a task within 15 s").expect("poll")
    }

    pub async fn poll_activity(&self) -> api::PollActivityTaskQueueResponse {
        let call = matching::PollActivityTaskQueueRequest {
            namespace_id: NS.into(),
            request: Some(api::PollActivityTaskQueueRequest {
                task_queue: Some(queue(QUEUE)),
                identity: "worker".into(),
                ..Default::default()
            }),
            poller_id: "poller".into(),
        };
        let polled = self.matching.poll_activity_task_queue(call);
        let polled = tokio::time::timeout(Duration::from_secs(15), polled).await;
        polled.expect("a task within 15 s").expect("poll")
    }

    pub async fn complete(
        &self,
        task: &api::PollWorkflowTaskQueueResponse,
        commands: Vec<Command>,
    ) -> Result<api::RespondWorkflowTaskCompletedResponse, Status> {
        self.complete_with(completion(task, commands)).await
    }

    pub async fn complete_with(
        &self,
        request: api::RespondWorkflowTaskCompletedRequest,
    ) -> Result<api::RespondWorkflowTaskCompletedResponse, Status> {
        let call = history::RespondWorkflowTaskCompletedRequest {
            namespace_id: NS.into(),
            request: Some(request),
        };
        self.history.respond_workflow_task_completed(call).await
    }

    pub async fn complete_activity(&self, token: Bytes, result: &str) -> Result<(), Status> {
        let request = api::RespondActivityTaskCompletedRequest {
            task_token: token,
            result: payloads(result),
            ..Default::default()
        };
        let call = history::RespondActivityTaskCompletedRequest {
            namespace_id: NS.into(),
            request: Some(request),
        };
        self.history
            .respond_activity_task_completed(call)
            .await
            .map(drop)
    }

    /// All events of a run; an empty run id means the current one.
    pub async fn events(&self, id: &str, run: &str) -> Vec<HistoryEvent> {
        let mut events = Vec::new();
        let mut token = Bytes::new();
        loop {
            let page = self
                .history_page(id, run, token, false)
                .await
                .expect("history");
            events.extend(page.history.unwrap_or_default().events);
            token = page.next_page_token;
            if token.is_empty() {
                return events;
            }
        }
    }

    pub async fn history_page(
        &self,
        id: &str,
        run: &str,
        token: Bytes,
        close_only: bool,
    ) -> Result<api::GetWorkflowExecutionHistoryResponse, Status> {
        let filter = match close_only {
            true => HistoryEventFilterType::CloseEvent,
            false => HistoryEventFilterType::AllEvent,
        };
        let request = api::GetWorkflowExecutionHistoryRequest {
            execution: Some(execution(id, run)),
            next_page_token: token,
            maximum_page_size: 3,
            wait_new_event: close_only,
            history_event_filter_type: filter as i32,
            ..Default::default()
        };
        let call = history::GetWorkflowExecutionHistoryRequest {
            namespace_id: NS.into(),
            request: Some(request),
            ..Default::default()
        };
        self.history.get_workflow_execution_history(call).await
    }

    /// The event that closes the run, waited for.
    pub async fn close_event(&self, id: &str, run: &str) -> HistoryEvent {
        for _ in 0..10 {
            let page = self
                .history_page(id, run, Bytes::new(), true)
                .await
                .expect("history");
            if let Some(event) = page.history.unwrap_or_default().events.pop() {
                return event;
            }
        }
        panic!("{id} did not close");
    }

    pub async fn describe(
        &self,
        id: &str,
    ) -> Result<api::DescribeWorkflowExecutionResponse, Status> {
        let request = api::DescribeWorkflowExecutionRequest {
            execution: Some(execution(id, "")),
            ..Default::default()
        };
        let call = history::DescribeWorkflowExecutionRequest {
            namespace_id: NS.into(),
            request: Some(request),
        };
        self.history.describe_workflow_execution(call).await
    }
}

pub fn start_request(id: &str) -> api::StartWorkflowExecutionRequest {
    api::StartWorkflowExecutionRequest {
        namespace: "test".into(),
        workflow_id: id.into(),
        workflow_type: Some(WorkflowType {
            name: "type".into(),
        }),
        task_queue: Some(queue(QUEUE)),
        request_id: format!("start-{id}"),
        identity: "client".into(),
        ..Default::default()
    }
}

pub fn completion(
    task: &api::PollWorkflowTaskQueueResponse,
    commands: Vec<Command>,
) -> api::RespondWorkflowTaskCompletedRequest {
    api::RespondWorkflowTaskCompletedRequest {
        task_token: task.task_token.clone(),
        commands,
        identity: "worker".into(),
        ..Default::default()
    }
}

pub fn keep_cache() -> Option<StickyExecutionAttributes> {
    Some(StickyExecutionAttributes {
        worker_task_queue: Some(TaskQueue {
            name: STICKY.into(),
            kind: TaskQueueKind::Sticky as i32,
            normal_name: QUEUE.into(),
        }),
        schedule_to_start_timeout: Some(duration_to_proto(Duration::from_secs(5))),
    })
}

pub fn queue(name: &str) -> TaskQueue {
    TaskQueue {
        name: name.into(),
        kind: TaskQueueKind::Normal as i32,
        ..Default::default()
    }
}

pub fn execution(id: &str, run: &str) -> WorkflowExecution {
    WorkflowExecution {
        workflow_id: id.into(),
        run_id: run.into(),
    }
}

pub fn payloads(text: &str) -> Option<Payloads> {
    let payload = Payload {
        data: Bytes::copy_from_slice(text.as_bytes()),
        ..Default::default()
    };
    Some(Payloads {
        payloads: vec![payload],
    })
}

pub fn command(kind: CommandType, attributes: Attributes) -> Command {
    Command {
        command_type: kind as i32,
        attributes: Some(attributes),
        ..Default::default()
    }
}

pub fn complete_workflow(result: &str) -> Vec<Command> {
    let attributes =
        proto_messages::temporal::api::command::v1::CompleteWorkflowExecutionCommandAttributes {
            result: payloads(result),
        };
    vec![command(
        CommandType::CompleteWorkflowExecution,
        Attributes::CompleteWorkflowExecutionCommandAttributes(attributes),
    )]
}

pub fn kinds(events: &[HistoryEvent]) -> Vec<EventType> {
    for (i, event) in events.iter().enumerate() {
        assert_eq!(event.event_id, i as i64 + 1, "event ids are gapless");
    }
    events.iter().map(HistoryEvent::event_type).collect()
}

pub fn in_task(task: &api::PollWorkflowTaskQueueResponse) -> Vec<EventType> {
    let history = task.history.clone().unwrap_or_default();
    history
        .events
        .iter()
        .map(HistoryEvent::event_type)
        .collect()
}
