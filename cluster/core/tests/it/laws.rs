//! Laws under random scripts. `Run::ask` checks them after every request: replay equals live, the same input
//! gives the same bytes, owed tasks are among the rebuilt ones, ids are gapless, versions never fall, and a
//! refusal leaves no trace. What is taken or refused is up to the rules.

use std::time::Duration;

use cluster_core::{
    BranchToken, DecisionContext, EventBatch, IdSeed, Limits, MutableState, Refusal, Request,
    Reset,
    request::{ActivityRef, Fire, Signal},
    task::Timeout,
};
use proptest::prelude::*;
use proto_ids::{EventId, FailoverVersion, RunId};
use proto_messages::temporal::api::{
    command::v1::{
        CancelTimerCommandAttributes, Command, ContinueAsNewWorkflowExecutionCommandAttributes,
        FailWorkflowExecutionCommandAttributes, RecordMarkerCommandAttributes,
        RequestCancelActivityTaskCommandAttributes,
        RequestCancelExternalWorkflowExecutionCommandAttributes,
        SignalExternalWorkflowExecutionCommandAttributes,
        StartChildWorkflowExecutionCommandAttributes, command::Attributes as C,
    },
    common::v1::{WorkflowExecution, WorkflowType},
    enums::v1::{CommandType, StartChildWorkflowExecutionFailedCause, WorkflowTaskFailedCause},
    history::v1::{
        HistoryEvent, WorkflowExecutionCompletedEventAttributes, history_event::Attributes,
    },
    taskqueue::v1::{StickyExecutionAttributes, TaskQueue},
    workflowservice::v1::RespondWorkflowTaskCompletedRequest,
};

use crate::script::{
    Run, activity, command, duration, failure, finish, payloads, schedule, start_of, start_request,
    timer,
};

#[derive(Clone, Debug)]
enum Step {
    Signal(u8),
    Cancel,
    Terminate,
    Poll,
    Complete {
        commands: Vec<Act>,
        sticky: bool,
        inline: bool,
        heartbeat: bool,
    },
    FailTask,
    StartActivity(usize),
    Heartbeat(usize),
    CompleteActivity(usize),
    FailActivity(usize, bool),
    CancelActivity(usize),
    Fire(u8),
    ChildStarted(usize, bool),
    ChildClosed(usize),
    ExternalSignaled(usize),
    ExternalCanceled(usize),
    Wait(u16),
    FailOver,
    Reapply(u8),
    ResetSticky,
}

#[derive(Clone, Debug)]
enum Act {
    Schedule { id: u8, attempts: i32 },
    CancelActivity(usize),
    StartTimer(u8, u16),
    CancelTimer(u8),
    Marker,
    StartChild(u8),
    SignalExternal,
    CancelExternal(u8),
    Finish,
    Fail,
    ContinueAsNew,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..4u8, 0..3i32).prop_map(|(id, attempts)| Act::Schedule { id, attempts }),
        2 => (0..4usize).prop_map(Act::CancelActivity),
        3 => (0..3u8, 1..100u16).prop_map(|(id, s)| Act::StartTimer(id, s)),
        2 => (0..3u8).prop_map(Act::CancelTimer),
        1 => Just(Act::Marker),
        2 => (0..3u8).prop_map(Act::StartChild),
        1 => Just(Act::SignalExternal),
        1 => (0..3u8).prop_map(Act::CancelExternal),
    ]
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let last = prop_oneof![
        12 => Just(None),
        1 => Just(Some(Act::Finish)),
        1 => Just(Some(Act::Fail)),
        1 => Just(Some(Act::ContinueAsNew)),
    ];
    (prop::collection::vec(act(), 0..4), last).prop_map(|(mut acts, last)| {
        acts.extend(last);
        acts
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..20u8).prop_map(Step::Signal),
        1 => Just(Step::Cancel),
        10 => Just(Step::Poll),
        10 => (acts(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
            |(commands, sticky, inline, heartbeat)| Step::Complete { commands, sticky, inline, heartbeat }
        ),
        3 => Just(Step::FailTask),
        5 => (0..4usize).prop_map(Step::StartActivity),
        2 => (0..4usize).prop_map(Step::Heartbeat),
        4 => (0..4usize).prop_map(Step::CompleteActivity),
        3 => (0..4usize, any::<bool>()).prop_map(|(i, n)| Step::FailActivity(i, n)),
        1 => (0..4usize).prop_map(Step::CancelActivity),
        6 => (0..6u8).prop_map(Step::Fire),
        3 => (0..3usize, any::<bool>()).prop_map(|(i, ok)| Step::ChildStarted(i, ok)),
        2 => (0..3usize).prop_map(Step::ChildClosed),
        1 => (0..3usize).prop_map(Step::ExternalSignaled),
        1 => (0..3usize).prop_map(Step::ExternalCanceled),
        5 => (0..60u16).prop_map(Step::Wait),
        1 => Just(Step::FailOver),
        1 => (0..5u8).prop_map(Step::Reapply),
        1 => Just(Step::ResetSticky),
        // Rare, since nothing follows.
        1 => prop::bool::weighted(0.2).prop_map(|end| if end { Step::Terminate } else { Step::Poll }),
    ]
}

