//! Workflow tasks are started, fail and time out. Completion has a module of its own.

use proto_ids::EventId;
use proto_messages::temporal::api::{
    enums::v1::{TimeoutType, WorkflowTaskFailedCause},
    failure::v1::Failure,
    history::v1::{WorkflowTaskFailedEventAttributes, WorkflowTaskTimedOutEventAttributes},
};

use super::WorkflowTask;
use crate::{
    MutableState, Refusal, Reply,
    component::close,
    decision::Decision,
    event::Attributes,
    limits::SERVER,
    task::{TaskKind, Timeout},
};

/// Which attempt of which workflow task a worker holds.
#[derive(Clone, Copy)]
pub(crate) struct Token {
    pub(crate) scheduled_event_id: EventId,
    pub(crate) started_event_id: EventId,
    pub(crate) attempt: i32,
}

impl Token {
    /// The task, while the worker still holds it.
    pub(crate) fn check<'a>(&self, ms: &'a MutableState) -> Result<&'a WorkflowTask, Refusal> {
        ms.execution_info
            .workflow_task
            .as_ref()
            .filter(|t| {
                t.started_event_id != EventId::default()
                    && t.scheduled_event_id == self.scheduled_event_id
                    && t.started_event_id == self.started_event_id
                    && t.attempt == self.attempt
            })
            .ok_or(Refusal::WorkflowTaskNotFound)
    }
}

/// Why and by whom a workflow task failed.
pub(crate) struct Failed {
    pub(crate) cause: WorkflowTaskFailedCause,
    pub(crate) failure: Option<Failure>,
    pub(crate) identity: String,
    pub(crate) binary_checksum: String,
}

impl Failed {
    /// The server fails it.
    pub(crate) fn by_server(cause: WorkflowTaskFailedCause) -> Self {
        Self {
            cause,
            failure: None,
            identity: SERVER.to_owned(),
            binary_checksum: String::new(),
        }
    }
}

pub(crate) fn start(
    decision: &mut Decision<'_>,
    scheduled_event_id: EventId,
    attempt: i32,
    request_id: &str,
    identity: &str,
) -> Result<(), Refusal> {
    let Some(task) = &decision.ms.execution_info.workflow_task else {
        return Err(Refusal::WorkflowTaskNotFound);
    };
    if task.scheduled_event_id != scheduled_event_id || (attempt != 0 && task.attempt != attempt) {
        return Err(Refusal::WorkflowTaskNotFound);
    }
    if task.started_event_id != EventId::default() {
        if task.request_id != request_id {
            return Err(Refusal::AlreadyStarted);
        }
        decision.reply = Reply::WorkflowTaskStarted {
            transient: decision.ms.transient_events(),
        };
        return Ok(());
    }
    if task.attempt > 1 && task.scheduled_event_id != decision.ms.execution_info.next_event_id {
        // Events came after the failure, so this is not the same task tried again.
        decision.add_workflow_task_scheduled_event()?;
    }
    if decision
        .ms
        .execution_info
        .workflow_task
        .as_ref()
        .is_some_and(|t| t.attempt > 1)
    {
        start_transient(decision, request_id, identity);
    } else {
        decision.start_workflow_task(request_id, identity)?;
    }
    decision.durability = crate::Durability::WriteBehind;
    decision.reply = Reply::WorkflowTaskStarted {
        transient: decision.ms.transient_events(),
    };
    Ok(())
}

/// Starts an attempt that history does not hold.
fn start_transient(decision: &mut Decision<'_>, request_id: &str, identity: &str) {
    let now = decision.now();
    let version = decision.version();
    let suggest = !decision
        .ms
        .suggests_continue_as_new(decision.ctx.limits)
        .is_empty();
    let execution_info = &mut decision.ms.execution_info;
    let Some(task) = execution_info.workflow_task.as_mut() else {
        return;
    };
    task.version = version;
    task.started_event_id = task.scheduled_event_id.next();
    task.started_time = now;
    task.request_id = request_id.to_owned();
    task.identity = identity.to_owned();
    task.suggest_continue_as_new = suggest;
    task.history_size = execution_info.history_size;
    let kind = TaskKind::WorkflowTaskTimeout {
        scheduled_event_id: task.scheduled_event_id,
        attempt: task.attempt,
        timeout: Timeout::StartToClose,
    };
    let at = now.plus(task.timeout);
    decision.add_task(Some(at), kind);
    decision.change();
}

/// A worker or the server gives the started workflow task up.
pub(crate) fn fail(decision: &mut Decision<'_>, failed: Failed) -> Result<(), Refusal> {
    let cause = failed.cause;
    if cause == WorkflowTaskFailedCause::GrpcMessageTooLarge {
        // Trying again would send the same message. The task fails with the run's end, whatever its own cause.
        let reason = "GrpcMessageTooLarge".to_owned();
        return close::terminate(decision, reason, None, SERVER.to_owned());
    }
    end_attempt(decision, failed)?;
    decision.flush_and_reschedule()
}

/// Ends the started attempt with a failure: an event for the first attempt, state alone for later ones.
pub(crate) fn end_attempt(decision: &mut Decision<'_>, failed: Failed) -> Result<(), Refusal> {
    let Some(task) = &decision.ms.execution_info.workflow_task else {
        return Ok(());
    };
    if task.attempt > 1 {
        next_transient(decision, failed.cause);
        return Ok(());
    }
    #[expect(
        deprecated,
        reason = "workers without versioning tell their build only here"
    )]
    let attributes = WorkflowTaskFailedEventAttributes {
        scheduled_event_id: task.scheduled_event_id.get(),
        started_event_id: task.started_event_id.get(),
        cause: failed.cause.into(),
        failure: failed.failure,
        identity: failed.identity,
        binary_checksum: failed.binary_checksum,
        ..Default::default()
    };
    decision
        .write(Attributes::WorkflowTaskFailedEventAttributes(attributes))
        .map(|_| ())
}

