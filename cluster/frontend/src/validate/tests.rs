use cluster_runtime::Settings;
use proto_messages::temporal::api::{
    common::v1::{
        Memo, Payload, Payloads, RetryPolicy, SearchAttributes, WorkerVersionCapabilities,
        WorkflowExecution, WorkflowType,
    },
    deployment::v1::WorkerDeploymentOptions,
    enums::v1::WorkerVersioningMode,
    taskqueue::v1::TaskQueue,
    workflow::v1::OnConflictOptions,
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
fn names_that_no_store_can_keep_are_refused() {
    let nul = |what: &str| format!("{what} contains a NUL character.");
    assert_eq!(text(|r| r.workflow_id = "a\0".into()), nul("WorkflowId"));
    assert_eq!(
        text(|r| r.workflow_type = Some(WorkflowType { name: "T\0".into() })),
        nul("WorkflowType")
    );
    assert_eq!(
        text(|r| r.task_queue.as_mut().unwrap().name = "q\0".into()),
        nul("TaskQueue")
    );
    assert_eq!(text(|r| r.request_id = "\0".into()), nul("RequestId"));
    assert_eq!(text(|r| r.identity = "\0".into()), nul("Identity"));
    assert_eq!(text(|r| r.workflow_id = "tab\tand\u{1} é".into()), "");
}

#[test]
fn search_attributes_are_known_and_not_the_servers_own() {
    let with = |name: &str| {
        let fields = [(
            name.to_owned(),
            Payload {
                metadata: [("encoding".to_owned(), "json/plain".into())].into(),
                data: "\"x\"".into(),
                ..Default::default()
            },
        )];
        text(|r| {
            r.search_attributes = Some(SearchAttributes {
                indexed_fields: fields.into(),
            });
        })
    };
    assert_eq!(with("TemporalChangeVersion"), "");
    assert_eq!(
        with("Color"),
        "Namespace orders has no mapping defined for search attribute Color"
    );
    for name in ["StartTime", "TemporalUsedWorkerDeploymentVersions"] {
        assert_eq!(
            with(name),
            format!("{name} attribute can't be set in SearchAttributes")
        );
    }
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    assert!(
        text(|r| r.versioning_override = Some(Default::default())).contains("versioning_override")
    );
    assert!(text(|r| r.time_skipping_config = Some(Default::default())).contains("Time-Skipping"));
    assert_eq!(
        text(|r| {
            r.on_conflict_options = Some(OnConflictOptions {
                attach_completion_callbacks: true,
                ..Default::default()
            });
        }),
        "attaching request ID is required for attaching completion callbacks"
    );
    let versioned = WorkerDeploymentOptions {
        worker_versioning_mode: WorkerVersioningMode::Versioned as i32,
        ..Default::default()
    };
    let unversioned = WorkerDeploymentOptions {
        worker_versioning_mode: WorkerVersioningMode::Unversioned as i32,
        ..versioned.clone()
    };
    let by_build = |use_versioning| WorkerVersionCapabilities {
        build_id: "b".into(),
        use_versioning,
        ..Default::default()
    };
    assert!(unversioned_worker(None, None).is_ok());
    assert!(unversioned_worker(Some(&by_build(false)), Some(&unversioned)).is_ok());
    for refused in [
        unversioned_worker(Some(&by_build(true)), None),
        unversioned_worker(None, Some(&versioned)),
    ] {
        assert_eq!(refused.unwrap_err().code(), tonic::Code::InvalidArgument);
    }
}

#[test]
fn durations_are_cut_to_a_hundred_years() {
    let settings = Settings::new();
    let long = Some(prost_types::Duration {
        seconds: i64::MAX,
        nanos: 5,
    });
    let mut request = StartWorkflowExecutionRequest {
        workflow_execution_timeout: long,
        workflow_run_timeout: long,
        workflow_task_timeout: long,
        workflow_start_delay: long,
        retry_policy: Some(RetryPolicy {
            initial_interval: long,
            ..Default::default()
        }),
        ..request()
    };
    check_start(&mut request, Limits::new(&settings, "orders")).unwrap();
    let policy = request.retry_policy.unwrap();
    for kept in [
        request.workflow_execution_timeout,
        request.workflow_run_timeout,
        request.workflow_task_timeout,
        request.workflow_start_delay,
        policy.initial_interval,
        policy.maximum_interval,
    ] {
        let kept = kept.unwrap();
        assert_eq!((kept.seconds, kept.nanos), (100 * 365 * 86_400, 0));
    }
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