fn nth<T: Clone>(items: impl Iterator<Item = T>, n: usize) -> Option<T> {
    let items: Vec<T> = items.collect();
    if items.is_empty() {
        None
    } else {
        Some(items[n % items.len()].clone())
    }
}

fn to_command(act: &Act, run: &Run) -> Command {
    match act {
        Act::Schedule { id, attempts } => {
            let mut a = activity(&format!("a{id}"));
            if let Some(policy) = &mut a.retry_policy {
                policy.maximum_attempts = *attempts;
            }
            a.schedule_to_close_timeout = (id % 2 == 0).then(|| duration(90)).flatten();
            schedule(a)
        }
        Act::CancelActivity(n) => command(
            CommandType::RequestCancelActivityTask,
            C::RequestCancelActivityTaskCommandAttributes(
                RequestCancelActivityTaskCommandAttributes {
                    scheduled_event_id: nth(run.ms.activities.keys(), *n).map_or(3, |id| id.get()),
                },
            ),
        ),
        Act::StartTimer(id, seconds) => timer(&format!("t{id}"), i64::from(*seconds)),
        Act::CancelTimer(id) => command(
            CommandType::CancelTimer,
            C::CancelTimerCommandAttributes(CancelTimerCommandAttributes {
                timer_id: format!("t{id}"),
            }),
        ),
        Act::Marker => command(
            CommandType::RecordMarker,
            C::RecordMarkerCommandAttributes(RecordMarkerCommandAttributes {
                marker_name: "m".into(),
                ..Default::default()
            }),
        ),
        Act::StartChild(id) => command(
            CommandType::StartChildWorkflowExecution,
            C::StartChildWorkflowExecutionCommandAttributes(
                StartChildWorkflowExecutionCommandAttributes {
                    workflow_id: format!("child{id}"),
                    workflow_type: Some(WorkflowType {
                        name: "child".into(),
                    }),
                    ..Default::default()
                },
            ),
        ),
        Act::SignalExternal => command(
            CommandType::SignalExternalWorkflowExecution,
            C::SignalExternalWorkflowExecutionCommandAttributes(
                SignalExternalWorkflowExecutionCommandAttributes {
                    execution: Some(WorkflowExecution {
                        workflow_id: "o".into(),
                        ..Default::default()
                    }),
                    signal_name: "s".into(),
                    ..Default::default()
                },
            ),
        ),
        Act::CancelExternal(id) => command(
            CommandType::RequestCancelExternalWorkflowExecution,
            C::RequestCancelExternalWorkflowExecutionCommandAttributes(
                RequestCancelExternalWorkflowExecutionCommandAttributes {
                    workflow_id: format!("child{id}"),
                    ..Default::default()
                },
            ),
        ),
        Act::Finish => finish(),
        Act::Fail => command(
            CommandType::FailWorkflowExecution,
            C::FailWorkflowExecutionCommandAttributes(FailWorkflowExecutionCommandAttributes {
                failure: failure("broken", false),
            }),
        ),
        Act::ContinueAsNew => command(
            CommandType::ContinueAsNewWorkflowExecution,
            C::ContinueAsNewWorkflowExecutionCommandAttributes(
                ContinueAsNewWorkflowExecutionCommandAttributes {
                    input: payloads("next"),
                    ..Default::default()
                },
            ),
        ),
    }
}

fn token(run: &Run, n: usize) -> ActivityRef {
    nth(
        run.ms
            .activities
            .values()
            .map(|a| (a.scheduled_event_id, a.attempt)),
        n,
    )
    .map_or(
        ActivityRef::Id("none".into()),
        |(scheduled_event_id, attempt)| ActivityRef::Token {
            scheduled_event_id,
            attempt,
        },
    )
}

