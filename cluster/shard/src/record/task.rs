//! Tasks as outbox and timer rows hold them.

use bytes::Bytes;
use cluster_core::{Task, TaskKind, task::Timeout};
use prost::Message;
use proto_ids::{EventId, FailoverVersion, RunKey, TaskId, Timestamp};

use super::{RecordError, decode_message, message};
use crate::queue::QueuedTask;

/// The keys that begin the first three fields of a row, each a text.
const NAMESPACE_ID: u8 = 0x0a;
const WORKFLOW_ID: u8 = 0x12;
const RUN_ID: u8 = 0x1a;

/// The tasks of one run as one row.
pub(crate) fn encode_tasks(run: &RunKey, tasks: &[&QueuedTask]) -> Bytes {
    let stored = message::Tasks {
        namespace_id: run.namespace_id.to_string(),
        workflow_id: run.workflow_id.to_string(),
        run_id: run.run_id.to_string(),
        tasks: tasks.iter().map(|t| task(t)).collect(),
    };
    Bytes::from(stored.encode_to_vec())
}

pub(crate) fn decode_tasks(data: &[u8]) -> Result<Vec<QueuedTask>, RecordError> {
    let stored: message::Tasks = decode_message("tasks", data)?;
    let run = RunKey::new(stored.namespace_id, stored.workflow_id, stored.run_id);
    let read = |t: message::Task| {
        Ok(QueuedTask {
            task_id: TaskId::new(t.id),
            run: run.clone(),
            at: Timestamp::from_nanos(t.at),
            task: Task {
                version: FailoverVersion::new(t.version),
                fire_at: t.fire_at.map(Timestamp::from_nanos),
                kind: read_kind(&t)?,
            },
        })
    };
    stored.tasks.into_iter().map(read).collect()
}

/// The run that a row names, where what follows its name cannot be decoded: fields are written in order, so one that
/// was cut still begins with it.
pub(crate) fn run_of_tasks(mut row: &[u8]) -> Option<RunKey> {
    let namespace_id = leading_text(&mut row, NAMESPACE_ID)?;
    let workflow_id = leading_text(&mut row, WORKFLOW_ID)?;
    let run_id = leading_text(&mut row, RUN_ID)?;
    Some(RunKey::new(namespace_id, workflow_id, run_id))
}

fn leading_text<'a>(row: &mut &'a [u8], key: u8) -> Option<&'a str> {
    let mut rest = row.strip_prefix(&[key])?;
    let len = prost::decode_length_delimiter(&mut rest).ok()?;
    let (text, after) = rest.split_at_checked(len)?;
    *row = after;
    std::str::from_utf8(text).ok()
}

fn task(queued: &QueuedTask) -> message::Task {
    let mut stored = message::Task {
        id: queued.task_id.get(),
        version: queued.task.version.get(),
        at: queued.at.nanos(),
        fire_at: queued.task.fire_at.map(Timestamp::nanos),
        ..message::Task::default()
    };
    write_kind(&queued.task.kind, &mut stored);
    stored
}

