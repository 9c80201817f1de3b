//! Durations that are left unset, zero, negative or very long, as workers send them.

use super::*;
use proto_messages::temporal::api::{
    command::v1::{StartChildWorkflowExecutionCommandAttributes, StartTimerCommandAttributes},
    common::v1::WorkflowType,
    history::v1::{
        StartChildWorkflowExecutionInitiatedEventAttributes,
        WorkflowExecutionStartedEventAttributes,
    },
};

type Length = Option<prost_types::Duration>;

fn timer_of(start_to_fire_timeout: Length) -> Command {
    let attributes = StartTimerCommandAttributes {
        timer_id: "t".into(),
        start_to_fire_timeout,
    };
    command(
        CommandType::StartTimer,
        C::StartTimerCommandAttributes(attributes),
    )
}

fn length(seconds: i64, nanos: i32) -> Length {
    Some(prost_types::Duration { seconds, nanos })
}

#[test]
fn a_timer_of_no_length_fires_at_once() {
    for none in [None, length(0, 0)] {
        let mut run = Run::new();
        run.poll().complete(vec![timer_of(none)]);
        run.fire(Fire::UserTimers);
        assert_eq!(
            run.names_from(5),
            ["TimerStarted", "TimerFired", "WorkflowTaskScheduled"]
        );
    }
}

#[test]
fn a_timer_of_a_million_years_is_cut_to_a_hundred() {
    let mut run = Run::new();
    run.poll()
        .complete(vec![timer_of(length(1_000_000 * 31_536_000, 5))]);
    let started = run.events().find_map(|e| match &e.attributes {
        Some(A::TimerStartedEventAttributes(a)) => Some(a.start_to_fire_timeout),
        _ => None,
    });
    assert_eq!(started, Some(length(100 * 31_536_000, 0)));
}

#[test]
fn every_duration_of_a_command_is_cut_to_a_hundred_years() {
    let long = length(9_200_000_000_000_000_000, 2_000_000_000);
    let most = length(100 * 31_536_000, 0);
    let retries = Some(RetryPolicy {
        initial_interval: long,
        maximum_interval: long,
        backoff_coefficient: 1.0,
        ..Default::default()
    });
    let mut run = Run::with(start_of(start_request()), local_limits());
    let child = StartChildWorkflowExecutionCommandAttributes {
        workflow_id: "child".into(),
        workflow_type: Some(WorkflowType {
            name: "kind".into(),
        }),
        workflow_execution_timeout: long,
        workflow_run_timeout: long,
        workflow_task_timeout: long,
        retry_policy: retries.clone(),
        ..Default::default()
    };
    run.poll().complete(vec![
        schedule(ScheduleActivityTaskCommandAttributes {
            schedule_to_close_timeout: long,
            schedule_to_start_timeout: long,
            start_to_close_timeout: long,
            heartbeat_timeout: long,
            retry_policy: retries,
            ..activity("a")
        }),
        command(
            CommandType::StartChildWorkflowExecution,
            C::StartChildWorkflowExecutionCommandAttributes(child),
        ),
    ]);
    let mut kept = Vec::new();
    for event in run.events() {
        match &event.attributes {
            Some(A::ActivityTaskScheduledEventAttributes(a)) => {
                let retries = a.retry_policy.clone().unwrap_or_default();
                kept.extend([
                    a.schedule_to_close_timeout,
                    a.schedule_to_start_timeout,
                    a.start_to_close_timeout,
                    a.heartbeat_timeout,
                    retries.initial_interval,
                    retries.maximum_interval,
                ]);
            }
            Some(A::StartChildWorkflowExecutionInitiatedEventAttributes(a)) => {
                let retries = a.retry_policy.clone().unwrap_or_default();
                kept.extend([
                    a.workflow_execution_timeout,
                    a.workflow_run_timeout,
                    retries.initial_interval,
                    retries.maximum_interval,
                ]);
            }
            _ => {}
        }
    }
    assert_eq!(kept, [most; 10]);
}

