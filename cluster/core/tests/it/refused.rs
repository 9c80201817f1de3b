//! Commands that are refused: names that no store can keep, schedules that never fire, search attributes that
//! nobody knows.

use cluster_core::{Limits, Reply};
use proto_messages::temporal::api::{
    command::v1::{
        Command, ContinueAsNewWorkflowExecutionCommandAttributes, RecordMarkerCommandAttributes,
        RequestCancelExternalWorkflowExecutionCommandAttributes,
        ScheduleActivityTaskCommandAttributes, SignalExternalWorkflowExecutionCommandAttributes,
        StartChildWorkflowExecutionCommandAttributes,
        UpsertWorkflowSearchAttributesCommandAttributes, command::Attributes as C,
    },
    common::v1::{ActivityType, Payload, SearchAttributes, WorkflowExecution, WorkflowType},
    enums::v1::{CommandType as T, WorkflowTaskFailedCause as Cause},
    taskqueue::v1::TaskQueue,
    workflow::v1::VersioningOverride,
};

use crate::script::{Run, activity, command, schedule, start_of, start_request, timer};

/// Why a task with this command failed; nothing when it did not.
fn refusal(command: Command) -> Option<(Cause, String)> {
    let limits = Limits {
        namespace: "default".into(),
        ..Limits::default()
    };
    let mut run = Run::with(start_of(start_request()), limits);
    run.poll().complete(vec![command]);
    match &run.reply {
        Reply::WorkflowTaskCompleted { failed, .. } => {
            assert!(run.new_run.is_none() || failed.is_none());
            failed.clone()
        }
        reply => panic!("{reply:?}"),
    }
}

fn child(change: impl FnOnce(&mut StartChildWorkflowExecutionCommandAttributes)) -> Command {
    let mut attributes = StartChildWorkflowExecutionCommandAttributes {
        workflow_id: "child".into(),
        workflow_type: Some(WorkflowType {
            name: "kind".into(),
        }),
        ..Default::default()
    };
    change(&mut attributes);
    command(
        T::StartChildWorkflowExecution,
        C::StartChildWorkflowExecutionCommandAttributes(attributes),
    )
}

fn continued(change: impl FnOnce(&mut ContinueAsNewWorkflowExecutionCommandAttributes)) -> Command {
    let mut attributes = ContinueAsNewWorkflowExecutionCommandAttributes::default();
    change(&mut attributes);
    command(
        T::ContinueAsNewWorkflowExecution,
        C::ContinueAsNewWorkflowExecutionCommandAttributes(attributes),
    )
}

fn signal_other(workflow_id: &str, run_id: &str, signal_name: &str) -> Command {
    let attributes = SignalExternalWorkflowExecutionCommandAttributes {
        execution: Some(WorkflowExecution {
            workflow_id: workflow_id.into(),
            run_id: run_id.into(),
        }),
        signal_name: signal_name.into(),
        ..Default::default()
    };
    command(
        T::SignalExternalWorkflowExecution,
        C::SignalExternalWorkflowExecutionCommandAttributes(attributes),
    )
}

fn cancel_other(workflow_id: &str, run_id: &str) -> Command {
    #[expect(deprecated, reason = "SDKs still name the namespace")]
    let attributes = RequestCancelExternalWorkflowExecutionCommandAttributes {
        namespace: String::new(),
        workflow_id: workflow_id.into(),
        run_id: run_id.into(),
        ..Default::default()
    };
    command(
        T::RequestCancelExternalWorkflowExecution,
        C::RequestCancelExternalWorkflowExecutionCommandAttributes(attributes),
    )
}

fn queue(name: &str) -> Option<TaskQueue> {
    Some(TaskQueue {
        name: name.into(),
        ..Default::default()
    })
}

