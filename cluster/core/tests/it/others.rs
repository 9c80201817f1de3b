//! Children, other runs, and other clusters.

use cluster_core::{Limits, Refusal, Reply, Request, TaskKind};
use proto_ids::RunId;
use proto_messages::temporal::api::{
    command::v1::{
        Command, RequestCancelExternalWorkflowExecutionCommandAttributes,
        SignalExternalWorkflowExecutionCommandAttributes,
        StartChildWorkflowExecutionCommandAttributes, command::Attributes as C,
    },
    common::v1::{WorkflowExecution, WorkflowType},
    enums::v1::{
        CommandType, SignalExternalWorkflowExecutionFailedCause as SignalCause,
        StartChildWorkflowExecutionFailedCause as ChildCause, WorkflowTaskFailedCause as Cause,
    },
    history::v1::{
        HistoryEvent, WorkflowExecutionCompletedEventAttributes, history_event::Attributes as A,
    },
};

use crate::script::{Run, activity, command, id, payloads, schedule, start_of, start_request};

fn start_child(id: &str) -> Command {
    command(
        CommandType::StartChildWorkflowExecution,
        C::StartChildWorkflowExecutionCommandAttributes(
            StartChildWorkflowExecutionCommandAttributes {
                workflow_id: id.into(),
                workflow_type: Some(WorkflowType {
                    name: "child".into(),
                }),
                ..Default::default()
            },
        ),
    )
}

fn cancel_other(id: &str) -> Command {
    command(
        CommandType::RequestCancelExternalWorkflowExecution,
        C::RequestCancelExternalWorkflowExecutionCommandAttributes(
            RequestCancelExternalWorkflowExecutionCommandAttributes {
                workflow_id: id.into(),
                ..Default::default()
            },
        ),
    )
}

fn execution(workflow_id: &str, run_id: &str) -> WorkflowExecution {
    WorkflowExecution {
        workflow_id: workflow_id.into(),
        run_id: run_id.into(),
    }
}

fn child_closed(initiated: i64, workflow_id: &str) -> Request {
    Request::ChildClosed {
        initiated_event_id: id(initiated),
        child: execution(workflow_id, "c-run"),
        event: Box::new(HistoryEvent {
            attributes: Some(A::WorkflowExecutionCompletedEventAttributes(
                WorkflowExecutionCompletedEventAttributes {
                    result: payloads("of the child"),
                    ..Default::default()
                },
            )),
            ..Default::default()
        }),
    }
}

#[test]
fn a_child_lives_and_ends() {
    let mut run = Run::new();
    run.poll().complete(vec![start_child("c")]);
    run.must(Request::ChildStarted {
        initiated_event_id: id(5),
        result: Ok(RunId::new("c-run")),
    });
    run.poll().must(child_closed(5, "c")).complete(vec![]);
    assert_eq!(
        run.names_from(5),
        [
            "StartChildWorkflowExecutionInitiated",
            "ChildWorkflowExecutionStarted",
            "WorkflowTaskScheduled",
            "WorkflowTaskStarted",
            "WorkflowTaskCompleted",
            "ChildWorkflowExecutionCompleted",
            "WorkflowTaskScheduled",
        ]
    );
    // Told again, it changes nothing.
    let events = run.events().count();
    run.must(child_closed(5, "c"));
    assert!(matches!(run.reply, Reply::Duplicate));
    assert_eq!(run.events().count(), events);
}

#[test]
fn news_of_a_childs_end_may_overtake_news_of_its_start() {
    let mut run = Run::new();
    run.poll()
        .complete(vec![start_child("c")])
        .must(child_closed(5, "c"));
    assert_eq!(
        run.names_from(6),
        [
            "ChildWorkflowExecutionStarted",
            "ChildWorkflowExecutionCompleted",
            "WorkflowTaskScheduled"
        ]
    );
    let Some(A::ChildWorkflowExecutionCompletedEventAttributes(a)) = &run
        .events()
        .find(|e| e.event_id == 7)
        .expect("there")
        .attributes
    else {
        panic!()
    };
    assert_eq!((a.initiated_event_id, a.started_event_id), (5, 6));
}

