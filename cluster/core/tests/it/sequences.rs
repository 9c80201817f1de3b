//! Sequences that are easy to get wrong, each spelled out.

use cluster_core::{
    DecisionContext, Durability, EventBatch, IdSeed, Limits, MutableState, Refusal, Reply, Request,
    Reset, TaskKind,
    mutable_state::ActivityInfo,
    request::{ActivityRef, Fire, Parent},
    task::Timeout,
};
use proto_ids::{FailoverVersion, RunId, RunKey};
use proto_messages::temporal::api::{
    command::v1::{
        CancelTimerCommandAttributes, Command, ContinueAsNewWorkflowExecutionCommandAttributes,
        FailWorkflowExecutionCommandAttributes, ModifyWorkflowPropertiesCommandAttributes,
        RequestCancelActivityTaskCommandAttributes, ScheduleActivityTaskCommandAttributes,
        command::Attributes as C,
    },
    common::v1::{Link, Memo, Payload, RetryPolicy},
    deployment::v1::WorkerDeploymentOptions,
    enums::v1::{
        CommandType, RetryState, TimeoutType, VersioningBehavior, WorkerVersioningMode,
        WorkflowTaskFailedCause,
    },
    failure::v1::failure::FailureInfo,
    history::v1::{HistoryEvent, history_event::Attributes as A},
    taskqueue::v1::{StickyExecutionAttributes, TaskQueue},
    workflowservice::v1::RespondWorkflowTaskCompletedRequest,
};

use crate::script::{
    Run, T0, activity, command, duration, failure, finish, id, payloads, schedule, start_of,
    start_request, timer,
};

mod activities;
mod durations;

fn fail() -> Command {
    command(
        CommandType::FailWorkflowExecution,
        C::FailWorkflowExecutionCommandAttributes(FailWorkflowExecutionCommandAttributes {
            failure: failure("broken", false),
        }),
    )
}

fn cancel_timer(id: &str) -> Command {
    command(
        CommandType::CancelTimer,
        C::CancelTimerCommandAttributes(CancelTimerCommandAttributes {
            timer_id: id.into(),
        }),
    )
}

fn cancel_activity(scheduled_event_id: i64) -> Command {
    command(
        CommandType::RequestCancelActivityTask,
        C::RequestCancelActivityTaskCommandAttributes(RequestCancelActivityTaskCommandAttributes {
            scheduled_event_id,
        }),
    )
}

fn local_limits() -> Limits {
    Limits {
        namespace: "default".into(),
        ..Limits::default()
    }
}

#[test]
fn one_activity_and_a_timer() {
    let mut run = Run::new();
    run.poll()
        .complete(vec![schedule(activity("a")), timer("t", 60)]);
    run.start_activity().seconds(1).complete_activity();
    run.poll().complete(vec![]);
    run.seconds(60).fire(Fire::UserTimers);
    run.poll().complete(vec![finish()]);
    assert_eq!(
        run.names_from(4),
        [
            "WorkflowTaskCompleted",
            "ActivityTaskScheduled",
            "TimerStarted",
            "ActivityTaskStarted",
            "ActivityTaskCompleted",
            "WorkflowTaskScheduled",
            "WorkflowTaskStarted",
            "WorkflowTaskCompleted",
            "TimerFired",
            "WorkflowTaskScheduled",
            "WorkflowTaskStarted",
            "WorkflowTaskCompleted",
            "WorkflowExecutionCompleted",
        ]
    );
    let kinds: Vec<_> = run.tasks.iter().rev().take(3).map(|t| &t.kind).collect();
    assert!(kinds.contains(&&TaskKind::Close) && kinds.contains(&&TaskKind::Retention));
}

#[test]
fn signals_wait_for_the_task_in_flight() {
    let mut run = Run::new();
    run.poll().signal("one").signal("two");
    assert_eq!(run.ms.buffered.len(), 2);
    run.complete(vec![timer("t", 60)]);
    assert_eq!(
        run.names_from(4),
        [
            "WorkflowTaskCompleted",
            "TimerStarted",
            "WorkflowExecutionSignaled",
            "WorkflowExecutionSignaled",
            "WorkflowTaskScheduled",
        ]
    );
}

