//! A message of a stream, decoded task by task: one that cannot be decoded is set apart with its reason, and
//! stops neither the others nor the stream. A message of more tasks than anybody has to send at once is none.

use bytes::Bytes;
use proto_messages::{
    Wire,
    meridian::replication::v1::{EncodedReplicationMessages, EncodedReplicationTask},
    temporal::server::api::replication::v1::{ReplicationTask, WorkflowReplicationMessages},
};

/// Tasks in one message. A Temporal Server sends at most a page of its queue at once, which is far less.
pub(super) const TASKS_MAX: usize = 10_000;

/// A task that could not be decoded: as it came, and why.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Undecoded {
    pub bytes: Bytes,
    pub reason: String,
}

/// A message whose receiver cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unusable {
    #[error("a message holds {0} tasks; at most {TASKS_MAX} are taken")]
    TooMany(usize),
    #[error("a task of a message cannot be decoded, nor its id: {0}")]
    Nameless(String),
}

/// The message, and for each of its tasks whether only its name is there.
pub(super) fn decode(
    encoded: EncodedReplicationMessages,
) -> Result<(WorkflowReplicationMessages, Vec<Option<Undecoded>>), Unusable> {
    if encoded.replication_tasks.len() > TASKS_MAX {
        return Err(Unusable::TooMany(encoded.replication_tasks.len()));
    }
    let decoded: Result<Vec<_>, _> = encoded.replication_tasks.into_iter().map(task).collect();
    let (replication_tasks, undecoded) = decoded?.into_iter().unzip();
    let message = WorkflowReplicationMessages {
        replication_tasks,
        exclusive_high_watermark: encoded.exclusive_high_watermark,
        exclusive_high_watermark_time: encoded.exclusive_high_watermark_time,
        priority: encoded.priority,
    };
    Ok((message, undecoded))
}

fn task(bytes: Bytes) -> Result<(ReplicationTask, Option<Undecoded>), Unusable> {
    let error = match ReplicationTask::from_wire(bytes.clone()) {
        Ok(task) => return Ok((task, None)),
        Err(error) => error,
    };
    // What names it lies outside of what is nested.
    let named = EncodedReplicationTask::from_wire(bytes.clone());
    let named = named.map_err(|_| Unusable::Nameless(error.to_string()))?;
    let task = ReplicationTask {
        task_type: named.task_type,
        source_task_id: named.source_task_id,
        visibility_time: named.visibility_time,
        raw_task_info: named.raw_task_info,
        ..ReplicationTask::default()
    };
    let reason = error.to_string();
    Ok((task, Some(Undecoded { bytes, reason })))
}

#[cfg(test)]
mod tests {
    use proto_messages::temporal::{
        api::failure::v1::Failure,
        server::api::{
            persistence::v1::ReplicationTaskInfo,
            replication::v1::{SyncActivityTaskAttributes, replication_task::Attributes},
        },
    };

    use super::*;

    fn nested(id: i64, causes: usize) -> Bytes {
        let failure = (0..causes).fold(Failure::default(), |cause, _| Failure {
            cause: Some(Box::new(cause)),
            ..Failure::default()
        });
        let attributes = SyncActivityTaskAttributes {
            last_failure: Some(failure),
            ..Default::default()
        };
        let raw = ReplicationTaskInfo {
            workflow_id: "deep".to_owned(),
            ..Default::default()
        };
        let task = ReplicationTask {
            source_task_id: id,
            attributes: Some(Attributes::SyncActivityTaskAttributes(attributes)),
            raw_task_info: Some(raw),
            ..Default::default()
        };
        task.to_wire()
    }

    #[test]
    fn a_task_nested_too_deeply_is_set_apart_by_its_name() {
        let encoded = EncodedReplicationMessages {
            replication_tasks: vec![nested(1, 3), nested(2, 200), nested(3, 3)],
            exclusive_high_watermark: 4,
            ..Default::default()
        };
        let (message, undecoded) = decode(encoded).unwrap();
        let ids: Vec<_> = message
            .replication_tasks
            .iter()
            .map(|task| task.source_task_id)
            .collect();
        assert_eq!(ids, [1, 2, 3]);
        let raw = message.replication_tasks[1].raw_task_info.as_ref();
        assert_eq!(raw.unwrap().workflow_id, "deep");
        assert!(undecoded[0].is_none() && undecoded[2].is_none());
        let apart = undecoded[1].as_ref().unwrap();
        assert_eq!(apart.bytes, nested(2, 200));
        assert!(apart.reason.contains("recursion"), "{}", apart.reason);
    }

    #[test]
    fn a_message_of_too_many_tasks_is_refused() {
        let of = |tasks| EncodedReplicationMessages {
            replication_tasks: vec![Bytes::new(); tasks],
            ..Default::default()
        };
        assert!(decode(of(TASKS_MAX)).is_ok());
        let refused = decode(of(TASKS_MAX + 1)).unwrap_err();
        assert_eq!(refused, Unusable::TooMany(TASKS_MAX + 1));
    }
}
