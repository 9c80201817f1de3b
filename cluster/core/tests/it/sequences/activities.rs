//! What becomes of an activity: retried, timed out, cancelled, completed by id, told by another cluster.

use super::*;

#[test]
fn an_activity_is_retried_until_its_attempts_are_used_up() {
    let mut run = Run::new();
    run.poll().complete(vec![schedule(activity("a"))]);
    for (attempt, wait) in [(1, 1), (2, 2)] {
        run.start_activity().fail_activity(failure("x", false));
        let a = run.ms.activities.values().next().expect("pending");
        assert_eq!(
            (a.attempt, a.attempt_scheduled_time),
            (
                attempt + 1,
                run.now.plus(std::time::Duration::from_secs(wait))
            )
        );
        assert_eq!(
            run.ms.execution_info.next_event_id,
            id(6),
            "retries leave no events"
        );
        run.seconds(wait).fire(Fire::ActivityRetry {
            scheduled_event_id: id(5),
            attempt: attempt + 1,
        });
        let dispatch = TaskKind::Activity {
            scheduled_event_id: id(5),
            attempt: attempt + 1,
        };
        assert_eq!(run.tasks.last().map(|t| &t.kind), Some(&dispatch));
    }
    run.start_activity().fail_activity(failure("y", false));
    assert_eq!(
        run.names_from(6),
        [
            "ActivityTaskStarted",
            "ActivityTaskFailed",
            "WorkflowTaskScheduled"
        ]
    );
    let failed = run.events().find(|e| e.event_id == 7).expect("there");
    let Some(A::ActivityTaskFailedEventAttributes(a)) = &failed.attributes else {
        panic!()
    };
    assert_eq!(a.retry_state(), RetryState::MaximumAttemptsReached);
    let started = run.events().find(|e| e.event_id == 6).expect("there");
    let Some(A::ActivityTaskStartedEventAttributes(a)) = &started.attributes else {
        panic!()
    };
    assert_eq!(a.attempt, 3);
    assert!(a.last_failure.is_some());
}

#[test]
fn failures_that_end_an_activity_at_once() {
    let cases: [(Option<_>, ScheduleActivityTaskCommandAttributes, RetryState); 4] = [
        (
            failure("x", true),
            activity("a"),
            RetryState::NonRetryableFailure,
        ),
        (
            failure("listed", false),
            ScheduleActivityTaskCommandAttributes {
                retry_policy: Some(RetryPolicy {
                    non_retryable_error_types: vec!["listed".into()],
                    ..Default::default()
                }),
                ..activity("a")
            },
            RetryState::NonRetryableFailure,
        ),
        (
            failure("x", false),
            ScheduleActivityTaskCommandAttributes {
                schedule_to_close_timeout: duration(10),
                retry_policy: Some(RetryPolicy {
                    initial_interval: duration(20),
                    ..Default::default()
                }),
                ..activity("a")
            },
            RetryState::Timeout,
        ),
        (
            failure("x", false),
            ScheduleActivityTaskCommandAttributes {
                retry_policy: Some(RetryPolicy {
                    maximum_attempts: 1,
                    ..Default::default()
                }),
                ..activity("a")
            },
            RetryState::MaximumAttemptsReached,
        ),
    ];
    for (failure, attributes, expected) in cases {
        let mut run = Run::new();
        run.poll().complete(vec![schedule(attributes)]);
        run.start_activity().fail_activity(failure);
        let Some(A::ActivityTaskFailedEventAttributes(a)) = &run
            .events()
            .find(|e| e.event_id == 7)
            .expect("there")
            .attributes
        else {
            panic!()
        };
        assert_eq!(a.retry_state(), expected);
    }
}

