//! One process of a cluster over a store that outlives it, and an executor that writes down what it is given.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use cluster_core::{
    Refusal, Reply, Request, Start, TaskKind, Workflow,
    request::{Parent, Signal},
};
use cluster_membership::{Member, Membership, Role as MemberRole};
use cluster_runtime::{Metrics, Settings, SystemClock, Tasks};
use cluster_shard::{
    CurrentChange, Executor, Executors, QueuedTask, Role, Shard, Shards, ShardsDeps, ShardsOptions,
    Txn, TxnError, UpdateError, Updated, Verdict,
};
use futures::FutureExt;
use namespaces::{ClusterInfo, Clusters, Namespace, Registry};
use parking_lot::Mutex;
use proto_ids::{EventId, NamespaceId, RunKey, WorkflowId};
use proto_messages::temporal::api::{
    command::v1::{Command, StartTimerCommandAttributes, command::Attributes},
    common::v1::WorkflowType,
    enums::v1::CommandType,
    taskqueue::v1::TaskQueue,
    workflowservice::v1::{RespondWorkflowTaskCompletedRequest, StartWorkflowExecutionRequest},
};
use schema_store::{Store, memory::MemoryStore};

use crate::faults::Faults;

pub const NS: &str = "11111111-2222-3333-4444-555555555555";

/// What executors were given, and how they answer.
#[derive(Default)]
pub struct Seen {
    pub tasks: Mutex<Vec<(QueuedTask, Role)>>,
    pub verdict: Mutex<Option<Verdict>>,
}

#[async_trait]
impl Executor for Seen {
    async fn execute(&self, _: &Shard, task: &QueuedTask, role: Role) -> Verdict {
        self.tasks.lock().push((task.clone(), role));
        self.verdict.lock().clone().unwrap_or(Verdict::Done)
    }
}

impl Seen {
    pub fn count(&self, wanted: impl Fn(&TaskKind) -> bool) -> usize {
        self.tasks
            .lock()
            .iter()
            .filter(|(t, _)| wanted(&t.task.kind))
            .count()
    }

    pub fn dispatched(&self, workflow_id: &str) -> usize {
        let tasks = self.tasks.lock();
        let of = |t: &&(QueuedTask, Role)| {
            t.0.run.workflow_id.as_str() == workflow_id
                && matches!(t.0.task.kind, TaskKind::WorkflowTask { .. })
        };
        tasks.iter().filter(of).count()
    }
}

pub struct World {
    pub base: Store,
    pub store: Store,
    pub faults: Arc<Faults>,
    pub shards: Shards,
    pub tasks: Tasks,
    pub seen: Arc<Seen>,
    pub registry: Registry,
    pub clusters: Clusters,
    pub options: ShardsOptions,
    pub metrics: Metrics,
}

pub fn namespace() -> Namespace {
    Namespace {
        id: NS.into(),
        name: "default".into(),
        retention: Duration::from_secs(86_400),
        ..Namespace::default()
    }
}

/// A namespace that lives in clusters `a` (here) and `b`.
pub fn replicated(active: &str) -> Namespace {
    Namespace {
        is_global: true,
        active_cluster: active.into(),
        clusters: vec!["a".into(), "b".into()],
        failover_version: proto_ids::FailoverVersion::new(if active == "a" { 1 } else { 2 }),
        ..namespace()
    }
}

pub fn quick() -> ShardsOptions {
    ShardsOptions {
        behind_after: Duration::from_millis(20),
        progress_every: Duration::from_millis(40),
        visibility_lag: Duration::from_millis(5),
        park_delay: Duration::from_secs(3600),
        ..ShardsOptions::default()
    }
}

impl World {
    pub fn new() -> Self {
        Self::with(quick(), namespace(), false)
    }

    pub fn with(options: ShardsOptions, namespace: Namespace, connected: bool) -> Self {
        Self::over(MemoryStore::new().store(), options, namespace, connected)
    }

