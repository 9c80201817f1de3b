//! StartChildWorkflowExecution: a task queue that the command leaves empty is the parent's; timeouts are
//! the child's own.

use proto_messages::{
    temporal::api::{
        command::v1::StartChildWorkflowExecutionCommandAttributes,
        enums::v1::{ParentClosePolicy, WorkflowIdReusePolicy, WorkflowTaskFailedCause as Cause},
        history::v1::StartChildWorkflowExecutionInitiatedEventAttributes,
        taskqueue::v1::TaskQueue,
    },
    time::{cap_duration, duration_to_proto},
};

use crate::{
    Refusal,
    command::{Check, CommandError, Write, check_durations, size},
    component::start::Timeouts,
    event::Attributes,
    retry,
};

const BAD: Cause = Cause::BadStartChildExecutionAttributes;

#[expect(deprecated, reason = "SDKs still name the namespace")]
pub(super) fn check<'a>(
    a: &'a StartChildWorkflowExecutionCommandAttributes,
    cx: &mut Check<'a>,
) -> Result<(), CommandError> {
    let workflow_type = a.workflow_type.as_ref().map_or("", |t| t.name.as_str());
    if a.workflow_id.is_empty() {
        return Err(CommandError::new(
            BAD,
            "Required field WorkflowId is not set on StartChildWorkflowExecutionCommand.",
        ));
    }
    if workflow_type.is_empty() {
        return Err(CommandError::new(
            BAD,
            "Required field WorkflowType is not set on StartChildWorkflowExecutionCommand.",
        ));
    }
    cx.own_namespace(BAD, &a.namespace)?;
    cx.length(BAD, "WorkflowId", &a.workflow_id)?;
    cx.length(BAD, "WorkflowType", workflow_type)?;
    let queue = a.task_queue.as_ref().map_or("", |q| q.name.as_str());
    cx.length(BAD, "TaskQueue", queue)?;
    if queue.starts_with("/_sys/") {
        return Err(CommandError::new(
            BAD,
            "task queue name cannot start with reserved prefix /_sys/",
        ));
    }
    let timeouts = [
        ("WorkflowExecutionTimeout", &a.workflow_execution_timeout),
        ("WorkflowRunTimeout", &a.workflow_run_timeout),
        ("WorkflowTaskTimeout", &a.workflow_task_timeout),
    ];
    check_durations(BAD, timeouts, |what, fault| {
        format!(
            "Invalid {what} on StartChildWorkflowExecutionCommand: {fault}. WorkflowId={} WorkflowType={} \
             Namespace={}",
            a.workflow_id, workflow_type, cx.ctx.limits.namespace
        )
    })?;
    if let Some(policy) = &a.retry_policy {
        retry::validate(policy).map_err(|text| CommandError::new(BAD, text))?;
    }
    cx.cron(BAD, "StartChildWorkflowExecutionCommand", &a.cron_schedule)?;
    cx.blob(
        BAD,
        "StartChildWorkflowExecutionCommandAttributes. Input",
        size(&a.input),
    )?;
    if a.versioning_override.is_some() {
        return Err(CommandError::new(
            Cause::FeatureDisabled,
            "versioning_override is not supported by this server.",
        ));
    }
    let command = "StartChildWorkflowExecutionCommandAttributes";
    cx.memo(BAD, command, a.memo.as_ref())?;
    cx.search_attributes(command, a.search_attributes.as_ref())?;
    let pending = cx.ms.children.len() + cx.child.started.len();
    cx.room(
        Cause::PendingChildWorkflowsLimitExceeded,
        "child workflow executions",
        pending,
    )?;
    cx.child.started.push(&a.workflow_id);
    Ok(())
}

#[expect(deprecated, reason = "older SDKs match events by the control field")]
pub(super) fn write(
    mut a: StartChildWorkflowExecutionCommandAttributes,
    cx: &mut Write<'_, '_>,
) -> Result<(), Refusal> {
    for timeout in [
        &mut a.workflow_execution_timeout,
        &mut a.workflow_run_timeout,
        &mut a.workflow_task_timeout,
    ] {
        cap_duration(timeout.as_mut());
    }
    let ms = &*cx.decision.ms;
    let task_queue = a
        .task_queue
        .clone()
        .filter(|q| !q.name.is_empty())
        .unwrap_or_else(|| TaskQueue {
            name: ms.start.task_queue.clone(),
            ..TaskQueue::default()
        });
    let parent_close_policy = match a.parent_close_policy() {
        ParentClosePolicy::Unspecified => ParentClosePolicy::Terminate,
        policy => policy,
    };
    let reuse_policy = match a.workflow_id_reuse_policy() {
        WorkflowIdReusePolicy::Unspecified => WorkflowIdReusePolicy::AllowDuplicate,
        policy => policy,
    };
    let mut retry_policy = a.retry_policy;
    if let Some(policy) = &mut retry_policy {
        retry::fill_defaults(policy, &cx.decision.ctx.limits.default_workflow_retry);
    }
    let timeouts = Timeouts::of(
        a.workflow_execution_timeout.as_ref(),
        a.workflow_run_timeout.as_ref(),
        a.workflow_task_timeout.as_ref(),
        cx.decision.ctx.limits,
    );
    let attributes = StartChildWorkflowExecutionInitiatedEventAttributes {
        namespace: cx.decision.ctx.limits.namespace.clone(),
        namespace_id: ms.key.namespace_id.as_str().to_owned(),
        workflow_id: a.workflow_id,
        workflow_type: a.workflow_type,
        task_queue: Some(task_queue),
        input: a.input,
        workflow_execution_timeout: a.workflow_execution_timeout,
        workflow_run_timeout: Some(duration_to_proto(timeouts.run)),
        workflow_task_timeout: Some(duration_to_proto(timeouts.task)),
        parent_close_policy: parent_close_policy.into(),
        control: a.control,
        workflow_task_completed_event_id: cx.completed,
        workflow_id_reuse_policy: reuse_policy.into(),
        retry_policy,
        cron_schedule: a.cron_schedule,
        header: a.header,
        memo: a.memo,
        search_attributes: a.search_attributes,
        inherit_build_id: a.inherit_build_id,
        priority: a.priority,
        versioning_override: a.versioning_override,
        ..Default::default()
    };
    cx.write(Attributes::StartChildWorkflowExecutionInitiatedEventAttributes(attributes))
        .map(|_| ())
}
