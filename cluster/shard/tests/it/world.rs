//! One process of a cluster over a store that outlives it, and an executor that writes down what it is given.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use cluster_core::{
    MutableState, Refusal, Reply, Request, Start, TaskKind,
    request::{Parent, Signal},
    task::Category,
};
use cluster_membership::{Member, Membership, Role as MemberRole};
use cluster_runtime::{Clock, Metrics, Settings, SystemClock, Tasks};
use cluster_shard::{
    CurrentChange, ExecutionMode, Executor, Executors, Outcome, QueuedTask, Shard, Shards,
    ShardsDeps, ShardsOptions, Txn, TxnError, UpdateError, Updated,
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
use tokio::sync::Semaphore;

use crate::faults::Faults;

pub const NS: &str = "11111111-2222-3333-4444-555555555555";

/// What executors were given, and how they answer.
#[derive(Default)]
pub struct Seen {
    pub tasks: Mutex<Vec<(QueuedTask, ExecutionMode)>>,
    pub outcome: Mutex<Option<Outcome>>,
    /// Executions need a permit each before they answer, while there is a gate.
    pub gate: Mutex<Option<Arc<Semaphore>>>,
}

#[async_trait]
impl Executor for Seen {
    async fn execute(&self, _: &Shard, task: &QueuedTask, mode: ExecutionMode) -> Outcome {
        let outcome = self.outcome.lock().clone();
        let gate = self.gate.lock().clone();
        self.tasks.lock().push((task.clone(), mode));
        if let Some(gate) = gate {
            gate.acquire().await.expect("never closed").forget();
        }
        outcome.unwrap_or(Outcome::Done)
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
        let of = |t: &&(QueuedTask, ExecutionMode)| {
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
    pub clock: Arc<HostClock>,
}

/// A wall clock of one process.
#[derive(Default)]
pub struct HostClock {
    /// By how much it is wrong.
    pub ahead_nanos: AtomicI64,
}

impl HostClock {
    pub fn ahead(by: Duration) -> Arc<Self> {
        let ahead_nanos = AtomicI64::new(by.as_nanos() as i64);
        Arc::new(Self { ahead_nanos })
    }
}

impl Clock for HostClock {
    fn now_nanos(&self) -> i64 {
        SystemClock.now_nanos() + self.ahead_nanos.load(Ordering::SeqCst)
    }
}

pub fn alone() -> Membership {
    let at = ([127, 0, 0, 1], 1).into();
    Membership::alone(Member {
        id: "me".into(),
        gossip: at,
        roles: vec![(MemberRole::History, at)],
        incarnation: 1,
    })
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
        write_behind_after: Duration::from_millis(20),
        progress_every: Duration::from_millis(40),
        visibility_lag: Duration::from_millis(5),
        wait_delay: Duration::from_secs(3600),
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
        Self::member(
            alone(),
            Tasks::new("test"),
            base,
            options,
            Registry::fixed(vec![namespace]),
            connected,
            Arc::default(),
        )
    }

    /// A process whose tasks are executed by something around what writes them down.
    pub fn with_executor(
        options: ShardsOptions,
        around: impl FnOnce(Arc<Seen>) -> Arc<dyn Executor>,
    ) -> Self {
        Self::build(
            alone(),
            Tasks::new("test"),
            MemoryStore::new().store(),
            options,
            Registry::fixed(vec![namespace()]),
            false,
            Arc::default(),
            around,
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
        clock: Arc<HostClock>,
    ) -> Self {
        Self::build(
            membership,
            tasks,
            base,
            options,
            registry,
            connected,
            clock,
            |seen| seen,
        )
    }

    #[expect(clippy::too_many_arguments, reason = "everything a process is made of")]
    fn build(
        membership: Membership,
        tasks: Tasks,
        base: Store,
        options: ShardsOptions,
        registry: Registry,
        connected: bool,
        clock: Arc<HostClock>,
        around: impl FnOnce(Arc<Seen>) -> Arc<dyn Executor>,
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
            clock: clock.clone(),
            tasks: tasks.clone(),
            settings: Settings::new(),
            metrics: metrics.clone(),
        };
        let shards = Shards::start(options.clone(), deps);
        let seen = Arc::new(Seen::default());
        let executor = around(seen.clone());
        shards.run_queues(Executors {
            transfer: executor.clone(),
            timer: executor,
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
            clock,
        }
    }

    /// The process dies: nothing more is written, everything in memory is gone. The store remains.
    pub async fn crash(self) -> Self {
        self.die().await;
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

    /// The same, and the other cluster is gone from the namespace and the directory of those that are connected.
    pub async fn disconnected(self) -> Self {
        assert!(self.tasks.shutdown(Duration::from_secs(30)).await);
        let alone = Namespace {
            clusters: vec!["a".into()],
            ..(*self.registry.all()[0]).clone()
        };
        Self::over(self.base, self.options, alone, false)
    }

    async fn die(&self) {
        self.faults.close();
        self.tasks.kill().await;
    }

    /// [`Self::crash`], and the next owner is a host with this clock.
    pub async fn crash_to(self, clock: Arc<HostClock>) -> Self {
        self.die().await;
        let registry = Registry::fixed(vec![(*self.registry.all()[0]).clone()]);
        Self::member(
            alone(),
            Tasks::new("test"),
            self.base,
            self.options,
            registry,
            false,
            clock,
        )
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
                    let context = txn.decision_context();
                    let (workflow, transition) = MutableState::start(start, &context.borrowed())?;
                    txn.insert(
                        workflow,
                        transition.events,
                        transition.tasks,
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
            .update(&key, |w, ctx| Ok((w.handle(request, ctx)?, ())))
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
            .update(&key, |w, ctx| Ok((w.handle(request, ctx)?, ())))
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

    /// Timer rows that are stored of a shard.
    pub fn timer_rows(&self, shard: proto_ids::ShardId) -> usize {
        let read = self.base.execution.timer_read(
            shard,
            Default::default(),
            proto_ids::Timestamp::MAX,
            100,
        );
        at_once(read).unwrap().len()
    }

    /// Whether the timer that the workflow asked for has fired.
    pub fn fired(&self, workflow_id: &str) -> bool {
        let is_it = |(t, _): &(QueuedTask, ExecutionMode)| {
            t.run.workflow_id.as_str() == workflow_id
                && matches!(t.task.kind, TaskKind::UserTimer { .. })
        };
        self.seen.tasks.lock().iter().any(is_it)
    }

    /// Whatever the runs of a shard owe is stored as a task, or was given to an executor. To be asked when
    /// nothing is under way.
    pub async fn assert_nothing_is_forgotten(&self, shard: proto_ids::ShardId) {
        let shard = self.shards.shard(shard).await.unwrap();
        let stored = shard.stored_tasks().await.unwrap();
        let limits = cluster_core::Limits::default();
        for run in shard.runs(None, 1_000).await.unwrap() {
            let owed = shard.read(&run, |w| match w.is_running() {
                true => w.pending_tasks(&limits),
                false => Vec::new(),
            });
            let is_executed =
                |kind: &TaskKind| matches!(kind.category(), Category::Transfer | Category::Timer);
            let owed = owed.await.unwrap();
            for task in owed.iter().filter(|t| is_executed(&t.kind)) {
                let is_it = |t: &QueuedTask| t.run == run && t.task.kind == task.kind;
                let was_executed = self.seen.tasks.lock().iter().any(|(t, _)| is_it(t));
                assert!(
                    was_executed || stored.iter().any(is_it),
                    "{run} owes {task:?}, which is nowhere"
                );
            }
        }
    }

    /// Signals the run has received.
    pub async fn signals(&self, workflow_id: &str) -> i64 {
        let shard = self.shard(workflow_id).await;
        let key = RunKey::new(NS, workflow_id, "");
        shard
            .read(&key, |w| w.execution_info.signal_count)
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