/// What ends an activity by time, and under which name: when no attempt is left, when no time is left for
/// another one, when nobody took it, when it was asked to stop.
#[test]
fn deadlines_say_why_there_is_no_further_attempt() {
    let base = || ScheduleActivityTaskCommandAttributes {
        schedule_to_close_timeout: duration(20),
        start_to_close_timeout: duration(8),
        heartbeat_timeout: None,
        retry_policy: Some(RetryPolicy {
            initial_interval: duration(15),
            ..Default::default()
        }),
        ..activity("a")
    };
    let once = ScheduleActivityTaskCommandAttributes {
        retry_policy: Some(RetryPolicy {
            maximum_attempts: 1,
            ..Default::default()
        }),
        ..base()
    };
    let patient = ScheduleActivityTaskCommandAttributes {
        start_to_close_timeout: duration(20),
        ..base()
    };
    let soon = ScheduleActivityTaskCommandAttributes {
        schedule_to_start_timeout: duration(5),
        ..base()
    };
    let no_time = "Not enough time to schedule next retry before activity ScheduleToClose timeout, \
                   giving up retrying";
    let cases = [
        // Attributes, taken after seconds, cancelled, ended after more seconds, what the event says.
        (
            once,
            Some(0),
            false,
            8,
            (
                TimeoutType::StartToClose,
                RetryState::MaximumAttemptsReached,
                "activity StartToClose timeout",
            ),
        ),
        (
            base(),
            Some(0),
            false,
            8,
            (TimeoutType::ScheduleToClose, RetryState::Timeout, no_time),
        ),
        (
            patient,
            Some(5),
            false,
            15,
            (TimeoutType::ScheduleToClose, RetryState::Timeout, no_time),
        ),
        (
            soon,
            None,
            false,
            5,
            (
                TimeoutType::ScheduleToStart,
                RetryState::Timeout,
                "activity ScheduleToStart timeout",
            ),
        ),
        (
            base(),
            Some(0),
            true,
            8,
            (
                TimeoutType::StartToClose,
                RetryState::CancelRequested,
                "activity StartToClose timeout",
            ),
        ),
    ];
    for (attributes, started, cancelled, seconds, expected) in cases {
        let mut run = Run::new();
        run.poll().complete(vec![schedule(attributes)]);
        if let Some(seconds) = started {
            run.seconds(seconds).start_activity();
        }
        if cancelled {
            run.signal("wake").poll().complete(vec![cancel_activity(5)]);
        }
        run.seconds(seconds).fire(Fire::ActivityTimeouts);
        let timed_out = run.events().find_map(|e| match &e.attributes {
            Some(A::ActivityTaskTimedOutEventAttributes(a)) => Some(a.clone()),
            _ => None,
        });
        let timed_out = timed_out.expect("timed out");
        let failure = timed_out.failure.clone().expect("a failure");
        let Some(FailureInfo::TimeoutFailureInfo(info)) = &failure.failure_info else {
            panic!("{failure:?}")
        };
        let said = (
            info.timeout_type(),
            timed_out.retry_state(),
            failure.message.as_str(),
        );
        assert_eq!(said, expected);
    }
}

#[test]
fn a_heartbeat_timeout_carries_the_last_details() {
    let mut run = Run::new();
    let once = ScheduleActivityTaskCommandAttributes {
        retry_policy: Some(RetryPolicy {
            maximum_attempts: 1,
            ..Default::default()
        }),
        ..activity("a")
    };
    run.poll()
        .complete(vec![schedule(once)])
        .start_activity()
        .seconds(8);
    let token = run.token();
    run.must(Request::Heartbeat {
        activity: token.clone(),
        details: payloads("half"),
        identity: "worker".into(),
    });
    // The task armed at the start fires, finds a later heartbeat, and is armed again.
    let before = run.tasks.len();
    run.seconds(2).fire(Fire::ActivityTimeouts);
    assert_eq!(run.ms.activities.len(), 1);
    assert!(
        run.tasks[before..]
            .iter()
            .any(|t| t.fire_at == Some(T0.plus(std::time::Duration::from_secs(18))))
    );
    run.seconds(8).fire(Fire::ActivityTimeouts);
    let timed_out = run.events().find(|e| e.event_id == 7).expect("there");
    let Some(A::ActivityTaskTimedOutEventAttributes(a)) = &timed_out.attributes else {
        panic!()
    };
    let failure = a.failure.as_ref().expect("a failure");
    assert_eq!(failure.message, "activity Heartbeat timeout");
    let Some(FailureInfo::TimeoutFailureInfo(info)) = &failure.failure_info else {
        panic!()
    };
    assert_eq!(info.timeout_type(), TimeoutType::Heartbeat);
    assert_eq!(info.last_heartbeat_details, payloads("half"));
    let late = Request::Heartbeat {
        activity: token,
        details: None,
        identity: String::new(),
    };
    assert_eq!(run.ask(late), Err(Refusal::ActivityNotFound));
}