fn write_kind(kind: &TaskKind, to: &mut message::Task) {
    let none = EventId::default();
    let (number, event, value) = match kind {
        TaskKind::WorkflowTask {
            scheduled_event_id,
            attempt,
        } => (1, *scheduled_event_id, i64::from(*attempt)),
        TaskKind::Activity {
            scheduled_event_id,
            attempt,
        } => (2, *scheduled_event_id, i64::from(*attempt)),
        TaskKind::StartChild { initiated_event_id } => (3, *initiated_event_id, 0),
        TaskKind::SignalExternal { initiated_event_id } => (4, *initiated_event_id, 0),
        TaskKind::CancelExternal { initiated_event_id } => (5, *initiated_event_id, 0),
        TaskKind::Close => (6, none, 0),
        TaskKind::DeleteExecution => (7, none, 0),
        TaskKind::UserTimer { started_event_id } => (8, *started_event_id, 0),
        TaskKind::ActivityTimeout {
            scheduled_event_id,
            attempt,
            timeout,
        } => {
            to.timeout = timeout_number(*timeout);
            (9, *scheduled_event_id, i64::from(*attempt))
        }
        TaskKind::ActivityRetry {
            scheduled_event_id,
            attempt,
        } => (10, *scheduled_event_id, i64::from(*attempt)),
        TaskKind::WorkflowTaskTimeout {
            scheduled_event_id,
            attempt,
            timeout,
        } => {
            to.timeout = timeout_number(*timeout);
            (11, *scheduled_event_id, i64::from(*attempt))
        }
        TaskKind::WorkflowBackoff => (12, none, 0),
        TaskKind::RunTimeout => (13, none, 0),
        TaskKind::ExecutionTimeout => (14, none, 0),
        TaskKind::Retention => (15, none, 0),
        TaskKind::Visibility => (16, none, 0),
        TaskKind::ReplicateHistory {
            first_event_id,
            next_event_id,
            new_run_id,
        } => {
            to.text = new_run_id.as_ref().map(ToString::to_string);
            (17, *first_event_id, next_event_id.get())
        }
        TaskKind::SyncActivity { scheduled_event_id } => (18, *scheduled_event_id, 0),
        TaskKind::SyncWorkflowState => (19, none, 0),
        TaskKind::ReplicateDelete => (20, none, 0),
    };
    (to.kind, to.event, to.number) = (number, event.get(), value);
}

fn read_kind(t: &message::Task) -> Result<TaskKind, RecordError> {
    let event = EventId::new(t.event);
    let attempt = i32::try_from(t.number).unwrap_or(i32::MAX);
    Ok(match t.kind {
        1 => TaskKind::WorkflowTask {
            scheduled_event_id: event,
            attempt,
        },
        2 => TaskKind::Activity {
            scheduled_event_id: event,
            attempt,
        },
        3 => TaskKind::StartChild {
            initiated_event_id: event,
        },
        4 => TaskKind::SignalExternal {
            initiated_event_id: event,
        },
        5 => TaskKind::CancelExternal {
            initiated_event_id: event,
        },
        6 => TaskKind::Close,
        7 => TaskKind::DeleteExecution,
        8 => TaskKind::UserTimer {
            started_event_id: event,
        },
        9 => TaskKind::ActivityTimeout {
            scheduled_event_id: event,
            attempt,
            timeout: read_timeout(t.timeout)?,
        },
        10 => TaskKind::ActivityRetry {
            scheduled_event_id: event,
            attempt,
        },
        11 => TaskKind::WorkflowTaskTimeout {
            scheduled_event_id: event,
            attempt,
            timeout: read_timeout(t.timeout)?,
        },
        12 => TaskKind::WorkflowBackoff,
        13 => TaskKind::RunTimeout,
        14 => TaskKind::ExecutionTimeout,
        15 => TaskKind::Retention,
        16 => TaskKind::Visibility,
        17 => TaskKind::ReplicateHistory {
            first_event_id: event,
            next_event_id: EventId::new(t.number),
            new_run_id: t.text.as_deref().map(Into::into),
        },
        18 => TaskKind::SyncActivity {
            scheduled_event_id: event,
        },
        19 => TaskKind::SyncWorkflowState,
        20 => TaskKind::ReplicateDelete,
        other => return Err(RecordError::Unknown("task kind", other.to_string())),
    })
}

fn timeout_number(timeout: Timeout) -> u32 {
    match timeout {
        Timeout::ScheduleToStart => 1,
        Timeout::StartToClose => 2,
        Timeout::ScheduleToClose => 3,
        Timeout::Heartbeat => 4,
    }
}

fn read_timeout(number: u32) -> Result<Timeout, RecordError> {
    Ok(match number {
        1 => Timeout::ScheduleToStart,
        2 => Timeout::StartToClose,
        3 => Timeout::ScheduleToClose,
        4 => Timeout::Heartbeat,
        other => return Err(RecordError::Unknown("timeout", other.to_string())),
    })
}
