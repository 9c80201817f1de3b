//! A worker completes a workflow task. All commands are checked before the first event is written, so a
//! bad one costs nothing but the workflow task.

use proto_messages::temporal::api::{
    deployment::v1::{WorkerDeploymentOptions, WorkerDeploymentVersion},
    enums::v1::{TimeoutType, VersioningBehavior, WorkerVersioningMode, WorkflowTaskFailedCause},
    history::v1::WorkflowTaskCompletedEventAttributes,
    workflowservice::v1::RespondWorkflowTaskCompletedRequest,
};

use super::{
    Sticky,
    request::{self, Failed, Token},
};
use crate::{
    Refusal, Reply,
    command::{self, CommandError},
    component::close,
    decision::Decision,
    event::Attributes,
    limits::{SERVER, server_failure},
};

/// Request id of a workflow task that is started with the answer to a completion.
const INLINE_START: &str = "request-from-RespondWorkflowTaskCompleted";

pub(crate) fn complete(
    decision: &mut Decision<'_>,
    token: Token,
    mut request: RespondWorkflowTaskCompletedRequest,
    queries_pending: bool,
) -> Result<(), Refusal> {
    let task = token.check(decision.ms)?;
    let original_scheduled_time = task.original_scheduled_time;
    command::check_sequence(&request.commands)?;
    if let Err(bad) = command::check(decision.ms, &request.commands, decision.ctx) {
        return refuse(decision, bad, &request);
    }
    if !request.messages.is_empty() {
        let cause = WorkflowTaskFailedCause::BadUpdateWorkflowExecutionMessage;
        let text = "Workflow updates are not supported by this server.";
        return refuse(decision, CommandError::new(cause, text), &request);
    }
    if !command::ends_run(&request.commands) {
        decision.ms.check_room(decision.ctx.limits)?;
    }
    let only_heartbeats =
        request.force_create_new_workflow_task && request.commands.is_empty() && !queries_pending;
    let limit = decision.ctx.limits.workflow_task_heartbeat_timeout;
    if only_heartbeats && decision.now() > original_scheduled_time.plus(limit) {
        return end_heartbeats(decision);
    }
    write_transient(decision)?;
    let commands = std::mem::take(&mut request.commands);
    let completed = write_completed(decision, &mut request)?;
    let mut done = command::write(decision, commands, completed, &request.identity)?;
    let buffered = decision.flush_buffered_events();
    if !decision.ms.is_running() {
        decision.reply = Reply::WorkflowTaskCompleted {
            eager_activities: Vec::new(),
            new_task_started: false,
            failed: None,
        };
        return Ok(());
    }
    command::start_eager(decision, &mut done, &request.identity)?;
    let mut new_task_started = false;
    if buffered || done.needs_workflow_task || request.force_create_new_workflow_task {
        decision.schedule_workflow_task()?;
        if let Some(task) = decision
            .ms
            .execution_info
            .workflow_task
            .as_mut()
            .filter(|_| only_heartbeats)
        {
            task.original_scheduled_time = original_scheduled_time;
        }
        if request.return_new_workflow_task && decision.ms.execution_info.workflow_task.is_some() {
            decision.start_workflow_task(INLINE_START, &request.identity)?;
            new_task_started = true;
        }
    }
    decision.reply = Reply::WorkflowTaskCompleted {
        eager_activities: done.eager,
        new_task_started,
        failed: None,
    };
    Ok(())
}

/// Writes the two events of an attempt after the first, which completed and so becomes history.
fn write_transient(decision: &mut Decision<'_>) -> Result<(), Refusal> {
    let Some(task) = decision
        .ms
        .execution_info
        .workflow_task
        .clone()
        .filter(|t| t.attempt > 1)
    else {
        return Ok(());
    };
    let mut scheduled = task.scheduled_event(&decision.ms.start.task_queue);
    scheduled.version = decision.version().get();
    let id = decision.write_event(scheduled)?;
    let mut started = task.started_event(id);
    started.version = decision.version().get();
    decision.write_event(started)?;
    Ok(())
}