#[test]
fn results_are_flushed_last_and_refer_to_their_started_events() {
    let mut run = Run::new();
    run.poll().complete(vec![schedule(activity("a"))]);
    run.start_activity().signal("wake").poll();
    run.complete_activity().signal("late");
    assert_eq!(run.ms.buffered.len(), 3);
    run.complete(vec![]);
    assert_eq!(
        run.names_from(10),
        [
            "ActivityTaskStarted",
            "WorkflowExecutionSignaled",
            "ActivityTaskCompleted",
            "WorkflowTaskScheduled",
        ]
    );
    let completed = run.events().find(|e| e.event_id == 12).expect("there");
    let Some(A::ActivityTaskCompletedEventAttributes(a)) = &completed.attributes else {
        panic!("{completed:?}")
    };
    assert_eq!((a.scheduled_event_id, a.started_event_id), (5, 10));
}

#[test]
fn closing_over_buffered_events_is_refused() {
    let mut run = Run::new();
    run.poll().signal("late").complete(vec![finish()]);
    let Reply::WorkflowTaskCompleted {
        failed: Some((cause, text)),
        ..
    } = &run.reply
    else {
        panic!("{:?}", run.reply)
    };
    assert_eq!(*cause, WorkflowTaskFailedCause::UnhandledCommand);
    assert_eq!(text, "UnhandledCommand");
    assert_eq!(
        run.names_from(4),
        [
            "WorkflowTaskFailed",
            "WorkflowExecutionSignaled",
            "WorkflowTaskScheduled"
        ]
    );
    let task = run
        .ms
        .execution_info
        .workflow_task
        .as_ref()
        .expect("scheduled");
    assert_eq!((task.attempt, task.scheduled_event_id), (1, id(6)));
    // This time nothing may come in between.
    run.poll();
    let signal = Request::Signal {
        signal: Default::default(),
        only_from_parent: None,
    };
    assert!(matches!(
        run.ask(signal),
        Err(Refusal::Limit {
            exhausted: true,
            ..
        })
    ));
    run.complete(vec![finish()]);
    assert!(!run.ms.is_running());
}

#[test]
fn attempts_after_the_first_leave_no_events_until_one_completes() {
    let mut run = Run::new();
    run.poll().fail_task();
    assert_eq!(run.names_from(4), ["WorkflowTaskFailed"]);
    for attempt in 2..6 {
        run.poll();
        let Reply::WorkflowTaskStarted { transient } = &run.reply else {
            panic!()
        };
        let ids: Vec<_> = transient.iter().map(|e| e.event_id).collect();
        assert_eq!(ids, [5, 6]);
        assert_eq!(
            run.ms
                .execution_info
                .workflow_task
                .as_ref()
                .map(|t| t.attempt),
            Some(attempt)
        );
        run.seconds(1).fail_task();
    }
    assert_eq!(run.ms.execution_info.next_event_id, id(5));
    // From the fourth attempt on the timeout is stretched.
    let stretched = run
        .ms
        .execution_info
        .workflow_task
        .as_ref()
        .map(|t| t.timeout.as_secs());
    assert_eq!(stretched, Some(10 + 20));
    run.poll().complete(vec![timer("t", 1)]);
    assert_eq!(
        run.names_from(5),
        [
            "WorkflowTaskScheduled",
            "WorkflowTaskStarted",
            "WorkflowTaskCompleted",
            "TimerStarted"
        ]
    );
}

#[test]
fn news_turn_the_next_attempt_into_a_first_one() {
    let mut run = Run::new();
    run.poll().fail_task().signal("news");
    // The signal took the id the attempt would have had; the task is still dispatched under the old one.
    assert_eq!(
        run.names_from(4),
        ["WorkflowTaskFailed", "WorkflowExecutionSignaled"]
    );
    run.poll();
    assert_eq!(
        run.names_from(6),
        ["WorkflowTaskScheduled", "WorkflowTaskStarted"]
    );
    assert_eq!(
        run.ms
            .execution_info
            .workflow_task
            .as_ref()
            .map(|t| t.attempt),
        Some(1)
    );

    // A signal during a transient attempt waits, and no second failure is written.
    let mut run = Run::new();
    run.poll().fail_task().poll().signal("news").fail_task();
    assert_eq!(
        run.names_from(4),
        [
            "WorkflowTaskFailed",
            "WorkflowExecutionSignaled",
            "WorkflowTaskScheduled"
        ]
    );
}