/// The request of a step, in the state the run is in.
fn request(step: &Step, run: &mut Run) -> Option<Request> {
    let identity = "worker".to_owned();
    let task = run
        .ms
        .execution_info
        .workflow_task
        .clone()
        .unwrap_or_default();
    Some(match step {
        Step::Signal(n) => Request::Signal {
            signal: Signal {
                name: "s".into(),
                request_id: if *n < 10 {
                    format!("r{n}")
                } else {
                    String::new()
                },
                ..Default::default()
            },
            only_from_parent: None,
        },
        Step::Cancel => Request::Cancel {
            reason: "why".into(),
            identity,
            request_id: "c".into(),
            external: None,
            child_only: false,
            links: Vec::new(),
        },
        Step::Terminate => Request::Terminate {
            reason: "why".into(),
            details: None,
            identity,
            only_from_parent: None,
            first_execution_run_id: RunId::default(),
            links: Vec::new(),
        },
        Step::Poll => Request::StartWorkflowTask {
            scheduled_event_id: task.scheduled_event_id,
            attempt: task.attempt,
            request_id: format!("p{}", run.now.nanos()),
            identity,
            task_queue: TaskQueue::default(),
            build_id: String::new(),
        },
        Step::Complete {
            commands,
            sticky,
            inline,
            heartbeat,
        } => {
            let commands = commands.iter().map(|a| to_command(a, run)).collect();
            run.completion_of(RespondWorkflowTaskCompletedRequest {
                commands,
                identity,
                sticky_attributes: sticky.then(|| StickyExecutionAttributes {
                    worker_task_queue: Some(TaskQueue {
                        name: "sticky".into(),
                        ..Default::default()
                    }),
                    schedule_to_start_timeout: duration(5),
                }),
                return_new_workflow_task: *inline,
                force_create_new_workflow_task: *heartbeat,
                ..Default::default()
            })
        }
        Step::FailTask => Request::FailWorkflowTask {
            scheduled_event_id: task.scheduled_event_id,
            started_event_id: task.started_event_id,
            attempt: task.attempt,
            cause: WorkflowTaskFailedCause::WorkflowWorkerUnhandledFailure,
            failure: None,
            identity,
            binary_checksum: String::new(),
        },
        Step::Wait(seconds) => {
            run.wait(Duration::from_secs(u64::from(*seconds)));
            return None;
        }
        Step::FailOver => {
            run.version += 10;
            return None;
        }
        Step::Reapply(n) => Request::Reapply {
            run_id: RunId::new("other"),
            events: vec![HistoryEvent {
                event_id: i64::from(*n),
                version: 1,
                attributes: Some(Attributes::WorkflowExecutionSignaledEventAttributes(
                    Default::default(),
                )),
                ..Default::default()
            }],
        },
        Step::ResetSticky => Request::ResetSticky,
        _ => return activity_request(step, run),
    })
}

fn activity_request(step: &Step, run: &Run) -> Option<Request> {
    let identity = "worker".to_owned();
    Some(match step {
        Step::StartActivity(n) => {
            let (scheduled_event_id, attempt) = nth(
                run.ms
                    .activities
                    .values()
                    .map(|a| (a.scheduled_event_id, a.attempt)),
                *n,
            )?;
            Request::StartActivity {
                scheduled_event_id,
                attempt,
                request_id: format!("t{}", run.now.nanos()),
                identity,
            }
        }
        Step::Heartbeat(n) => Request::Heartbeat {
            activity: token(run, *n),
            details: payloads("h"),
            identity,
        },
        Step::CompleteActivity(n) => Request::CompleteActivity {
            activity: token(run, *n),
            result: None,
            identity,
        },
        Step::FailActivity(n, non_retryable) => Request::FailActivity {
            activity: token(run, *n),
            failure: failure("x", *non_retryable),
            last_heartbeat_details: None,
            identity,
        },
        Step::CancelActivity(n) => Request::CancelActivity {
            activity: token(run, *n),
            details: None,
            identity,
        },
        _ => return outside_request(step, run),
    })
}