/// Moves on to another attempt without an event.
fn next_transient(decision: &mut Decision<'_>, cause: WorkflowTaskFailedCause) {
    let next = decision.ms.execution_info.next_event_id;
    let (now, version, limits) = (decision.now(), decision.version(), decision.ctx.limits);
    if cause == WorkflowTaskFailedCause::FailoverCloseCommand {
        decision.ms.execution_info.workflow_task = None;
        decision.ms.execution_info.workflow_task_attempt = 1;
        decision.ms.execution_info.sticky = None;
    } else {
        decision.ms.execution_info.close_attempted |=
            cause == WorkflowTaskFailedCause::UnhandledCommand;
        decision
            .ms
            .next_workflow_task_attempt(next, now, version, limits);
        decision.add_workflow_task();
    }
    decision.ms.execution_info.workflow_task_heartbeat_since = Default::default();
    decision.change();
}

/// The server takes a started workflow task away from its worker; one that nobody started is left.
pub(crate) fn fail_in_flight(
    decision: &mut Decision<'_>,
    cause: WorkflowTaskFailedCause,
) -> Result<(), Refusal> {
    if decision.ms.has_started_workflow_task() {
        end_attempt(decision, Failed::by_server(cause))?;
    }
    Ok(())
}

/// A started workflow task took too long, or nobody took it from the sticky queue.
pub(crate) fn time_out(
    decision: &mut Decision<'_>,
    scheduled_event_id: EventId,
    attempt: i32,
    timeout: Timeout,
) -> Result<(), Refusal> {
    let kind = TaskKind::WorkflowTaskTimeout {
        scheduled_event_id,
        attempt,
        timeout,
    };
    if !decision.ms.is_pending(&kind) {
        return Ok(());
    }
    let Some(task) = &decision.ms.execution_info.workflow_task else {
        return Ok(());
    };
    let timeout_type = match timeout {
        Timeout::StartToClose if task.started_time.plus(task.timeout) > decision.now() => {
            return Ok(());
        }
        Timeout::StartToClose => TimeoutType::StartToClose,
        // Only a sticky queue is given up for the normal one.
        Timeout::ScheduleToStart if task.sticky => TimeoutType::ScheduleToStart,
        _ => return Ok(()),
    };
    if task.attempt > 1 {
        next_transient(decision, WorkflowTaskFailedCause::Unspecified);
    } else {
        write_timed_out(decision, timeout_type)?;
    }
    decision.flush_and_reschedule()
}

/// Writes that the first attempt timed out.
pub(crate) fn write_timed_out(
    decision: &mut Decision<'_>,
    timeout_type: TimeoutType,
) -> Result<(), Refusal> {
    let Some(task) = &decision.ms.execution_info.workflow_task else {
        return Ok(());
    };
    let attributes = WorkflowTaskTimedOutEventAttributes {
        scheduled_event_id: task.scheduled_event_id.get(),
        started_event_id: task.started_event_id.get(),
        timeout_type: timeout_type.into(),
    };
    decision
        .write(Attributes::WorkflowTaskTimedOutEventAttributes(attributes))
        .map(|_| ())
}

/// Forgets the sticky queue. A task already scheduled there stays there.
pub(crate) fn reset_sticky(decision: &mut Decision<'_>) {
    let waits_there = decision
        .ms
        .execution_info
        .workflow_task
        .as_ref()
        .is_some_and(|t| t.sticky);
    if decision.ms.execution_info.sticky.is_some() && !waits_there {
        decision.ms.execution_info.sticky = None;
        decision.change();
    }
}

/// Releases the first workflow task of a child whose parent has recorded its start.
pub(crate) fn schedule_first(decision: &mut Decision<'_>) -> Result<(), Refusal> {
    let ms = &decision.ms;
    let waits_for_time = ms.start.execution_time > ms.start.start_time;
    if ms.execution_info.first_workflow_task_scheduled || waits_for_time {
        return Ok(());
    }
    decision.add_workflow_task_scheduled_event().map(|_| ())
}

/// The delay before the first workflow task is over.
pub(crate) fn end_backoff(decision: &mut Decision<'_>) -> Result<(), Refusal> {
    if decision.ms.execution_info.first_workflow_task_scheduled
        || decision.ms.start.execution_time > decision.now()
    {
        return Ok(());
    }
    decision.add_workflow_task_scheduled_event().map(|_| ())
}

/// Buffered events are written to history, at the price of the workflow task in flight. Its next attempt is a first
/// one: the worker is not at fault.
pub(crate) fn flush_buffered_events(decision: &mut Decision<'_>) -> Result<(), Refusal> {
    if decision.ms.buffered.is_empty() {
        return Ok(());
    }
    fail_in_flight(decision, WorkflowTaskFailedCause::FailoverCloseCommand)?;
    decision.flush_and_reschedule()
}

/// A buffer over its limit is written to history, at the price of the workflow task in flight.
pub(crate) fn limit_buffer(decision: &mut Decision<'_>) -> Result<(), Refusal> {
    let limits = decision.ctx.limits;
    let buffered = &decision.ms.buffered;
    if buffered.is_empty() {
        return Ok(());
    }
    let bytes: usize = buffered.iter().map(prost::Message::encoded_len).sum();
    if buffered.len() <= limits.buffered_events_limit && bytes <= limits.buffered_events_size_limit
    {
        return Ok(());
    }
    fail_in_flight(decision, WorkflowTaskFailedCause::ForceCloseCommand)?;
    decision.flush_and_reschedule()
}