#[test]
fn no_command_brings_in_a_name_with_a_nul() {
    let marker = RecordMarkerCommandAttributes {
        marker_name: "m\0".into(),
        ..Default::default()
    };
    let commands = [
        ("TimerId", timer("t\0", 5)),
        ("ActivityId", schedule(activity("a\0"))),
        (
            "ActivityType",
            schedule(ScheduleActivityTaskCommandAttributes {
                activity_type: Some(ActivityType { name: "A\0".into() }),
                ..activity("a")
            }),
        ),
        (
            "TaskQueue",
            schedule(ScheduleActivityTaskCommandAttributes {
                task_queue: queue("q\0"),
                ..activity("a")
            }),
        ),
        (
            "MarkerName",
            command(T::RecordMarker, C::RecordMarkerCommandAttributes(marker)),
        ),
        ("WorkflowId", child(|a| a.workflow_id = "c\0".into())),
        (
            "WorkflowType",
            child(|a| a.workflow_type = Some(WorkflowType { name: "\0".into() })),
        ),
        ("TaskQueue", child(|a| a.task_queue = queue("\0q"))),
        (
            "WorkflowType",
            continued(|a| a.workflow_type = Some(WorkflowType { name: "\0".into() })),
        ),
        ("TaskQueue", continued(|a| a.task_queue = queue("\0q"))),
        ("WorkflowId", signal_other("w\0", "", "s")),
        ("SignalName", signal_other("w", "", "s\0")),
        ("WorkflowId", cancel_other("w\0", "")),
    ];
    for (what, command) in commands {
        let (_, text) = refusal(command).expect(what);
        assert!(
            text.ends_with(&format!("{what} contains a NUL character.")),
            "{text}"
        );
    }
}

#[test]
fn runs_of_other_workflows_are_named_by_a_uuid() {
    let good = "32049b68-7872-4094-8e63-d0dd59896a83";
    assert_eq!(refusal(signal_other("w", good, "s")), None);
    assert_eq!(refusal(cancel_other("w", good)), None);
    for bad in [
        "run",
        "32049b68-7872-4094-8e63-d0dd59896a8\0",
        &"x".repeat(100_000),
    ] {
        for command in [signal_other("w", bad, "s"), cancel_other("w", bad)] {
            let (_, text) = refusal(command).expect(bad);
            assert!(text.contains("Invalid RunId set on"), "{text}");
            assert!(text.len() < 2_100, "what is quoted is cut");
        }
    }
}

#[test]
fn a_schedule_that_never_fires_starts_nothing() {
    for bad in [
        "0 0 30 2 *",
        "0 0 * * 7",
        "60 * * * *",
        "* * * * * *",
        "@every 0x",
    ] {
        let (cause, text) = refusal(child(|a| a.cron_schedule = bad.into())).expect(bad);
        assert_eq!(cause, Cause::BadStartChildExecutionAttributes, "{bad}");
        assert!(text.contains("invalid CronSchedule"), "{text}");
        let (cause, _) = refusal(continued(|a| a.cron_schedule = bad.into())).expect(bad);
        assert_eq!(cause, Cause::BadContinueAsNewAttributes, "{bad}");
        let mut request = start_request();
        request.cron_schedule = bad.into();
        assert!(Run::try_with(start_of(request), Limits::default()).is_err());
    }
    assert_eq!(
        refusal(child(|a| a.cron_schedule = "0 0 29 2 *".into())),
        None
    );
}

#[test]
fn search_attributes_are_known_and_not_the_servers_own() {
    let value = Payload {
        metadata: [("encoding".to_owned(), "json/plain".into())].into(),
        data: "\"x\"".into(),
        ..Default::default()
    };
    let of = |name: &str| {
        Some(SearchAttributes {
            indexed_fields: [(name.to_owned(), value.clone())].into(),
        })
    };
    let doors = |name: &str| {
        let upsert = UpsertWorkflowSearchAttributesCommandAttributes {
            search_attributes: of(name),
        };
        [
            command(
                T::UpsertWorkflowSearchAttributes,
                C::UpsertWorkflowSearchAttributesCommandAttributes(upsert),
            ),
            child(|a| a.search_attributes = of(name)),
            continued(|a| a.search_attributes = of(name)),
        ]
    };
    for (name, said) in [
        (
            "Color",
            "Namespace default has no mapping defined for search attribute Color",
        ),
        (
            "StartTime",
            "StartTime attribute can't be set in SearchAttributes",
        ),
    ] {
        for command in doors(name) {
            let refused = refusal(command);
            let wanted = format!("BadSearchAttributes: {said}");
            assert_eq!(refused, Some((Cause::BadSearchAttributes, wanted)));
        }
    }
    for command in doors("TemporalChangeVersion") {
        assert_eq!(refusal(command), None);
    }
}

#[test]
fn a_child_cannot_be_pinned_to_a_version() {
    let pinned = child(|a| a.versioning_override = Some(VersioningOverride::default()));
    let (cause, _) = refusal(pinned).expect("refused");
    assert_eq!(cause, Cause::FeatureDisabled);
}