#[test]
fn termination_settles_what_is_in_flight() {
    let terminate = || Request::Terminate {
        reason: "enough".into(),
        details: None,
        identity: "me".into(),
        only_from_parent: None,
        first_execution_run_id: RunId::default(),
        links: Vec::new(),
    };
    let mut run = Run::new();
    run.poll().signal("waits").must(terminate());
    assert_eq!(
        run.names_from(4),
        [
            "WorkflowTaskFailed",
            "WorkflowExecutionSignaled",
            "WorkflowExecutionTerminated"
        ]
    );
    assert!(matches!(run.ask(terminate()), Err(Refusal::Closed(_))));

    // Of a transient attempt nothing is written.
    let mut run = Run::new();
    run.poll()
        .fail_task()
        .poll()
        .signal("waits")
        .must(terminate());
    assert_eq!(
        run.names_from(4),
        [
            "WorkflowTaskFailed",
            "WorkflowExecutionSignaled",
            "WorkflowExecutionTerminated"
        ]
    );
}

#[test]
fn bad_commands_fail_the_task_once_and_then_silently() {
    let mut run = Run::new();
    let bad = || {
        schedule(ScheduleActivityTaskCommandAttributes {
            start_to_close_timeout: None,
            ..activity("a")
        })
    };
    run.poll().complete(vec![timer("t", 5), bad()]);
    let Reply::WorkflowTaskCompleted {
        failed: Some((cause, text)),
        ..
    } = &run.reply
    else {
        panic!("{:?}", run.reply)
    };
    assert_eq!(
        *cause,
        WorkflowTaskFailedCause::BadScheduleActivityAttributes
    );
    assert!(
        text.starts_with("BadScheduleActivityAttributes: A valid StartToClose"),
        "{text}"
    );
    assert_eq!(run.names_from(4), ["WorkflowTaskFailed"]);
    run.poll();
    let again = run.completion(vec![bad()]);
    assert!(matches!(run.ask(again), Err(Refusal::Invalid(_))));
    // The task then waits for its timeout.
    let task = run
        .ms
        .execution_info
        .workflow_task
        .clone()
        .expect("in flight");
    run.seconds(10).fire(Fire::WorkflowTaskTimeout {
        scheduled_event_id: task.scheduled_event_id,
        attempt: 2,
        timeout: Timeout::StartToClose,
    });
    assert_eq!(
        run.ms
            .execution_info
            .workflow_task
            .as_ref()
            .map(|t| t.attempt),
        Some(3)
    );
    assert_eq!(run.ms.execution_info.next_event_id, id(5));
}

#[test]
fn nothing_may_follow_the_command_that_closes() {
    let mut run = Run::new();
    run.poll();
    let request = run.completion(vec![finish(), timer("t", 5)]);
    let Err(Refusal::Invalid(text)) = run.ask(request) else {
        panic!()
    };
    assert_eq!(
        text,
        "invalid command sequence: [CompleteWorkflowExecution, StartTimer], command \
         CompleteWorkflowExecution must be the last command."
    );
}

#[test]
fn too_many_buffered_events_cost_the_task() {
    let mut run = Run::new();
    run.poll();
    for _ in 0..100 {
        run.signal("s");
    }
    let late = run.completion(vec![]);
    assert_eq!(run.ms.buffered.len(), 100);
    run.signal("one too many");
    assert!(run.ms.buffered.is_empty());
    assert_eq!(
        run.names_from(4).first().map(String::as_str),
        Some("WorkflowTaskFailed")
    );
    assert_eq!(run.ms.execution_info.next_event_id, id(4 + 1 + 101 + 1));
    assert_eq!(run.ask(late), Err(Refusal::WorkflowTaskNotFound));
}

#[test]
fn a_timer_cancelled_after_it_fired_into_the_buffer() {
    let mut run = Run::new();
    run.poll()
        .complete(vec![timer("t", 5)])
        .signal("wake")
        .poll();
    run.seconds(5).fire(Fire::UserTimers);
    assert_eq!(run.ms.buffered.len(), 1);
    run.complete(vec![cancel_timer("t"), finish()]);
    assert_eq!(
        run.names_from(9),
        [
            "WorkflowTaskCompleted",
            "TimerCanceled",
            "WorkflowExecutionCompleted"
        ]
    );
}

