//! A run under test: requests go in, and after each of them the laws that hold for every decision are checked.

use std::time::Duration;

use cluster_core::{
    DecisionContext, EventBatch, IdSeed, Limits, MutableState, NewRun, Refusal, Reply, Request,
    Start, Task, TaskKind, Transition,
    request::{ActivityRef, Fire, Signal},
};
use proto_ids::{EventId, FailoverVersion, RunKey, Timestamp};
use proto_messages::temporal::api::{
    command::v1::{
        Command, CompleteWorkflowExecutionCommandAttributes, ScheduleActivityTaskCommandAttributes,
        StartTimerCommandAttributes, command::Attributes,
    },
    common::v1::{ActivityType, Payload, Payloads, RetryPolicy, WorkflowType},
    enums::v1::CommandType,
    failure::v1::{ApplicationFailureInfo, Failure, failure::FailureInfo},
    history::v1::HistoryEvent,
    taskqueue::v1::TaskQueue,
    workflowservice::v1::{RespondWorkflowTaskCompletedRequest, StartWorkflowExecutionRequest},
};

/// One run, its whole history and every task it ever emitted.
pub struct Run {
    pub ms: MutableState,
    pub history: Vec<EventBatch>,
    pub tasks: Vec<Task>,
    pub new_run: Option<NewRun>,
    pub reply: Reply,
    pub now: Timestamp,
    pub version: i64,
    pub limits: Limits,
    /// A replica that is sent every batch, and what it owes by them.
    standby: MutableState,
    standby_tasks: Vec<Task>,
    /// When timers of the activities and of the workflow were last looked at.
    activities_fired: Timestamp,
    pub seed: u8,
}

pub const T0: Timestamp = Timestamp::from_millis(1_700_000_000_000);