#[test]
fn durations_that_are_none_fail_the_task() {
    let signs = "duration has seconds and nanos with different signs";
    for (bad, fault) in [
        (length(-1, 0), "negative duration"),
        (length(0, -1), "negative duration"),
        (length(1, -1), signs),
    ] {
        let mut run = Run::new();
        run.poll().complete(vec![timer_of(bad)]);
        let Reply::WorkflowTaskCompleted {
            failed: Some((WorkflowTaskFailedCause::BadStartTimerAttributes, text)),
            ..
        } = &run.reply
        else {
            panic!("{:?}", run.reply)
        };
        let said = format!("An invalid StartToFireTimeout is set on StartTimerCommand: {fault}.");
        assert!(text.contains(&said), "{text}");
    }
}

fn first_event(run: &Run) -> WorkflowExecutionStartedEventAttributes {
    let Some(A::WorkflowExecutionStartedEventAttributes(a)) =
        run.events().next().and_then(|e| e.attributes.clone())
    else {
        panic!("no start")
    };
    a
}

/// Workers tell "unset" from "zero": what the caller left out stays out.
#[test]
fn timeouts_that_were_left_unset_stay_unset() {
    let event = first_event(&Run::new());
    assert_eq!(
        (event.workflow_execution_timeout, event.workflow_run_timeout),
        (None, None)
    );
    assert_eq!(event.workflow_task_timeout, duration(10));

    let mut request = start_request();
    request.workflow_execution_timeout = duration(60);
    request.workflow_run_timeout = duration(0);
    let event = first_event(&Run::with(start_of(request), Limits::default()));
    assert_eq!(event.workflow_execution_timeout, duration(60));
    assert_eq!(
        event.workflow_run_timeout,
        duration(60),
        "the execution timeout bounds every run"
    );
}

/// The pause between runs that the server adds is the new run's; the event tells what the worker asked for.
#[test]
fn continue_as_new_tells_the_interval_it_was_given() {
    for asked in [None, length(0, 1_000_000)] {
        let mut run = Run::new();
        let command = command(
            CommandType::ContinueAsNewWorkflowExecution,
            C::ContinueAsNewWorkflowExecutionCommandAttributes(
                ContinueAsNewWorkflowExecutionCommandAttributes {
                    backoff_start_interval: asked,
                    ..Default::default()
                },
            ),
        );
        run.poll().complete(vec![command]);
        let told = run.events().find_map(|e| match &e.attributes {
            Some(A::WorkflowExecutionContinuedAsNewEventAttributes(a)) => {
                Some(a.backoff_start_interval)
            }
            _ => None,
        });
        assert_eq!(told, Some(asked));
        let next = run.new_run.take().expect("goes on");
        let next = Run::follow(next, &run);
        assert_eq!(first_event(&next).first_workflow_task_backoff, duration(1));
    }
}

/// A child's queue is the parent's when the command names none; its timeouts are its own.
#[test]
fn children_do_not_inherit_timeouts() {
    let mut request = start_request();
    request.workflow_run_timeout = duration(1_500);
    request.workflow_task_timeout = duration(7);
    let mut run = Run::with(start_of(request), local_limits());
    let attributes = StartChildWorkflowExecutionCommandAttributes {
        workflow_id: "child".into(),
        workflow_type: Some(WorkflowType {
            name: "kind".into(),
        }),
        ..Default::default()
    };
    run.poll().complete(vec![command(
        CommandType::StartChildWorkflowExecution,
        C::StartChildWorkflowExecutionCommandAttributes(attributes),
    )]);
    let initiated = run.events().find_map(|e| match &e.attributes {
        Some(A::StartChildWorkflowExecutionInitiatedEventAttributes(a)) => Some(a.clone()),
        _ => None,
    });
    let StartChildWorkflowExecutionInitiatedEventAttributes {
        task_queue,
        workflow_run_timeout,
        workflow_task_timeout,
        ..
    } = initiated.expect("initiated");
    assert_eq!(task_queue.unwrap_or_default().name, "queue");
    assert_eq!(
        (workflow_run_timeout, workflow_task_timeout),
        (duration(0), duration(10))
    );
}