#[test]
fn the_sticky_queue_is_used_until_it_fails() {
    let mut run = Run::new();
    let sticky = |commands| RespondWorkflowTaskCompletedRequest {
        commands,
        sticky_attributes: Some(StickyExecutionAttributes {
            worker_task_queue: Some(TaskQueue {
                name: "sticky".into(),
                ..Default::default()
            }),
            schedule_to_start_timeout: duration(5),
        }),
        ..Default::default()
    };
    run.poll();
    let request = run.completion_of(sticky(vec![timer("t", 60)]));
    run.must(request).signal("wake");
    let task = run
        .ms
        .execution_info
        .workflow_task
        .clone()
        .expect("scheduled");
    assert!(task.sticky);
    let fire = Fire::WorkflowTaskTimeout {
        scheduled_event_id: task.scheduled_event_id,
        attempt: 1,
        timeout: Timeout::ScheduleToStart,
    };
    run.seconds(5).fire(fire);
    assert_eq!(
        run.names_from(8),
        ["WorkflowTaskTimedOut", "WorkflowTaskScheduled"]
    );
    let task = run
        .ms
        .execution_info
        .workflow_task
        .clone()
        .expect("scheduled");
    assert!(!task.sticky && task.attempt == 1);
}

/// Which deployment a worker belongs to is told in any case; a version and a behaviour count only when the
/// worker is versioned.
#[test]
fn a_completion_names_the_workers_deployment() {
    let told = |mode: WorkerVersioningMode| {
        let mut run = Run::new();
        run.poll();
        let request = run.completion_of(RespondWorkflowTaskCompletedRequest {
            versioning_behavior: VersioningBehavior::Pinned.into(),
            deployment_options: Some(WorkerDeploymentOptions {
                deployment_name: "billing".into(),
                build_id: "1.0".into(),
                worker_versioning_mode: mode.into(),
            }),
            ..Default::default()
        });
        run.must(request);
        let completed = run.events().find_map(|e| match &e.attributes {
            Some(A::WorkflowTaskCompletedEventAttributes(a)) => Some(a.clone()),
            _ => None,
        });
        let completed = completed.expect("there");
        let build = completed.deployment_version.as_ref();
        (
            completed.worker_deployment_name.clone(),
            build.map(|v| v.build_id.clone()),
            completed.versioning_behavior(),
        )
    };
    assert_eq!(
        told(WorkerVersioningMode::Versioned),
        (
            "billing".into(),
            Some("1.0".into()),
            VersioningBehavior::Pinned
        )
    );
    assert_eq!(
        told(WorkerVersioningMode::Unversioned),
        ("billing".into(), None, VersioningBehavior::Unspecified)
    );
}

#[test]
fn heartbeating_tasks_come_back_inline_until_they_last_too_long() {
    let mut run = Run::new();
    let heartbeat = || RespondWorkflowTaskCompletedRequest {
        return_new_workflow_task: true,
        force_create_new_workflow_task: true,
        ..Default::default()
    };
    run.poll();
    for _ in 0..3 {
        let request = run.seconds(5).completion_of(heartbeat());
        run.must(request);
        assert!(matches!(
            run.reply,
            Reply::WorkflowTaskCompleted {
                new_task_started: true,
                ..
            }
        ));
    }
    assert_eq!(
        run.names_from(10),
        [
            "WorkflowTaskCompleted",
            "WorkflowTaskScheduled",
            "WorkflowTaskStarted"
        ]
    );
    let request = run.seconds(1_800).completion_of(heartbeat());
    run.must(request);
    assert!(matches!(run.reply, Reply::WorkflowTaskHeartbeatTimedOut));
    assert_eq!(run.names_from(13), ["WorkflowTaskTimedOut"]);
}