pub fn duration(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

pub fn payloads(text: &str) -> Option<Payloads> {
    let data = text.to_owned().into();
    Some(Payloads {
        payloads: vec![Payload {
            data,
            ..Payload::default()
        }],
    })
}

pub fn failure(kind: &str, non_retryable: bool) -> Option<Failure> {
    Some(Failure {
        message: kind.to_owned(),
        failure_info: Some(FailureInfo::ApplicationFailureInfo(
            ApplicationFailureInfo {
                r#type: kind.to_owned(),
                non_retryable,
                ..Default::default()
            },
        )),
        ..Default::default()
    })
}

pub fn start_request() -> StartWorkflowExecutionRequest {
    StartWorkflowExecutionRequest {
        namespace: "default".into(),
        workflow_id: "wf".into(),
        workflow_type: Some(WorkflowType {
            name: "kind".into(),
        }),
        task_queue: Some(TaskQueue {
            name: "queue".into(),
            ..Default::default()
        }),
        input: payloads("input"),
        request_id: "start".into(),
        ..Default::default()
    }
}

pub fn start_of(request: StartWorkflowExecutionRequest) -> Start {
    Start {
        key: RunKey::new("ns", "wf", "run-1"),
        request: Box::new(request),
        ..Default::default()
    }
}

impl Run {
    pub fn new() -> Self {
        Self::with(
            start_of(start_request()),
            Limits {
                namespace: "default".into(),
                ..Limits::default()
            },
        )
    }

    pub fn with(start: Start, limits: Limits) -> Self {
        Self::try_with(start, limits).expect("starts")
    }

    pub fn try_with(start: Start, limits: Limits) -> Result<Self, Refusal> {
        let ctx = DecisionContext {
            now: T0,
            version: FailoverVersion::new(1),
            clock: 0,
            limits: &limits,
            seed: seed(0),
        };
        let (ms, transition) = MutableState::start(start, &ctx)?;
        let (wf_key, wf_branch) = (ms.key.clone(), ms.versions.current().branch.clone());
        let mut run = Run {
            ms,
            history: Vec::new(),
            tasks: Vec::new(),
            new_run: None,
            reply: Reply::Nothing,
            now: T0,
            version: 1,
            limits,
            standby: MutableState::empty(wf_key, wf_branch),
            standby_tasks: Vec::new(),
            activities_fired: Timestamp::ZERO,
            seed: 1,
        };
        run.take(transition);
        run.check();
        Ok(run)
    }

    /// A run that another one made.
    pub fn follow(new_run: NewRun, before: &Run) -> Self {
        let ms = new_run.mutable_state;
        let mut standby = MutableState::empty(ms.key.clone(), ms.versions.current().branch.clone());
        let mut standby_tasks = Vec::new();
        for batch in &new_run.events {
            let applied = standby.apply(batch, &before.limits).expect("applies");
            standby_tasks.extend(applied.tasks);
        }
        Run {
            ms,
            standby,
            standby_tasks,
            activities_fired: Timestamp::ZERO,
            history: new_run.events,
            tasks: new_run.tasks,
            new_run: None,
            reply: Reply::Nothing,
            now: before.now,
            version: before.version,
            limits: before.limits.clone(),
            seed: 100,
        }
    }

    fn take(&mut self, transition: Transition) {
        for batch in &transition.events {
            let applied = self.standby.apply(batch, &self.limits).expect("applies");
            self.standby_tasks.extend(applied.tasks);
        }
        self.history.extend(transition.events);
        self.tasks.extend(transition.tasks);
        self.reply = transition.reply;
        if let Some(new_run) = transition.new_run {
            self.new_run = Some(*new_run);
        }
    }

    pub fn wait(&mut self, d: Duration) -> &mut Self {
        self.now = self.now.plus(d);
        self
    }

    pub fn seconds(&mut self, seconds: u64) -> &mut Self {
        self.wait(Duration::from_secs(seconds))
    }

    /// Decides a request; a refused one must leave no trace.
    pub fn ask(&mut self, request: Request) -> Result<(), Refusal> {
        let limits = self.limits.clone();
        let ctx = DecisionContext {
            now: self.now,
            version: FailoverVersion::new(self.version),
            clock: 2 * i64::from(self.seed) + 2,
            limits: &limits,
            seed: seed(self.seed),
        };
        self.seed = self.seed.wrapping_add(1);
        let before = self.ms.clone();
        let timers = matches!(request, Request::Fire(Fire::ActivityTimeouts));
        // The same input twice gives the same bytes.
        let twin = before.clone().handle(request.clone(), &ctx);
        match self.ms.handle(request, &ctx) {
            Ok(transition) => {
                if timers {
                    self.activities_fired = self.now;
                }
                let twin = twin.expect("decides alike");
                assert_eq!(twin.events, transition.events);
                assert_eq!(twin.tasks, transition.tasks);
                self.take(transition);
                self.check();
                Ok(())
            }
            Err(refusal) => {
                assert!(!matches!(refusal, Refusal::Corrupt(_)), "{refusal:?}");
                assert_eq!(self.ms, before, "a refusal leaves no trace");
                Err(refusal)
            }
        }
    }

    pub fn must(&mut self, request: Request) -> &mut Self {
        self.ask(request).expect("is taken");
        self
    }

    pub fn events(&self) -> impl Iterator<Item = &HistoryEvent> {
        self.history.iter().flat_map(|b| &b.events)
    }

    /// Names of the events from `id` on.
    pub fn names_from(&self, id: i64) -> Vec<String> {
        self.events()
            .filter(|e| e.event_id >= id)
            .map(|e| format!("{:?}", e.event_type()))
            .collect()
    }

    pub fn last(&self) -> &HistoryEvent {
        self.events().last().expect("has events")
    }

    pub fn signal(&mut self, name: &str) -> &mut Self {
        let signal = Signal {
            name: name.into(),
            ..Default::default()
        };
        self.must(Request::Signal {
            signal,
            only_from_parent: None,
        })
    }

    /// A worker takes the pending workflow task.
    pub fn poll(&mut self) -> &mut Self {
        let task = self
            .ms
            .execution_info
            .workflow_task
            .clone()
            .expect("a task is pending");
        self.must(Request::StartWorkflowTask {
            scheduled_event_id: task.scheduled_event_id,
            attempt: task.attempt,
            request_id: format!("poll-{}", self.now.nanos()),
            identity: "worker".into(),
            task_queue: TaskQueue::default(),
            build_id: String::new(),
        })
    }

    pub fn completion(&self, commands: Vec<Command>) -> Request {
        self.completion_of(RespondWorkflowTaskCompletedRequest {
            commands,
            identity: "worker".into(),
            ..Default::default()
        })
    }

    pub fn completion_of(&self, request: RespondWorkflowTaskCompletedRequest) -> Request {
        let task = self
            .ms
            .execution_info
            .workflow_task
            .clone()
            .unwrap_or_default();
        Request::CompleteWorkflowTask {
            scheduled_event_id: task.scheduled_event_id,
            started_event_id: task.started_event_id,
            attempt: task.attempt,
            request: Box::new(request),
            queries_pending: false,
        }
    }

    pub fn complete(&mut self, commands: Vec<Command>) -> &mut Self {
        let request = self.completion(commands);
        self.must(request)
    }

    pub fn fail_task(&mut self) -> &mut Self {
        let task = self
            .ms
            .execution_info
            .workflow_task
            .clone()
            .expect("a task is pending");
        self.must(Request::FailWorkflowTask {
            scheduled_event_id: task.scheduled_event_id,
            started_event_id: task.started_event_id,
            attempt: task.attempt,
            cause: proto_messages::temporal::api::enums::v1::WorkflowTaskFailedCause::WorkflowWorkerUnhandledFailure,
            failure: None,
            identity: "worker".into(),
            binary_checksum: String::new(),
        })
    }

    pub fn start_activity(&mut self) -> &mut Self {
        let a = self
            .ms
            .activities
            .values()
            .find(|a| !a.is_started())
            .expect("one waits");
        let (scheduled_event_id, attempt) = (a.scheduled_event_id, a.attempt);
        self.must(Request::StartActivity {
            scheduled_event_id,
            attempt,
            request_id: format!("take-{}", self.now.nanos()),
            identity: "worker".into(),
        })
    }

    /// The started activity's token.
    pub fn token(&self) -> ActivityRef {
        let a = self
            .ms
            .activities
            .values()
            .find(|a| a.is_started())
            .expect("one runs");
        ActivityRef::Token {
            scheduled_event_id: a.scheduled_event_id,
            attempt: a.attempt,
        }
    }

    pub fn complete_activity(&mut self) -> &mut Self {
        let activity = self.token();
        self.must(Request::CompleteActivity {
            activity,
            result: payloads("done"),
            identity: "worker".into(),
        })
    }

    pub fn fail_activity(&mut self, failure: Option<Failure>) -> &mut Self {
        let activity = self.token();
        self.must(Request::FailActivity {
            activity,
            failure,
            last_heartbeat_details: None,
            identity: "worker".into(),
        })
    }

    pub fn fire(&mut self, fire: Fire) -> &mut Self {
        self.must(Request::Fire(fire))
    }

    /// The laws of every decision.
    pub fn check(&self) {
        let mut next = 1;
        let mut version = 0;
        for batch in &self.history {
            for event in &batch.events {
                assert_eq!(event.event_id, next, "ids are gapless");
                assert!(event.version >= version, "versions never fall");
                next += 1;
                version = event.version;
            }
        }
        assert_eq!(self.ms.execution_info.next_event_id.get(), next);
        let (replayed, _) = MutableState::replay(
            self.ms.key.clone(),
            self.ms.versions.current().branch.clone(),
            self.history.clone(),
            &self.limits,
        )
        .expect("own history applies");
        if self.ms.buffered.is_empty() {
            let (replayed, live) = (
                durable(replayed, &self.ms),
                durable(self.ms.clone(), &self.ms),
            );
            assert!(replayed == live, "{}", difference(&replayed, &live));
        }
        if self.ms.buffered.is_empty() {
            let at = self.activities_fired;
            assert_covered(&self.ms, &self.tasks, at, &self.limits);
            assert_covered(
                &self.standby,
                &self.standby_tasks,
                Timestamp::ZERO,
                &self.limits,
            );
        }
        let rebuilt = self.ms.pending_tasks(&self.limits);
        for task in self.tasks.iter().filter(|t| self.ms.is_pending(&t.kind)) {
            assert!(
                is_among(task, &rebuilt, &self.ms),
                "{task:?} is not among {rebuilt:?}"
            );
        }
    }
}

/// Everything owed by state has a task that was emitted and has not fired.
fn assert_covered(
    ms: &MutableState,
    emitted: &[Task],
    activities_fired: Timestamp,
    limits: &Limits,
) {
    for task in ms.pending_tasks(limits) {
        let covered = match &task.kind {
            // The attempts of a reset run are dispatched by what the reset rebuilt.
            TaskKind::ActivityTimeout {
                scheduled_event_id, ..
            } => {
                let activity = &ms.activities[scheduled_event_id];
                let earliest = activity.deadlines()[0].0;
                earliest <= activities_fired
                    || emitted.iter().any(|t| {
                        t.fire_at > Some(activities_fired)
                            && t.fire_at <= Some(earliest)
                            && matches!(&t.kind, TaskKind::ActivityTimeout { scheduled_event_id: id, .. }
                                if id == scheduled_event_id)
                    })
            }
            kind => emitted
                .iter()
                .any(|t| t.kind == *kind && t.fire_at == task.fire_at),
        };
        assert!(covered, "{task:?} was never emitted among {emitted:?}");
    }
}

/// Whether an owed task is covered by the rebuilt ones. Replication tasks are kept by the log alone, and an
/// attempt whose back-off is over is rebuilt as the back-off.
fn is_among(task: &Task, rebuilt: &[Task], ms: &MutableState) -> bool {
    let same = |kind: &TaskKind| rebuilt.iter().any(|t| t.kind == *kind);
    match &task.kind {
        TaskKind::ReplicateHistory { .. } | TaskKind::SyncActivity { .. } => true,
        TaskKind::UserTimer { started_event_id } => {
            !ms.timers.values().any(|t| t.started_event_id == *started_event_id) || same(&task.kind)
        }
        TaskKind::Activity { scheduled_event_id, attempt } if *attempt > 1 => {
            same(&TaskKind::ActivityRetry {
                scheduled_event_id: *scheduled_event_id,
                attempt: *attempt,
            })
        }
        // One timeout of an activity stands for all, as long as none is later than the earliest.
        TaskKind::ActivityTimeout { scheduled_event_id, .. } => rebuilt.iter().any(|t| {
            matches!(&t.kind, TaskKind::ActivityTimeout { scheduled_event_id: id, .. } if id == scheduled_event_id)
        }),
        kind => same(kind),
    }
}

/// The lines in which two states differ.
fn difference(replayed: &MutableState, live: &MutableState) -> String {
    let (replayed, live) = (format!("{replayed:#?}"), format!("{live:#?}"));
    let lines: Vec<String> = replayed
        .lines()
        .zip(live.lines())
        .filter(|(a, b)| a != b)
        .take(8)
        .map(|(a, b)| format!("replayed {}, live {}", a.trim(), b.trim()))
        .collect();
    lines.join("\n")
}

/// The state without what history does not tell: attempts in flight, who asked, counters of decisions.
fn durable(mut ms: MutableState, live: &MutableState) -> MutableState {
    ms.start.request_id.clear();
    ms.execution_info.state_transition_count = 0;
    ms.execution_info.last_update_time = Timestamp::ZERO;
    ms.execution_info.sticky = None;
    ms.execution_info.cancel_request = ms.execution_info.cancel_request.map(|_| String::new());
    ms.execution_info.close_attempted = false;
    ms.execution_info.reapplied.clear();
    ms.execution_info.workflow_task_heartbeat_since = Timestamp::ZERO;
    ms.execution_info.workflow_task_attempt = 0;
    if live
        .execution_info
        .workflow_task
        .as_ref()
        .is_some_and(|t| t.attempt > 1)
    {
        // Attempts after the first failure are in state only.
        ms.execution_info.workflow_task = None;
    }
    if let Some(task) = &mut ms.execution_info.workflow_task {
        task.sticky = false;
        task.task_queue.clear();
        task.original_scheduled_time = Timestamp::ZERO;
    }
    let in_history = |told: cluster_core::mutable_state::ActivityInfo| {
        cluster_core::mutable_state::ActivityInfo {
            scheduled_event_id: told.scheduled_event_id,
            scheduled_batch_id: told.scheduled_batch_id,
            activity_id: told.activity_id,
            activity_type: told.activity_type,
            task_queue: told.task_queue,
            input: told.input,
            header: told.header,
            scheduled_time: told.scheduled_time,
            started_event_id: told.started_event_id,
            schedule_to_close_timeout: told.schedule_to_close_timeout,
            schedule_to_start_timeout: told.schedule_to_start_timeout,
            start_to_close_timeout: told.start_to_close_timeout,
            heartbeat_timeout: told.heartbeat_timeout,
            retry_policy: told.retry_policy,
            retry_expiration: told.retry_expiration,
            cancel_requested_event_id: told.cancel_requested_event_id,
            ..Default::default()
        }
    };
    let activities = ms.activities.values().cloned();
    ms.activities = activities.map(in_history).collect();
    ms
}

fn seed(n: u8) -> IdSeed {
    IdSeed([n; 16])
}

pub fn command(kind: CommandType, attributes: Attributes) -> Command {
    Command {
        command_type: kind.into(),
        attributes: Some(attributes),
        ..Default::default()
    }
}

pub fn finish() -> Command {
    command(
        CommandType::CompleteWorkflowExecution,
        Attributes::CompleteWorkflowExecutionCommandAttributes(
            CompleteWorkflowExecutionCommandAttributes {
                result: payloads("result"),
            },
        ),
    )
}

pub fn timer(id: &str, seconds: i64) -> Command {
    command(
        CommandType::StartTimer,
        Attributes::StartTimerCommandAttributes(StartTimerCommandAttributes {
            timer_id: id.into(),
            start_to_fire_timeout: duration(seconds),
        }),
    )
}

pub fn activity(id: &str) -> ScheduleActivityTaskCommandAttributes {
    ScheduleActivityTaskCommandAttributes {
        activity_id: id.into(),
        activity_type: Some(ActivityType { name: "act".into() }),
        task_queue: Some(TaskQueue {
            name: "queue".into(),
            ..Default::default()
        }),
        input: payloads("in"),
        start_to_close_timeout: duration(30),
        heartbeat_timeout: duration(10),
        retry_policy: Some(RetryPolicy {
            maximum_attempts: 3,
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub fn schedule(attributes: ScheduleActivityTaskCommandAttributes) -> Command {
    command(
        CommandType::ScheduleActivityTask,
        Attributes::ScheduleActivityTaskCommandAttributes(attributes),
    )
}

pub fn id(n: i64) -> EventId {
    EventId::new(n)
}