#[test]
fn a_child_that_cannot_start() {
    let mut run = Run::new();
    run.poll().complete(vec![start_child("c")]);
    run.must(Request::ChildStarted {
        initiated_event_id: id(5),
        result: Err(ChildCause::WorkflowAlreadyExists),
    });
    assert_eq!(
        run.names_from(6),
        ["StartChildWorkflowExecutionFailed", "WorkflowTaskScheduled"]
    );
    assert!(run.ms.children.is_empty());
}

#[test]
fn a_child_cannot_be_started_and_cancelled_at_once() {
    let mut run = Run::new();
    run.poll()
        .complete(vec![start_child("c"), cancel_other("c")]);
    let Reply::WorkflowTaskCompleted {
        failed: Some((cause, _)),
        ..
    } = &run.reply
    else {
        panic!("{:?}", run.reply)
    };
    assert_eq!(
        *cause,
        Cause::BadRequestCancelExternalWorkflowExecutionAttributes
    );
    assert!(run.ms.children.is_empty());
}

#[test]
fn a_signal_to_another_run_names_its_target_when_it_fails() {
    let mut run = Run::new();
    run.poll().complete(vec![command(
        CommandType::SignalExternalWorkflowExecution,
        C::SignalExternalWorkflowExecutionCommandAttributes(
            SignalExternalWorkflowExecutionCommandAttributes {
                execution: Some(execution("other", "")),
                signal_name: "s".into(),
                ..Default::default()
            },
        ),
    )]);
    assert!(run.tasks.iter().any(|t| t.kind
        == TaskKind::SignalExternal {
            initiated_event_id: id(5)
        }));
    run.must(Request::ExternalSignaled {
        initiated_event_id: id(5),
        result: Err(SignalCause::ExternalWorkflowExecutionNotFound),
    });
    let Some(A::SignalExternalWorkflowExecutionFailedEventAttributes(a)) = &run
        .events()
        .find(|e| e.event_id == 6)
        .expect("there")
        .attributes
    else {
        panic!()
    };
    assert_eq!(a.workflow_execution, Some(execution("other", "")));
    assert_eq!(a.namespace, "default");
}

#[test]
fn cancellation_is_asked_for_once() {
    let cancel = |request_id: &str| Request::Cancel {
        reason: "why".into(),
        identity: "me".into(),
        request_id: request_id.into(),
        external: None,
        child_only: false,
        links: Vec::new(),
    };
    let mut run = Run::new();
    run.must(cancel("one")).must(cancel("one"));
    assert!(matches!(run.reply, Reply::Duplicate));
    assert_eq!(run.ask(cancel("two")), Err(Refusal::CancelAlreadyRequested));
    assert_eq!(run.names_from(3), ["WorkflowExecutionCancelRequested"]);
}

#[test]
fn other_clusters_are_told_of_events_and_of_activities() {
    let limits = Limits {
        namespace: "default".into(),
        replicated: true,
        ..Limits::default()
    };
    let mut run = Run::with(start_of(start_request()), limits);
    let replicated = |run: &Run| -> Vec<(i64, i64)> {
        run.tasks
            .iter()
            .filter_map(|t| match &t.kind {
                TaskKind::ReplicateHistory {
                    first_event_id,
                    next_event_id,
                    ..
                } => Some((first_event_id.get(), next_event_id.get())),
                _ => None,
            })
            .collect()
    };
    run.poll().complete(vec![schedule(activity("a"))]);
    assert_eq!(replicated(&run), [(1, 3), (3, 4), (4, 6)]);
    run.start_activity();
    let sync = TaskKind::SyncActivity {
        scheduled_event_id: id(5),
    };
    assert_eq!(run.tasks.iter().filter(|t| t.kind == sync).count(), 1);
    assert_eq!(
        replicated(&run).len(),
        3,
        "a started activity has no event yet"
    );
}
