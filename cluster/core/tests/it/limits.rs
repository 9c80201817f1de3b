//! Limits, each at its value and one past it.

use cluster_core::{Limits, Refusal, Reply, Request, request::Signal};
use proto_messages::temporal::api::enums::v1::WorkflowTaskFailedCause as Cause;

use crate::script::{
    Run, activity, failure, finish, payloads, schedule, start_of, start_request, timer,
};

fn run_with(change: impl FnOnce(&mut Limits)) -> Run {
    let mut limits = Limits {
        namespace: "default".into(),
        ..Limits::default()
    };
    change(&mut limits);
    Run::with(start_of(start_request()), limits)
}

fn signal() -> Request {
    let signal = Signal {
        name: "s".into(),
        ..Default::default()
    };
    Request::Signal {
        signal,
        only_from_parent: None,
    }
}

fn failed(run: &Run) -> (Cause, &str) {
    match &run.reply {
        Reply::WorkflowTaskCompleted {
            failed: Some((cause, text)),
            ..
        } => (*cause, text),
        reply => panic!("{reply:?}"),
    }
}

#[test]
fn history_ends_at_its_limit() {
    let mut run = run_with(|p| p.history_count_error = 5);
    run.poll().complete(vec![]);
    run.must(signal());
    assert_eq!(run.ms.execution_info.next_event_id.get(), 7);
    let Err(Refusal::HistoryLimitExceeded(failure)) = run.ask(signal()) else {
        panic!("was taken")
    };
    assert_eq!(failure.message, "Workflow history count exceeds limit.");
    // It may still end by itself.
    run.poll().complete(vec![finish()]);

    let mut run = run_with(|p| p.history_size_error = 10);
    let Err(Refusal::HistoryLimitExceeded(failure)) = run.ask(signal()) else {
        panic!("was taken")
    };
    assert_eq!(failure.message, "Workflow history size exceeds limit.");
}

#[test]
fn suggests_to_continue_as_new() {
    let mut run = run_with(|p| p.history_count_suggest_continue_as_new = 4);
    run.poll();
    assert!(
        !run.ms
            .execution_info
            .workflow_task
            .as_ref()
            .is_some_and(|t| t.suggest_continue_as_new)
    );
    run.complete(vec![]).must(signal()).poll();
    assert!(
        run.ms
            .execution_info
            .workflow_task
            .as_ref()
            .is_some_and(|t| t.suggest_continue_as_new)
    );
}

#[test]
fn signals_are_counted() {
    let mut run = run_with(|p| p.signals_limit = 2);
    run.must(signal()).must(signal());
    let text = "exceeded workflow execution limit for signal events";
    assert_eq!(run.ask(signal()), Err(Refusal::Invalid(text.into())));
}

#[test]
fn pending_activities_are_limited() {
    let mut run = run_with(|p| p.pending_limit = 2);
    run.poll()
        .complete(vec![schedule(activity("a")), schedule(activity("b"))]);
    run.signal("wake")
        .poll()
        .complete(vec![schedule(activity("c"))]);
    let (cause, text) = failed(&run);
    assert_eq!(cause, Cause::PendingActivitiesLimitExceeded);
    assert!(
        text.ends_with(
            "the number of pending activities, 2, has reached the per-workflow limit of 2"
        ),
        "{text}"
    );
}

#[test]
fn ids_are_taken_once() {
    let mut run = run_with(|_| {});
    run.poll()
        .complete(vec![schedule(activity("a")), schedule(activity("a"))]);
    assert_eq!(
        failed(&run),
        (
            Cause::ScheduleActivityDuplicateId,
            "ScheduleActivityDuplicateId"
        )
    );
    let mut run = run_with(|_| {});
    run.poll().complete(vec![timer("t", 1), timer("t", 1)]);
    assert_eq!(
        failed(&run),
        (Cause::StartTimerDuplicateId, "StartTimerDuplicateId")
    );
    let mut run = run_with(|p| p.id_length = 3);
    run.poll().complete(vec![timer("long", 1)]);
    assert_eq!(
        failed(&run).1,
        "BadStartTimerAttributes: TimerId exceeds length limit."
    );
}

#[test]
fn a_payload_that_is_too_large_ends_the_run() {
    let mut run = run_with(|p| p.blob_size_error = 8);
    run.poll().signal("waits");
    let mut large = activity("a");
    large.input = payloads("more than eight bytes");
    run.complete(vec![schedule(large)]);
    assert_eq!(failed(&run).0, Cause::BadScheduleActivityAttributes);
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
fn a_large_failure_is_cut_between_attempts_only() {
    let mut run = run_with(|_| {});
    let large = failure(&"x".repeat(5_000), false);
    run.poll()
        .complete(vec![schedule(activity("a"))])
        .start_activity();
    run.fail_activity(large.clone());
    let kept = run
        .ms
        .activities
        .values()
        .next()
        .and_then(|a| a.last_failure.clone());
    assert_eq!(
        kept.as_ref().map(|f| f.message.as_str()),
        Some("Failure exceeds size limit.")
    );
    assert!(prost::Message::encoded_len(&kept.unwrap_or_default()) < 4_096);
}
