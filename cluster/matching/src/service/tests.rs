//! The service over the memory store, with a history that starts whatever it is asked to.

use std::sync::atomic::{AtomicUsize, Ordering};

use cluster_membership::{Member, Role};
use cluster_runtime::clock::SystemClock;
use proto_messages::temporal::api::{
    common::v1::{Priority, WorkflowExecution},
    enums::v1::DescribeTaskQueueMode,
    query::v1::WorkflowQuery,
    taskqueue::v1::{TaskQueueStats, TaskQueueVersionSelection},
    workflowservice::v1::PollWorkflowTaskQueueResponse,
};
use proto_services::meridian::history::v1::history_service_server::HistoryService;
use proto_services::meridian::matching::v1::matching_service_server::MatchingService as _;
use schema_store::{
    memory::MemoryStore,
    task_queue::{BacklogAppend, BacklogTask},
};

use super::*;

const NAMESPACE: &str = "ns";

/// Starts tasks; those of workflow "gone" are obsolete. Counts how many starts had to be durable.
#[derive(Default)]
struct History {
    durable: AtomicUsize,
}

#[async_trait]
impl HistoryService for History {
    async fn record_workflow_task_started(
        &self,
        request: Request<RecordWorkflowTaskStartedRequest>,
    ) -> Result<Response<PollWorkflowTaskQueueResponse>, Status> {
        let request = request.into_inner();
        self.durable
            .fetch_add(usize::from(request.durable), Ordering::Relaxed);
        let execution = request.execution.unwrap_or_default();
        if execution.workflow_id == "gone" {
            return Err(status::not_found("Workflow task not found."));
        }
        Ok(Response::new(PollWorkflowTaskQueueResponse {
            task_token: execution.workflow_id.clone().into_bytes().into(),
            workflow_execution: Some(execution),
            ..Default::default()
        }))
    }
}

struct World {
    matching: Arc<MatchingService>,
    history: Arc<History>,
    tasks: Tasks,
}

fn world(store: &MemoryStore) -> World {
    let history = Arc::new(History::default());
    let client = HistoryClient::local(4);
    client.set_local(history.clone());
    let at = ([127, 0, 0, 1], 1).into();
    let tasks = Tasks::new("test");
    let matching = MatchingService::new(MatchingDeps {
        store: store.store().task_queue,
        history: client,
        membership: Membership::alone(Member {
            id: "me".into(),
            gossip: at,
            roles: vec![(Role::Matching, at)],
            incarnation: 1,
        }),
        overload: Default::default(),
        clock: SystemClock::shared(),
        registry: namespaces::Registry::fixed(Vec::new()),
        metrics: Metrics::new(),
        tasks: tasks.clone(),
    });
    World {
        matching,
        history,
        tasks,
    }
}

fn queue(name: &str, kind: TaskQueueKind) -> Option<TaskQueue> {
    Some(TaskQueue {
        name: name.into(),
        kind: kind as i32,
        ..Default::default()
    })
}

impl World {
    async fn add(&self, workflow: &str, kind: TaskQueueKind) -> Result<bool, Status> {
        let request = AddTaskRequest {
            namespace_id: NAMESPACE.into(),
            execution: Some(WorkflowExecution {
                workflow_id: workflow.into(),
                run_id: "run".into(),
            }),
            task_queue: queue("q", kind),
            scheduled_event_id: 2,
            attempt: 1,
            ..Default::default()
        };
        let added = self
            .matching
            .add_workflow_task(Request::new(request))
            .await?;
        Ok(added.into_inner().sync_matched)
    }

    async fn poll(&self, kind: TaskQueueKind) -> PollWorkflowTaskQueueResponse {
        let request = PollWorkflowTaskQueueRequest {
            namespace_id: NAMESPACE.into(),
            request: Some(api::PollWorkflowTaskQueueRequest {
                task_queue: queue("q", kind),
                identity: "worker".into(),
                ..Default::default()
            }),
            poller_id: "poll".into(),
        };
        let polled = self
            .matching
            .poll_workflow_task_queue(Request::new(request))
            .await;
        polled.expect("poll").into_inner()
    }