#[test]
fn continue_as_new_inherits_what_is_left_empty() {
    let mut run = Run::new();
    run.poll().complete(vec![command(
        CommandType::ContinueAsNewWorkflowExecution,
        C::ContinueAsNewWorkflowExecutionCommandAttributes(
            ContinueAsNewWorkflowExecutionCommandAttributes {
                input: payloads("second"),
                ..Default::default()
            },
        ),
    )]);
    let next = run.new_run.take().expect("goes on");
    let next = Run::follow(next, &run);
    next.check();
    assert_eq!(run.ms.execution_info.new_run_id, next.ms.key.run_id);
    assert_eq!(next.ms.start.first_run_id, run.ms.key.run_id);
    assert_eq!(next.ms.start.continued_run_id, run.ms.key.run_id);
    assert_eq!(next.ms.start.workflow_type, run.ms.start.workflow_type);
    assert_eq!(next.ms.start.task_queue, "queue");
    assert_eq!(next.ms.start.input, payloads("second"));
    // One run per second at most, so the first workflow task waits.
    assert_eq!(next.names_from(1), ["WorkflowExecutionStarted"]);
    assert!(
        next.tasks
            .iter()
            .any(|t| t.kind == TaskKind::WorkflowBackoff)
    );
}

/// Workers state what the next run shall have.
#[test]
fn schedule_and_retries_end_with_a_run_that_does_not_continue_them() {
    let mut request = start_request();
    request.cron_schedule = "@every 1m".into();
    request.retry_policy = Some(RetryPolicy::default());
    request.memo = Some(Memo {
        fields: [("k".to_owned(), Payload::default())].into(),
    });
    let mut run = Run::with(start_of(request), local_limits());
    run.seconds(60).fire(Fire::WorkflowBackoff).poll();
    let attributes = ContinueAsNewWorkflowExecutionCommandAttributes::default();
    run.complete(vec![command(
        CommandType::ContinueAsNewWorkflowExecution,
        C::ContinueAsNewWorkflowExecutionCommandAttributes(attributes),
    )]);
    let next = run.new_run.take().expect("goes on");
    let next = Run::follow(next, &run);
    assert_eq!(next.ms.start.cron_schedule, "");
    assert_eq!(next.ms.start.retry_policy, None);
    assert_eq!(next.ms.execution_info.memo, None);
}

/// A run may change its memo and search attributes; the next one of its schedule begins as it did.
#[test]
fn what_a_run_made_of_its_memo_ends_with_it() {
    let memo = |key: &str| Memo {
        fields: [(
            key.to_owned(),
            Payload {
                data: "1".into(),
                ..Default::default()
            },
        )]
        .into(),
    };
    let mut request = start_request();
    request.cron_schedule = "@every 1m".into();
    request.memo = Some(memo("given"));
    let mut run = Run::with(start_of(request), local_limits());
    run.seconds(60).fire(Fire::WorkflowBackoff).poll();
    let upsert = command(
        CommandType::ModifyWorkflowProperties,
        C::ModifyWorkflowPropertiesCommandAttributes(ModifyWorkflowPropertiesCommandAttributes {
            upserted_memo: Some(memo("upserted")),
        }),
    );
    run.complete(vec![upsert, finish()]);
    let all = run.ms.execution_info.memo.clone().unwrap_or_default();
    assert_eq!(all.fields.len(), 2);
    let next = run.new_run.take().expect("goes on");
    assert_eq!(next.mutable_state.execution_info.memo, Some(memo("given")));
}

/// A start that found the run open is known again, and tells no worker.
#[test]
fn a_start_attaches_itself_once() {
    let attach = || Request::Attach {
        request_id: "again".into(),
        links: vec![Link::default()],
    };
    for in_flight in [false, true] {
        let mut run = Run::new();
        run.poll();
        if !in_flight {
            run.complete(vec![]);
        }
        run.must(attach());
        assert!(run.ms.has_attached("again") && !run.ms.has_attached("other"));
        run.must(attach());
        assert!(matches!(run.reply, Reply::Duplicate));
        if in_flight {
            run.complete(vec![]);
        }
        let attached = run.events().filter(|e| {
            matches!(&e.attributes,
                Some(A::WorkflowExecutionOptionsUpdatedEventAttributes(a)) if a.attached_request_id == "again")
        });
        assert_eq!(attached.map(|e| e.links.len()).collect::<Vec<_>>(), [1]);
        // What waited while a worker was at work is news, as for any other event.
        assert_eq!(run.ms.execution_info.workflow_task.is_some(), in_flight);
        run.check();
    }
}