    pub fn over(
        base: Store,
        options: ShardsOptions,
        namespace: Namespace,
        connected: bool,
    ) -> Self {
        let at = ([127, 0, 0, 1], 1).into();
        let membership = Membership::alone(Member {
            id: "me".into(),
            gossip: at,
            roles: vec![(MemberRole::History, at)],
            incarnation: 1,
        });
        Self::member(
            membership,
            Tasks::new("test"),
            base,
            options,
            Registry::fixed(vec![namespace]),
            connected,
        )
    }

    /// One of several processes.
    pub fn member(
        membership: Membership,
        tasks: Tasks,
        base: Store,
        options: ShardsOptions,
        registry: Registry,
        connected: bool,
    ) -> Self {
        let (faults, store) = Faults::new(&base);
        let cluster = |name: &str, connection_enabled| ClusterInfo {
            name: name.into(),
            connection_enabled,
            shard_count: options.shard_count.max(4),
            ..ClusterInfo::default()
        };
        let metrics = Metrics::new();
        let clusters = Clusters::fixed(cluster("a", true), vec![cluster("b", connected)]);
        let deps = ShardsDeps {
            store: store.clone(),
            membership,
            registry: registry.clone(),
            clusters: clusters.clone(),
            overload: Default::default(),
            clock: SystemClock::shared(),
            tasks: tasks.clone(),
            settings: Settings::new(),
            metrics: metrics.clone(),
        };
        let shards = Shards::start(options.clone(), deps);
        let seen = Arc::new(Seen::default());
        shards.run_queues(Executors {
            transfer: seen.clone(),
            timer: seen.clone(),
        });
        Self {
            base,
            store,
            faults,
            shards,
            tasks,
            seen,
            registry,
            clusters,
            options,
            metrics,
        }
    }

    /// The process dies: nothing more is written, everything in memory is gone. The store remains.
    pub async fn crash(self) -> Self {
        self.faults.close();
        self.tasks.kill().await;
        let namespace = (*self.registry.all()[0]).clone();
        let connected = !self.clusters.remotes().is_empty();
        Self::over(self.base, self.options, namespace, connected)
    }

    /// The process stops in good order and starts again.
    pub async fn restart(self) -> Self {
        assert!(self.tasks.shutdown(Duration::from_secs(30)).await);
        let namespace = (*self.registry.all()[0]).clone();
        let connected = !self.clusters.remotes().is_empty();
        Self::over(self.base, self.options, namespace, connected)
    }

    pub async fn shard(&self, workflow_id: &str) -> Shard {
        let (ns, wid) = (NamespaceId::from(NS), WorkflowId::from(workflow_id));
        self.shards
            .for_workflow(&ns, &wid)
            .await
            .expect("the only member owns all shards")
    }

    pub async fn start(&self, workflow_id: &str) -> Result<(), TxnError<Refusal>> {
        self.start_with(workflow_id, None).await
    }

    pub async fn start_with(
        &self,
        workflow_id: &str,
        parent: Option<Parent>,
    ) -> Result<(), TxnError<Refusal>> {
        let key = key(workflow_id);
        let request = StartWorkflowExecutionRequest {
            namespace: "default".into(),
            workflow_id: workflow_id.into(),
            workflow_type: Some(WorkflowType {
                name: "kind".into(),
            }),
            task_queue: Some(TaskQueue {
                name: "queue".into(),
                ..Default::default()
            }),
            request_id: "start".into(),
            ..Default::default()
        };
        let start = Start {
            key: key.clone(),
            request: Box::new(request),
            parent,
            ..Start::default()
        };
        let shard = self.shard(workflow_id).await;
        shard
            .transact(
                &key.namespace_id,
                &key.workflow_id,
                async |txn: &mut Txn| {
                    let moment = txn.moment();
                    let (workflow, outcome) = Workflow::start(start, &moment.given())?;
                    txn.insert(
                        workflow,
                        outcome.events,
                        outcome.tasks,
                        CurrentChange::Become,
                    )
                    .map_err(|e| Refusal::NotReady(e.to_string()))
                },
            )
            .await
    }

    pub async fn handle(
        &self,
        workflow_id: &str,
        request: Request,
    ) -> Result<Updated<()>, UpdateError> {
        let shard = self.shard(workflow_id).await;
        let key = RunKey::new(NS, workflow_id, "");
        shard
            .update(&key, |w, given| Ok((w.handle(request, given)?, ())))
            .await
    }