    async fn workflow_polled(&self) -> String {
        let polled = self.poll(TaskQueueKind::Normal).await;
        polled.workflow_execution.unwrap_or_default().workflow_id
    }
}

#[tokio::test]
async fn a_waiting_poller_gets_the_task_without_a_write() {
    let store = MemoryStore::new();
    let world = world(&store);
    let (polled, added) = tokio::join!(
        world.workflow_polled(),
        world.add("w", TaskQueueKind::Normal)
    );
    assert_eq!(polled, "w");
    assert!(
        added.expect("added"),
        "the poller was there, or came within the hold"
    );
    assert_eq!(world.history.durable.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn the_backlog_survives_its_owner_and_its_starts_are_durable() {
    let store = MemoryStore::new();
    let first = world(&store);
    for workflow in ["a", "gone", "b"] {
        let matched = first
            .add(workflow, TaskQueueKind::Normal)
            .await
            .expect("added");
        assert!(!matched, "nobody polls");
    }
    first.tasks.shutdown(Duration::from_secs(5)).await;

    let second = world(&store);
    assert_eq!(second.workflow_polled().await, "a");
    assert_eq!(
        second.workflow_polled().await,
        "b",
        "the obsolete one is passed over"
    );
    assert_eq!(second.history.durable.load(Ordering::Relaxed), 3);
    second.tasks.shutdown(Duration::from_secs(5)).await;

    // Everything was trimmed on the way out.
    let key = TaskQueueKey {
        namespace_id: NAMESPACE.into(),
        name: "q".into(),
        kind: WORKFLOW,
    };
    let left = store
        .store()
        .task_queue
        .task_queue_read(&key, Default::default(), 10)
        .await;
    assert_eq!(left.expect("read"), []);
}

#[tokio::test]
async fn the_old_owner_is_fenced_and_its_callers_are_told() {
    let store = MemoryStore::new();
    let (old, new) = (world(&store), world(&store));
    old.add("a", TaskQueueKind::Normal)
        .await
        .expect("first owner");
    new.add("b", TaskQueueKind::Normal)
        .await
        .expect("second owner takes it");
    let refused = old
        .add("c", TaskQueueKind::Normal)
        .await
        .expect_err("fenced");
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    // The next try loads the queue anew and takes it back.
    old.add("c", TaskQueueKind::Normal)
        .await
        .expect("taken back");
}

#[tokio::test]
async fn a_poll_that_goes_away_gives_its_task_back() {
    let store = MemoryStore::new();
    let world = world(&store);
    world.add("w", TaskQueueKind::Normal).await.expect("added");
    // Dropped at its first await, task in hand or not.
    let abandoned = tokio::time::timeout(Duration::ZERO, world.workflow_polled()).await;
    assert!(abandoned.is_ok_and(|w| w == "w") || world.workflow_polled().await == "w");
}

#[tokio::test]
async fn a_sticky_queue_without_a_worker_says_so() {
    let store = MemoryStore::new();
    let world = world(&store);
    let refused = world
        .add("w", TaskQueueKind::Sticky)
        .await
        .expect_err("no worker");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(refused.message(), "sticky worker unavailable");

    let (polled, added) = tokio::join!(biased; world.poll(TaskQueueKind::Sticky), world.add("w", TaskQueueKind::Sticky));
    assert!(added.expect("a worker polls"));
    assert_eq!(&polled.task_token[..], b"w");

    let stopped = ShutdownWorkerRequest {
        namespace_id: NAMESPACE.into(),
        request: Some(api::ShutdownWorkerRequest {
            sticky_task_queue: "q".into(),
            ..Default::default()
        }),
    };
    let stopped = Request::new(stopped);
    let stopped = world.matching.shutdown_worker(stopped);
    let (parked, _) = tokio::join!(biased; world.poll(TaskQueueKind::Sticky), stopped);
    assert_eq!(
        parked,
        PollWorkflowTaskQueueResponse::default(),
        "ends empty"
    );
    world
        .add("w", TaskQueueKind::Sticky)
        .await
        .expect_err("the worker is gone");
}

#[tokio::test]
async fn a_query_finds_a_worker_and_its_answer_finds_the_caller() {
    let store = MemoryStore::new();
    let world = world(&store);
    let query = QueryWorkflowRequest {
        namespace_id: NAMESPACE.into(),
        task_queue: queue("q", TaskQueueKind::Normal),
        request: Some(api::QueryWorkflowRequest {
            query: Some(WorkflowQuery {
                query_type: "state".into(),
                ..Default::default()
            }),
            ..Default::default()
        }),
        task: None,
    };
    let worker = async {
        let polled = world.poll(TaskQueueKind::Normal).await;
        assert_eq!(polled.query.unwrap_or_default().query_type, "state");
        let token = QueryToken::decode(polled.task_token).expect("token");
        let answer = RespondQueryTaskCompletedRequest {
            namespace_id: NAMESPACE.into(),
            task_queue: queue(&token.task_queue, TaskQueueKind::Normal),
            task_id: token.task_id.clone(),
            request: Some(api::RespondQueryTaskCompletedRequest {
                error_message: "answered".into(),
                ..Default::default()
            }),
        };
        let respond = || {
            world
                .matching
                .respond_query_task_completed(Request::new(answer.clone()))
        };
        respond().await.expect("first answer");
        assert_eq!(
            respond().await.expect_err("second answer").code(),
            Code::NotFound
        );
    };
    let (answered, ()) = tokio::join!(world.matching.query_workflow(Request::new(query)), worker);
    let answer = answered
        .expect("answered")
        .into_inner()
        .answer
        .unwrap_or_default();
    assert_eq!(answer.error_message, "answered");
}

#[tokio::test]
async fn stopping_ends_parked_polls() {
    let store = MemoryStore::new();
    let world = world(&store);
    let stop = async {
        assert!(world.tasks.shutdown(Duration::from_secs(5)).await);
    };
    let (polled, ()) = tokio::join!(biased; world.poll(TaskQueueKind::Normal), stop);
    assert_eq!(polled, PollWorkflowTaskQueueResponse::default());
}

/// A task of a workflow, created at this moment.
fn task_of(workflow: &str, priority: i32, created: prost_types::Timestamp) -> AddTaskRequest {
    AddTaskRequest {
        namespace_id: NAMESPACE.into(),
        execution: Some(WorkflowExecution {
            workflow_id: workflow.into(),
            run_id: "run".into(),
        }),
        task_queue: queue("q", TaskQueueKind::Normal),
        scheduled_event_id: 2,
        attempt: 1,
        created_time: Some(created),
        priority: Some(Priority {
            priority_key: priority,
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[tokio::test]
#[expect(
    deprecated,
    reason = "the whole mode is deprecated, and the CLI still asks in it"
)]
async fn describe_tells_what_waits_since_when_and_how_fast_it_comes() {
    let store = MemoryStore::new();
    let world = world(&store);
    let now = proto_ids::Timestamp::from_nanos(SystemClock::shared().now_nanos());
    let created = proto_messages::time::to_proto(proto_ids::Timestamp::from_nanos(
        now.nanos() - 60_000_000_000,
    ));
    for (n, priority) in [0, 0, 0, 1, 1].into_iter().enumerate() {
        let request = task_of(&format!("w{n}"), priority, created);
        let added = world
            .matching
            .add_workflow_task(Request::new(request))
            .await;
        assert!(!added.expect("added").into_inner().sync_matched);
    }
    let describe = async |public: api::DescribeTaskQueueRequest| {
        let request = DescribeTaskQueueRequest {
            namespace_id: NAMESPACE.into(),
            request: Some(api::DescribeTaskQueueRequest {
                task_queue: queue("q", TaskQueueKind::Normal),
                ..public
            }),
        };
        let described = world.matching.describe_task_queue(Request::new(request));
        described.await.map(Response::into_inner)
    };
    let is_told = |stats: &TaskQueueStats, count: i64| {
        assert_eq!(stats.approximate_backlog_count, count, "{stats:?}");
        let age = stats.approximate_backlog_age.expect("an age").seconds;
        assert!((60..600).contains(&age), "{stats:?}");
        assert!(stats.tasks_add_rate > 0.0 && stats.tasks_dispatch_rate == 0.0);
    };
    let plain = api::DescribeTaskQueueRequest {
        report_stats: true,
        ..Default::default()
    };
    let described = describe(plain).await.expect("described");
    is_told(&described.stats.expect("stats"), 5);
    is_told(&described.stats_by_priority_key[&3], 3);
    is_told(&described.stats_by_priority_key[&1], 2);

    let enhanced = api::DescribeTaskQueueRequest {
        report_stats: true,
        report_pollers: true,
        api_mode: DescribeTaskQueueMode::Enhanced as i32,
        ..Default::default()
    };
    let described = describe(enhanced.clone()).await.expect("described");
    let types = &described.versions_info[""].types_info;
    is_told(types[&WORKFLOW].stats.as_ref().expect("stats"), 5);
    let activities = types[&ACTIVITY].stats.as_ref().expect("stats");
    assert_eq!(activities.approximate_backlog_count, 0);
    assert!(types[&WORKFLOW].pollers.is_empty());

    world.workflow_polled().await;
    let described = describe(enhanced.clone()).await.expect("described");
    let info = &described.versions_info[""].types_info[&WORKFLOW];
    let stats = info.stats.as_ref().expect("stats");
    assert_eq!(stats.approximate_backlog_count, 4);
    assert!(stats.tasks_dispatch_rate > 0.0);
    assert_eq!(info.pollers[0].identity, "worker");

    let by_build = api::DescribeTaskQueueRequest {
        report_task_reachability: true,
        versions: Some(TaskQueueVersionSelection {
            build_ids: vec!["b".into()],
            ..Default::default()
        }),
        ..enhanced
    };
    let refused = describe(by_build).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    world.tasks.shutdown(Duration::from_secs(5)).await;
}

/// More than is held in memory, and none of it written by this process.
#[tokio::test]
async fn describe_counts_what_an_earlier_owner_left() {
    let store = MemoryStore::new();
    let key = TaskQueueKey {
        namespace_id: NAMESPACE.into(),
        name: "q".into(),
        kind: WORKFLOW,
    };
    let queues = store.store().task_queue;
    let range = queues
        .task_queue_acquire(&key)
        .await
        .expect("acquire")
        .range;
    let data = task_of("w", 0, prost_types::Timestamp::default()).encode_to_vec();
    let tasks = (1..=2_500).map(|id| BacklogTask {
        task_id: proto_ids::TaskId::new(id),
        data: data.clone().into(),
    });
    let append = BacklogAppend {
        key,
        range,
        tasks: tasks.collect(),
    };
    queues
        .task_queue_append(vec![append])
        .await
        .expect("append");
    let world = world(&store);
    let counted = async || {
        let request = DescribeTaskQueueRequest {
            namespace_id: NAMESPACE.into(),
            request: Some(api::DescribeTaskQueueRequest {
                task_queue: queue("q", TaskQueueKind::Normal),
                report_stats: true,
                ..Default::default()
            }),
        };
        let described = world.matching.describe_task_queue(Request::new(request));
        let stats = described.await.expect("described").into_inner().stats;
        stats.expect("stats").approximate_backlog_count
    };
    // What is read at this very moment may be counted twice.
    let settled = async {
        while counted().await != 2_500 {
            tokio::task::yield_now().await;
        }
    };
    let settled = tokio::time::timeout(Duration::from_secs(30), settled).await;
    settled.expect("all of them");
    world.tasks.shutdown(Duration::from_secs(5)).await;
}