#[test]
fn a_workflow_is_retried_and_then_gives_up() {
    let mut request = start_request();
    request.retry_policy = Some(RetryPolicy {
        initial_interval: duration(10),
        maximum_attempts: 2,
        ..Default::default()
    });
    let mut run = Run::with(start_of(request), local_limits());
    run.poll().complete(vec![fail()]);
    let Some(A::WorkflowExecutionFailedEventAttributes(a)) = &run.last().attributes else {
        panic!()
    };
    assert_eq!(a.retry_state(), RetryState::InProgress);
    let named = a.new_execution_run_id.clone();
    let next = run.new_run.take().expect("tries again");
    assert_eq!(named, next.mutable_state.key.run_id.as_str());
    let mut next = Run::follow(next, &run);
    assert_eq!(next.ms.start.attempt, 2);
    assert!(next.ms.start.continued_failure.is_some());
    next.seconds(10)
        .fire(Fire::WorkflowBackoff)
        .poll()
        .complete(vec![fail()]);
    let Some(A::WorkflowExecutionFailedEventAttributes(a)) = &next.last().attributes else {
        panic!()
    };
    assert_eq!(a.retry_state(), RetryState::MaximumAttemptsReached);
    assert!(next.new_run.is_none());
}

#[test]
fn cron_runs_follow_one_another() {
    let mut request = start_request();
    request.cron_schedule = "@every 1m".into();
    let mut run = Run::with(start_of(request), local_limits());
    assert_eq!(run.names_from(1), ["WorkflowExecutionStarted"]);
    run.signal("during back-off");
    assert_eq!(run.names_from(2), ["WorkflowExecutionSignaled"]);
    run.seconds(60)
        .fire(Fire::WorkflowBackoff)
        .poll()
        .seconds(90)
        .complete(vec![finish()]);
    let next = run.new_run.take().expect("goes on");
    let next = Run::follow(next, &run);
    assert_eq!(next.ms.start.last_completion_result, payloads("result"));
    assert_eq!(next.ms.start.cron_schedule, "@every 1m");
    // Started at 1:00 and closed at 2:30: the next one is due at 3:00.
    assert_eq!(
        next.ms.start.execution_time,
        T0.plus(std::time::Duration::from_secs(180))
    );
}

#[test]
fn a_child_waits_for_its_parent() {
    let mut start = start_of(start_request());
    start.parent = Some(Parent {
        key: RunKey::new("ns", "parent", "p-run"),
        ..Default::default()
    });
    let mut run = Run::with(start, local_limits());
    run.signal("early");
    assert_eq!(
        run.names_from(1),
        ["WorkflowExecutionStarted", "WorkflowExecutionSignaled"]
    );
    run.must(Request::ScheduleFirstWorkflowTask);
    assert_eq!(run.names_from(3), ["WorkflowTaskScheduled"]);
}

#[test]
fn a_task_of_the_old_owner_is_settled_first() {
    let mut run = Run::new();
    run.poll()
        .complete(vec![schedule(activity("a"))])
        .start_activity()
        .signal("wake")
        .poll();
    run.signal("buffered");
    let old = run.completion(vec![]);
    run.version = 11;
    assert_eq!(run.ask(old), Err(Refusal::WorkflowTaskNotFound));
    run.signal("first news");
    assert_eq!(
        run.names_from(9),
        [
            "WorkflowTaskFailed",
            "WorkflowExecutionSignaled",
            "WorkflowTaskScheduled",
            "WorkflowExecutionSignaled"
        ]
    );
    assert!(
        run.events()
            .filter(|e| e.event_id >= 9)
            .all(|e| e.version == 11)
    );
    let Some(A::WorkflowTaskFailedEventAttributes(a)) = &run
        .events()
        .find(|e| e.event_id == 9)
        .expect("there")
        .attributes
    else {
        panic!()
    };
    assert_eq!(a.cause(), WorkflowTaskFailedCause::FailoverCloseCommand);
    // The activity keeps its token.
    run.complete_activity();
    run.version = 1;
    let stale = Request::ResetSticky;
    assert!(matches!(run.ask(stale), Err(Refusal::NotReady(_))));
}

#[test]
fn a_local_run_stays_local_until_its_task_ends() {
    let mut run = Run::new();
    run.version = 0;
    let start = start_of(start_request());
    let ctx = DecisionContext {
        now: T0,
        version: FailoverVersion::new(0),
        clock: 0,
        limits: &run.limits.clone(),
        seed: IdSeed::default(),
    };
    let (ms, transition) = MutableState::start(start, &ctx).expect("starts");
    run = Run::follow(
        cluster_core::NewRun {
            mutable_state: ms,
            events: transition.events,
            tasks: transition.tasks,
        },
        &run,
    );
    run.poll();
    // The namespace becomes global while a worker has the task.
    run.version = 11;
    run.complete(vec![timer("t", 5)]);
    assert!(run.events().all(|e| e.version == 0));
    run.seconds(5).fire(Fire::UserTimers);
    assert_eq!(run.last().version, 11);
}