/// A worker counts events along with its commands, so it can cancel what it schedules with the same completion.
/// What follows from a command comes after the events of all commands, and before the run's end.
#[test]
fn an_activity_is_cancelled_by_the_completion_that_schedules_it() {
    let commands = |first: i64| {
        vec![
            schedule(activity("a")),
            cancel_activity(first),
            schedule(activity("b")),
            cancel_activity(first + 2),
        ]
    };
    let expected = [
        "ActivityTaskScheduled",
        "ActivityTaskCancelRequested",
        "ActivityTaskScheduled",
        "ActivityTaskCancelRequested",
        "ActivityTaskCanceled",
        "ActivityTaskCanceled",
    ];
    let mut run = Run::new();
    run.poll().complete(commands(5));
    let mut names = expected.to_vec();
    names.push("WorkflowTaskScheduled");
    assert_eq!(run.names_from(5), names);
    let cancelled = run.events().find_map(|e| match &e.attributes {
        Some(A::ActivityTaskCanceledEventAttributes(a)) => Some(a.clone()),
        _ => None,
    });
    let cancelled = cancelled.expect("there");
    let details = cancelled.details.expect("why");
    assert_eq!(details.payloads[0].data, "\"ACTIVITY_ID_NOT_STARTED\"");
    assert_eq!(cancelled.identity, "worker");
    assert_eq!(cancelled.latest_cancel_requested_event_id, 6);

    // In an attempt that history does not hold, the worker counts its events too.
    let mut run = Run::new();
    run.poll().fail_task();
    run.poll().fail_task();
    run.poll();
    let mut closing = commands(8);
    closing.push(finish());
    run.complete(closing);
    let mut names = expected.to_vec();
    names.push("WorkflowExecutionCompleted");
    assert_eq!(run.names_from(8), names);

    let mut run = Run::new();
    run.poll().complete(vec![cancel_activity(5)]);
    assert!(
        matches!(
            run.reply,
            Reply::WorkflowTaskCompleted {
                failed: Some((
                    WorkflowTaskFailedCause::BadRequestCancelActivityAttributes,
                    _
                )),
                ..
            }
        ),
        "{:?}",
        run.reply
    );
}

#[test]
fn cancelling_activities() {
    // Nobody has it: cancelled at once.
    let mut run = Run::new();
    run.poll()
        .complete(vec![schedule(activity("a")), timer("t", 1)]);
    run.signal("wake").poll().complete(vec![cancel_activity(5)]);
    assert_eq!(
        run.names_from(10),
        [
            "WorkflowTaskCompleted",
            "ActivityTaskCancelRequested",
            "ActivityTaskCanceled",
            "WorkflowTaskScheduled"
        ]
        .iter()
        .map(|s| s.to_string())
        .collect::<Vec<_>>()
    );

    // Somebody runs it: told by the heartbeat, and then it may accept.
    let mut run = Run::new();
    run.poll()
        .complete(vec![schedule(activity("a"))])
        .start_activity();
    let activity = run.token();
    let cancel = Request::CancelActivity {
        activity: activity.clone(),
        details: None,
        identity: "w".into(),
    };
    assert!(matches!(run.ask(cancel.clone()), Err(Refusal::Invalid(_))));
    run.signal("wake").poll().complete(vec![cancel_activity(5)]);
    run.must(Request::Heartbeat {
        activity,
        details: None,
        identity: "w".into(),
    });
    assert!(matches!(
        run.reply,
        Reply::Heartbeat {
            cancel_requested: true,
            ..
        }
    ));
    run.must(cancel);
    assert_eq!(
        run.names_from(11),
        [
            "ActivityTaskStarted",
            "ActivityTaskCanceled",
            "WorkflowTaskScheduled"
        ]
    );
}

#[test]
fn an_activity_nobody_started_can_be_completed_by_id() {
    let mut run = Run::new();
    run.poll().complete(vec![schedule(activity("a"))]);
    run.must(Request::CompleteActivity {
        activity: ActivityRef::Id("a".into()),
        result: payloads("out of band"),
        identity: "me".into(),
    });
    assert_eq!(
        run.names_from(6),
        [
            "ActivityTaskStarted",
            "ActivityTaskCompleted",
            "WorkflowTaskScheduled"
        ]
    );
}

#[test]
fn activity_state_of_another_cluster_is_taken_when_newer() {
    let mut run = Run::new();
    run.poll().complete(vec![schedule(activity("a"))]);
    let known = run.ms.activities.values().next().expect("pending").clone();
    let limits = run.limits.clone();
    assert!(run.ms.sync_activity(known.clone(), &limits).is_none());
    let retried = ActivityInfo {
        attempt: 2,
        attempt_scheduled_time: T0,
        ..known.clone()
    };
    let applied = run.ms.sync_activity(retried, &limits).expect("newer");
    assert!(
        applied
            .tasks
            .iter()
            .any(|t| matches!(t.kind, TaskKind::ActivityRetry { attempt: 2, .. }))
    );
    let stale = ActivityInfo {
        started_time: T0,
        ..known
    };
    assert!(run.ms.sync_activity(stale, &limits).is_none());
}
