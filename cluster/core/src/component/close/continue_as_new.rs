//! ContinueAsNewWorkflowExecution: type, task queue and timeouts that the command leaves empty are inherited.
//! Whatever else it leaves out ends with the run: workers state what the next one shall have.

use proto_messages::{
    temporal::api::{
        command::v1::ContinueAsNewWorkflowExecutionCommandAttributes,
        enums::v1::{ContinueAsNewInitiator, WorkflowTaskFailedCause as Cause},
        history::v1::WorkflowExecutionContinuedAsNewEventAttributes,
    },
    time::{cap_duration, duration_from_proto},
};

use super::next_run::{self, NextRun};
use crate::{
    Refusal,
    command::{Check, CommandError, Write, check_durations, size},
    event::Attributes,
    retry,
};

const BAD: Cause = Cause::BadContinueAsNewAttributes;

pub(super) fn check<'a>(
    a: &'a ContinueAsNewWorkflowExecutionCommandAttributes,
    cx: &mut Check<'a>,
) -> Result<(), CommandError> {
    cx.may_close()?;
    let name = a.workflow_type.as_ref().map_or("", |t| t.name.as_str());
    cx.length(BAD, "WorkflowType", name)?;
    let queue = a.task_queue.as_ref().map_or("", |q| q.name.as_str());
    cx.length(BAD, "TaskQueue", queue)?;
    if queue.starts_with("/_sys/") {
        return Err(CommandError::new(
            BAD,
            "task queue name cannot start with reserved prefix /_sys/",
        ));
    }
    let durations = [
        ("WorkflowRunTimeout", &a.workflow_run_timeout),
        ("WorkflowTaskTimeout", &a.workflow_task_timeout),
        ("BackoffStartInterval", &a.backoff_start_interval),
    ];
    check_durations(BAD, durations, |what, fault| {
        format!(
            "Invalid {what} on ContinueAsNewWorkflowExecutionCommand: {fault}. WorkflowType={name} \
             TaskQueue={queue}"
        )
    })?;
    if let Some(policy) = &a.retry_policy {
        retry::validate(policy).map_err(|text| CommandError::new(BAD, text))?;
    }
    cx.cron(
        BAD,
        "ContinueAsNewWorkflowExecutionCommand",
        &a.cron_schedule,
    )?;
    let command = "ContinueAsNewWorkflowExecutionCommandAttributes";
    cx.memo(BAD, command, a.memo.as_ref())?;
    cx.search_attributes(command, a.search_attributes.as_ref())?;
    cx.blob(
        BAD,
        "ContinueAsNewWorkflowExecutionCommandAttributes. Input",
        size(&a.input),
    )
}

pub(super) fn write(
    mut a: ContinueAsNewWorkflowExecutionCommandAttributes,
    cx: &mut Write<'_, '_>,
) -> Result<(), Refusal> {
    for duration in [
        &mut a.workflow_run_timeout,
        &mut a.workflow_task_timeout,
        &mut a.backoff_start_interval,
    ] {
        cap_duration(duration.as_mut());
    }
    let limits = cx.decision.ctx.limits;
    let lived = cx.decision.now().since(cx.decision.ms.start.execution_time);
    let asked = a.backoff_start_interval;
    let mut backoff = duration_from_proto(a.backoff_start_interval.as_ref());
    if lived + backoff < limits.continue_as_new_min_interval {
        backoff = limits.continue_as_new_min_interval - lived;
    }
    let mut next = NextRun::like(cx.decision, ContinueAsNewInitiator::Workflow, backoff);
    let request = &mut next.start.request;
    if let Some(t) = a.workflow_type.filter(|t| !t.name.is_empty()) {
        request.workflow_type = Some(t);
    }
    if let Some(q) = a.task_queue.filter(|q| !q.name.is_empty()) {
        request.task_queue = Some(q);
    }
    request.input = a.input;
    request.header = a.header;
    let is_set = |d: &Option<prost_types::Duration>| !duration_from_proto(d.as_ref()).is_zero();
    if is_set(&a.workflow_run_timeout) {
        request.workflow_run_timeout = a.workflow_run_timeout;
    }
    if is_set(&a.workflow_task_timeout) {
        request.workflow_task_timeout = a.workflow_task_timeout;
    }
    request.retry_policy = a.retry_policy;
    request.cron_schedule = a.cron_schedule;
    request.memo = a.memo;
    request.search_attributes = a.search_attributes;
    next.start.last_completion_result = a.last_completion_result;
    next.start.continued_failure = a.failure;
    let attributes = continued(&next, asked, cx.completed);
    cx.write(Attributes::WorkflowExecutionContinuedAsNewEventAttributes(
        attributes,
    ))?;
    next_run::start(cx.decision, Some(next))
}

#[expect(
    deprecated,
    reason = "replayed by clusters and SDKs that still read the failure here"
)]
fn continued(
    next: &NextRun,
    backoff_start_interval: Option<prost_types::Duration>,
    completed: i64,
) -> WorkflowExecutionContinuedAsNewEventAttributes {
    let request = &next.start.request;
    WorkflowExecutionContinuedAsNewEventAttributes {
        new_execution_run_id: next.start.key.run_id.as_str().to_owned(),
        workflow_type: request.workflow_type.clone(),
        task_queue: request.task_queue.clone(),
        input: request.input.clone(),
        workflow_run_timeout: request.workflow_run_timeout,
        workflow_task_timeout: request.workflow_task_timeout,
        workflow_task_completed_event_id: completed,
        backoff_start_interval,
        initiator: ContinueAsNewInitiator::Workflow.into(),
        failure: next.start.continued_failure.clone(),
        last_completion_result: next.start.last_completion_result.clone(),
        header: request.header.clone(),
        memo: request.memo.clone(),
        search_attributes: request.search_attributes.clone(),
        ..Default::default()
    }
}