#[expect(
    deprecated,
    reason = "older SDKs tell their build only in these fields"
)]
fn write_completed(
    decision: &mut Decision<'_>,
    request: &mut RespondWorkflowTaskCompletedRequest,
) -> Result<i64, Refusal> {
    let Some(task) = &decision.ms.execution_info.workflow_task else {
        return Err(Refusal::WorkflowTaskNotFound);
    };
    let options = request.deployment_options.take();
    let is_versioned =
        |o: &WorkerDeploymentOptions| o.worker_versioning_mode() == WorkerVersioningMode::Versioned;
    // Some SDKs report a default behaviour although their worker is not versioned.
    let behavior = match &options {
        Some(o) if !is_versioned(o) => VersioningBehavior::Unspecified.into(),
        _ => request.versioning_behavior,
    };
    let version = options
        .as_ref()
        .filter(|o| is_versioned(o) && !o.deployment_name.is_empty() && !o.build_id.is_empty());
    let version = version.map(|o| WorkerDeploymentVersion {
        build_id: o.build_id.clone(),
        deployment_name: o.deployment_name.clone(),
    });
    let attributes = WorkflowTaskCompletedEventAttributes {
        scheduled_event_id: task.scheduled_event_id.get(),
        started_event_id: task.started_event_id.get(),
        identity: request.identity.clone(),
        binary_checksum: std::mem::take(&mut request.binary_checksum),
        worker_version: request.worker_version_stamp.take(),
        sdk_metadata: request.sdk_metadata.take(),
        metering_metadata: request.metering_metadata.take(),
        versioning_behavior: behavior,
        worker_deployment_name: options.map(|o| o.deployment_name).unwrap_or_default(),
        deployment_version: version,
        ..Default::default()
    };
    let id = decision.write(Attributes::WorkflowTaskCompletedEventAttributes(attributes))?;
    decision.ms.execution_info.sticky = request.sticky_attributes.take().and_then(|mut s| {
        proto_messages::time::cap_duration(s.schedule_to_start_timeout.as_mut());
        let timeout =
            proto_messages::time::duration_from_proto(s.schedule_to_start_timeout.as_ref());
        let name = s.worker_task_queue?.name;
        (!name.is_empty()).then_some(Sticky {
            task_queue: name,
            schedule_to_start_timeout: timeout,
        })
    });
    Ok(id.get())
}

/// A bad command: the workflow task fails instead of completing.
fn refuse(
    decision: &mut Decision<'_>,
    bad: CommandError,
    request: &RespondWorkflowTaskCompletedRequest,
) -> Result<(), Refusal> {
    let text = bad.message();
    let attempt = decision
        .ms
        .execution_info
        .workflow_task
        .as_ref()
        .map_or(1, |t| t.attempt);
    let again = bad.cause == WorkflowTaskFailedCause::UnhandledCommand || bad.terminate;
    if attempt > 1 && !again {
        // The worker keeps making the same mistake: let the task time out, which slows it down.
        return Err(Refusal::Invalid(text));
    }
    #[expect(
        deprecated,
        reason = "workers without versioning tell their build only here"
    )]
    let failed = Failed {
        cause: bad.cause,
        failure: Some(server_failure(text.clone(), true)),
        identity: request.identity.clone(),
        binary_checksum: request.binary_checksum.clone(),
    };
    if bad.terminate {
        request::end_attempt(decision, failed)?;
        decision.flush_buffered_events();
        close::terminate(decision, text.clone(), None, SERVER.to_owned())?;
    } else {
        request::fail(decision, failed)?;
    }
    decision.reply = Reply::WorkflowTaskCompleted {
        eager_activities: Vec::new(),
        new_task_started: false,
        failed: Some((bad.cause, text)),
    };
    Ok(())
}

/// A worker that only keeps its task alive for too long loses it.
fn end_heartbeats(decision: &mut Decision<'_>) -> Result<(), Refusal> {
    write_transient(decision)?;
    request::write_timed_out(decision, TimeoutType::StartToClose)?;
    decision.flush_and_reschedule()?;
    decision.reply = Reply::WorkflowTaskHeartbeatTimedOut;
    Ok(())
}