fn outside_request(step: &Step, run: &Run) -> Option<Request> {
    let task = run
        .ms
        .execution_info
        .workflow_task
        .clone()
        .unwrap_or_default();
    let child = |n| {
        nth(run.ms.children.keys(), n)
            .copied()
            .unwrap_or(EventId::new(1))
    };
    let timeout_of = |timeout| Fire::WorkflowTaskTimeout {
        scheduled_event_id: task.scheduled_event_id,
        attempt: task.attempt,
        timeout,
    };
    Some(match step {
        Step::Fire(n) => Request::Fire(match n {
            0 => Fire::UserTimers,
            1 => Fire::ActivityTimeouts,
            2 => timeout_of(Timeout::StartToClose),
            3 => timeout_of(Timeout::ScheduleToStart),
            4 => Fire::RunTimeout,
            _ => {
                let (scheduled_event_id, attempt) = nth(
                    run.ms
                        .activities
                        .values()
                        .map(|a| (a.scheduled_event_id, a.attempt)),
                    0,
                )?;
                Fire::ActivityRetry {
                    scheduled_event_id,
                    attempt,
                }
            }
        }),
        Step::ChildStarted(n, ok) => Request::ChildStarted {
            initiated_event_id: child(*n),
            result: if *ok {
                Ok(RunId::new("child-run"))
            } else {
                Err(StartChildWorkflowExecutionFailedCause::WorkflowAlreadyExists)
            },
        },
        Step::ChildClosed(n) => {
            let initiated_event_id = child(*n);
            let workflow_id = run
                .ms
                .children
                .get(&initiated_event_id)
                .map(|c| c.workflow_id.clone())
                .unwrap_or_default();
            Request::ChildClosed {
                initiated_event_id,
                child: WorkflowExecution {
                    workflow_id,
                    run_id: "child-run".into(),
                },
                event: Box::new(HistoryEvent {
                    attributes: Some(Attributes::WorkflowExecutionCompletedEventAttributes(
                        WorkflowExecutionCompletedEventAttributes::default(),
                    )),
                    ..Default::default()
                }),
            }
        }
        Step::ExternalSignaled(n) => Request::ExternalSignaled {
            initiated_event_id: nth(run.ms.external_signals.keys(), *n).copied()?,
            result: Ok(()),
        },
        Step::ExternalCanceled(n) => Request::ExternalCanceled {
            initiated_event_id: nth(run.ms.external_cancels.keys(), *n).copied()?,
            result: Ok(()),
        },
        _ => return None,
    })
}

/// A reset to any point either is refused or makes a run for which the same laws hold.
fn reset_everywhere(run: &Run) {
    for finish in 2..run.ms.execution_info.next_event_id.get() {
        let mut kept: Vec<EventBatch> = Vec::new();
        let mut later = Vec::new();
        for batch in &run.history {
            let (before, after): (Vec<_>, Vec<_>) = batch
                .events
                .iter()
                .cloned()
                .partition(|e| e.event_id < finish);
            if !before.is_empty() {
                kept.push(EventBatch { events: before });
            }
            later.extend(after);
        }
        let reset = Reset {
            new_run_id: RunId::new("reset-run"),
            finish_event_id: EventId::new(finish),
            reason: "why".into(),
            request_id: "reset".into(),
            ..Reset::default()
        };
        let ctx = DecisionContext {
            now: run.now,
            version: FailoverVersion::new(run.version),
            clock: 0,
            limits: &run.limits,
            seed: IdSeed([9; 16]),
        };
        match MutableState::reset(&run.ms, kept.clone(), later, &reset, &ctx) {
            Ok(mut made) => {
                kept.append(&mut made.events);
                made.events = kept;
                let made = Run::follow(made, run);
                made.check();
                assert!(made.ms.execution_info.workflow_task.is_some());
            }
            Err(refusal) => assert!(matches!(refusal, Refusal::Invalid(_)), "{refusal:?}"),
        }
    }
}

/// History from the network or from disk may be anything; it is refused, not stumbled over.
fn hostile(run: &Run, seed: u64) {
    let mut events: Vec<HistoryEvent> = run.events().cloned().collect();
    let mut random = seed;
    let mut next = |below: usize| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % below.max(1)
    };
    for _ in 0..3 {
        let (a, b) = (next(events.len()), next(events.len()));
        match next(4) {
            0 => events.swap(a, b),
            1 => drop(events.remove(a)),
            2 => events.insert(a, events[b].clone()),
            _ => events[a].attributes = None,
        }
        if events.is_empty() {
            return;
        }
    }
    for (i, event) in events.iter_mut().enumerate() {
        event.event_id = i as i64 + 1;
    }
    let mut ms = MutableState::empty(run.ms.key.clone(), BranchToken::default());
    for event in events {
        if ms
            .apply(
                &EventBatch {
                    events: vec![event],
                },
                &run.limits,
            )
            .is_err()
        {
            return;
        }
        ms.pending_tasks(&run.limits);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn hold_for_any_script(
        steps in prop::collection::vec(step(), 1..60),
        replicated in any::<bool>(),
        eager in any::<bool>(),
        retries in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let limits = Limits {
            namespace: "default".into(),
            replicated,
            eager_activities: eager,
            buffered_events_limit: 5,
            ..Limits::default()
        };
        let mut request_to_start = start_request();
        request_to_start.workflow_run_timeout = duration(1_500);
        request_to_start.retry_policy = retries.then(Default::default);
        let mut run = Run::with(start_of(request_to_start), limits);
        for step in steps {
            if let Some(request) = request(&step, &mut run) {
                let _ = run.ask(request);
            }
            if let Some(new_run) = run.new_run.take() {
                run = Run::follow(new_run, &run);
                run.check();
            }
        }
        reset_everywhere(&run);
        hostile(&run, seed);
    }
}
