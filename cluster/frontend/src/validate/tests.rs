use cluster_runtime::Settings;
use proto_messages::temporal::api::{
    common::v1::{Memo, Payload, Payloads, WorkflowExecution, WorkflowType},
    taskqueue::v1::TaskQueue,
    workflowservice::v1::StartWorkflowExecutionRequest,
};

use super::*;
use crate::workflow_service::check_start;

fn request() -> StartWorkflowExecutionRequest {
    StartWorkflowExecutionRequest {
        workflow_id: "order-1".into(),
        workflow_type: Some(WorkflowType {
            name: "Order".into(),
        }),
        task_queue: Some(TaskQueue {
            name: "orders".into(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn text(change: impl FnOnce(&mut StartWorkflowExecutionRequest)) -> String {
    let settings = Settings::new();
    let mut request = request();
    change(&mut request);
    match check_start(&mut request, Limits::new(&settings, "orders")) {
        Ok(()) => String::new(),
        Err(status) => status.message().to_owned(),
    }
}

#[test]
fn starts_are_refused_with_the_texts_that_clients_know() {
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    assert_eq!(text(|_| ()), "");
    assert_eq!(
        text(|r| r.workflow_id.clear()),
        "WorkflowId is not set on request."
    );
    assert_eq!(text(|r| r.workflow_id = "x".repeat(1_000)), "");
    assert_eq!(
        text(|r| r.workflow_id = "x".repeat(1_001)),
        "WorkflowId length exceeds limit."
    );
    assert_eq!(
        text(|r| r.workflow_type = None),
        "WorkflowType is not set on request."
    );
    assert_eq!(
        text(|r| r.task_queue = None),
        "TaskQueue is not set on request."
    );
    assert_eq!(
        text(|r| r.request_id = "x".repeat(1_001)),
        "RequestId length exceeds limit."
    );
    assert_eq!(
        text(|r| r.workflow_run_timeout = seconds(-1)),
        "An invalid WorkflowRunTimeoutSeconds is set on request."
    );
    assert_eq!(
        text(|r| {
            r.workflow_start_delay = seconds(1);
            r.cron_schedule = "@daily".into();
        }),
        "CronSchedule and WorkflowStartDelay may not be used together."
    );
    assert!(
        text(|r| (r.workflow_id_reuse_policy, r.workflow_id_conflict_policy) = (4, 1))
            .contains("cannot be used together with a WorkflowIDConflictPolicy")
    );
    assert!(
        text(|r| (r.workflow_id_reuse_policy, r.workflow_id_conflict_policy) = (3, 3))
            .contains("TERMINATE_EXISTING")
    );
    assert!(
        text(|r| r.task_queue.as_mut().unwrap().name = "/_sys/x/1".into()).contains("reserved")
    );
}

#[test]
fn sizes_are_limited_inclusively() {
    let of = |size: usize| Payload {
        data: vec![0_u8; size].into(),
        ..Default::default()
    };
    // Two length prefixes of three bytes, and a tag each.
    let largest = (2 << 20) - 8;
    let input = |size| {
        Some(Payloads {
            payloads: vec![of(size)],
        })
    };
    assert_eq!(text(|r| r.input = input(largest)), "");
    assert_eq!(
        text(|r| r.input = input(largest + 1)),
        "Blob data size exceeds limit."
    );
    let memo = |size| {
        Some(Memo {
            fields: [("k".to_owned(), of(size))].into(),
        })
    };
    assert_eq!(text(|r| r.memo = memo(1_000)), "");
    assert_eq!(text(|r| r.memo = memo(2 << 20)), "Memo size exceeds limit.");
}

#[test]
fn values_that_stand_for_nothing_are_dropped() {
    let settings = Settings::new();
    let mut request = request();
    let null = Payload {
        metadata: [("encoding".to_owned(), b"binary/null".to_vec().into())].into(),
        ..Default::default()
    };
    request.memo = Some(Memo {
        fields: [("k".to_owned(), null)].into(),
    });
    check_start(&mut request, Limits::new(&settings, "orders")).unwrap();
    assert_eq!(request.memo, None);
    assert_eq!(request.task_queue.unwrap().kind, 1);
}

#[test]
fn policies_about_a_taken_id_are_filled_in() {
    let settings = Settings::new();
    let filled = |reuse, conflict| {
        let mut request = request();
        request.workflow_id_reuse_policy = reuse;
        request.workflow_id_conflict_policy = conflict;
        check_start(&mut request, Limits::new(&settings, "orders")).unwrap();
        (
            request.workflow_id_reuse_policy,
            request.workflow_id_conflict_policy,
        )
    };
    assert_eq!(filled(0, 0), (1, 1));
    assert_eq!(filled(4, 0), (1, 3));
    assert_eq!(filled(2, 2), (2, 2));
}

#[test]
fn runs_are_named_in_full() {
    let settings = Settings::new();
    let limits = Limits::new(&settings, "orders");
    let text = |e: Option<WorkflowExecution>| {
        execution(e.as_ref(), limits)
            .unwrap_err()
            .message()
            .to_owned()
    };
    let of = |workflow_id: &str, run_id: &str| {
        Some(WorkflowExecution {
            workflow_id: workflow_id.into(),
            run_id: run_id.into(),
        })
    };
    assert_eq!(text(None), "Execution is not set on request.");
    assert_eq!(text(of("", "")), "WorkflowId is not set on request.");
    assert_eq!(text(of("w", "not-a-uuid")), "Invalid RunId.");
    let named = of("w", "32049b68-7872-4094-8e63-d0dd59896a83");
    assert!(execution(named.as_ref(), limits).is_ok());
}