#[test]
fn reset_goes_back_and_delivers_signals_again() {
    let mut run = Run::new();
    run.poll()
        .complete(vec![schedule(activity("a")), timer("t", 60)]);
    run.signal("one")
        .poll()
        .complete(vec![])
        .signal("two")
        .poll()
        .complete(vec![finish()]);
    let finish_event_id = 4;
    let (kept, later): (Vec<EventBatch>, Vec<EventBatch>) = run
        .history
        .iter()
        .cloned()
        .partition(|b| b.next_event_id().get() <= finish_event_id);
    let later: Vec<HistoryEvent> = later.into_iter().flat_map(|b| b.events).collect();
    let reset = Reset {
        new_run_id: RunId::new("run-2"),
        finish_event_id: id(finish_event_id),
        reason: "again".into(),
        request_id: "reset-1".into(),
        identity: "me".into(),
        ..Default::default()
    };
    let ctx = DecisionContext {
        now: run.now,
        version: FailoverVersion::new(1),
        clock: 0,
        limits: &run.limits,
        seed: IdSeed([7; 16]),
    };
    let mut new_run =
        MutableState::reset(&run.ms, kept.clone(), later, &reset, &ctx).expect("resets");
    let mut history = kept;
    history.append(&mut new_run.events);
    new_run.events = history;
    let mut next = Run::follow(new_run, &run);
    next.check();
    assert_eq!(
        next.names_from(4),
        [
            "WorkflowTaskFailed",
            "WorkflowExecutionSignaled",
            "WorkflowExecutionSignaled",
            "WorkflowTaskScheduled"
        ]
    );
    let branch = &next.ms.versions.current().branch;
    assert_eq!(branch.tree_id, "run-1");
    assert_eq!(
        (branch.ancestors[0].begin, branch.ancestors[0].end),
        (id(1), id(4))
    );
    next.poll().complete(vec![finish()]);
}

#[test]
fn only_what_nobody_was_promised_is_written_behind() {
    let run = Run::new();
    let limits = run.limits.clone();
    let ctx = DecisionContext {
        now: T0,
        version: FailoverVersion::new(1),
        clock: 0,
        limits: &limits,
        seed: IdSeed::default(),
    };
    let mut ms = run.ms.clone();
    let ask = |ms: &mut MutableState, request| ms.handle(request, &ctx).expect("taken").durability;
    let poll = Request::StartWorkflowTask {
        scheduled_event_id: id(2),
        attempt: 1,
        request_id: "p".into(),
        identity: "w".into(),
        task_queue: TaskQueue::default(),
        build_id: String::new(),
    };
    assert_eq!(ask(&mut ms, poll.clone()), Durability::WriteBehind);
    assert_eq!(ask(&mut ms, poll), Durability::None);
    let counted = |id: &str, maximum_attempts| {
        let mut counted = activity(id);
        counted.retry_policy = Some(RetryPolicy {
            maximum_attempts,
            ..Default::default()
        });
        schedule(counted)
    };
    let mut run = run;
    run.ms = ms.clone();
    let request = run.completion(vec![
        counted("many", 0),
        counted("once", 1),
        counted("thrice", 3),
    ]);
    assert_eq!(ask(&mut ms, request), Durability::Durable);
    let take = |n| Request::StartActivity {
        scheduled_event_id: id(n),
        attempt: 1,
        request_id: "t".into(),
        identity: "w".into(),
    };
    assert_eq!(ask(&mut ms, take(5)), Durability::WriteBehind);
    assert_eq!(ask(&mut ms, take(6)), Durability::Durable);
    assert_eq!(ask(&mut ms, take(7)), Durability::Durable);
    let heartbeat = Request::Heartbeat {
        activity: ActivityRef::Id("many".into()),
        details: payloads("progress"),
        identity: "w".into(),
    };
    // Its details are what the next attempt goes on from.
    assert_eq!(ask(&mut ms, heartbeat), Durability::Durable);
}