    pub async fn signal(
        &self,
        workflow_id: &str,
        request_id: &str,
    ) -> Result<Updated<()>, UpdateError> {
        let signal = Signal {
            name: "signal".into(),
            request_id: request_id.into(),
            ..Signal::default()
        };
        self.handle(
            workflow_id,
            Request::Signal {
                signal,
                only_from_parent: None,
            },
        )
        .await
    }

    /// [`Self::signal`] where the shard may be somewhere else.
    pub async fn try_signal(
        &self,
        workflow_id: &str,
        request_id: &str,
    ) -> Result<Updated<()>, UpdateError> {
        let (ns, wid) = (NamespaceId::from(NS), WorkflowId::from(workflow_id));
        let shard = self.shards.for_workflow(&ns, &wid).await?;
        let signal = Signal {
            name: "signal".into(),
            request_id: request_id.into(),
            ..Signal::default()
        };
        let request = Request::Signal {
            signal,
            only_from_parent: None,
        };
        let key = RunKey::new(NS, workflow_id, "");
        shard
            .update(&key, |w, given| Ok((w.handle(request, given)?, ())))
            .await
    }

    /// A worker takes the workflow task.
    pub async fn take_task(
        &self,
        workflow_id: &str,
        request_id: &str,
    ) -> Result<Updated<()>, UpdateError> {
        self.handle(workflow_id, start_task(request_id)).await
    }

    /// The worker asks for a timer.
    pub async fn start_timer(&self, workflow_id: &str, after: Duration) -> Updated<()> {
        let taken = self.take_task(workflow_id, "poll").await.expect("taken");
        let fire = prost_types::Duration {
            seconds: after.as_secs() as i64,
            nanos: after.subsec_nanos() as i32,
        };
        let attributes = Attributes::StartTimerCommandAttributes(StartTimerCommandAttributes {
            timer_id: "timer".into(),
            start_to_fire_timeout: Some(fire),
        });
        let request = RespondWorkflowTaskCompletedRequest {
            commands: vec![Command {
                command_type: CommandType::StartTimer.into(),
                attributes: Some(attributes),
                ..Default::default()
            }],
            ..Default::default()
        };
        let request = Request::CompleteWorkflowTask {
            scheduled_event_id: EventId::new(2),
            started_event_id: EventId::new(taken.next_event_id.get() - 1),
            attempt: 1,
            request: Box::new(request),
            queries_pending: false,
        };
        self.handle(workflow_id, request).await.expect("completed")
    }

    /// Signals the run has received.
    pub async fn signals(&self, workflow_id: &str) -> i64 {
        let shard = self.shard(workflow_id).await;
        let key = RunKey::new(NS, workflow_id, "");
        shard
            .read(&key, |w| w.hot.signal_count)
            .await
            .expect("exists")
    }
}

pub fn start_task(request_id: &str) -> Request {
    Request::StartWorkflowTask {
        scheduled_event_id: EventId::new(2),
        attempt: 1,
        request_id: request_id.into(),
        identity: "worker".into(),
        task_queue: TaskQueue {
            name: "queue".into(),
            ..Default::default()
        },
        build_id: String::new(),
    }
}

pub fn key(workflow_id: &str) -> RunKey {
    RunKey::new(NS, workflow_id, format!("run-of-{workflow_id}"))
}

/// Waits until it holds; the test's own limit ends it otherwise.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..4_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("never: {what}");
}

/// The future does not end by itself, however long the process has nothing else to do.
pub async fn stays_pending<F: Future + Unpin>(future: &mut F) {
    tokio::select! {
        biased;
        _ = future => panic!("answered before its commit"),
        () = tokio::time::sleep(Duration::from_millis(30)) => {}
    }
}

pub fn is_duplicate(updated: &Updated<()>) -> bool {
    matches!(updated.reply, Reply::Duplicate)
}

/// What the memory store answers without ever waiting.
pub fn at_once<F: Future>(future: F) -> F::Output {
    future
        .now_or_never()
        .expect("the memory store does not wait")
}
