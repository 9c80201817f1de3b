//! The start part.

use bytes::Bytes;
use cluster_core::{
    MutableState,
    mutable_state::{Carried, StartInfo},
    request::Parent,
};
use prost::Message;
use proto_ids::{EventId, RunKey, Timestamp};

use super::{
    RecordError, decode_message,
    item::{nanos, read_nanos},
    message,
};

pub(crate) fn encode_start(w: &MutableState) -> Bytes {
    let s = &w.start;
    let stored = message::Start {
        workflow_type: Some(s.workflow_type.clone()),
        task_queue: s.task_queue.clone(),
        input: s.input.clone(),
        header: s.header.clone(),
        start_time: s.start_time.nanos(),
        execution_time: s.execution_time.nanos(),
        execution_timeout: nanos(s.execution_timeout),
        execution_expiration: s.execution_expiration.nanos(),
        run_timeout: nanos(s.run_timeout),
        task_timeout: nanos(s.task_timeout),
        parent: s.parent.as_ref().map(parent),
        root: s.root.clone(),
        request_id: s.request_id.clone(),
        identity: s.identity.clone(),
        first_run_id: s.first_run_id.to_string(),
        original_run_id: s.original_run_id.to_string(),
        continued_run_id: s.continued_run_id.to_string(),
        retry_policy: s.retry_policy.clone(),
        attempt: s.attempt,
        retry_expiration: s.retry_expiration.nanos(),
        cron_schedule: s.cron_schedule.clone(),
        continued_failure: s.continued_failure.clone(),
        last_completion_result: s.last_completion_result.clone(),
        user_metadata: s.user_metadata.clone(),
        priority: s.priority.clone(),
        carried: s.carried.as_ref().map(|c| message::Carried {
            memo: c.memo.clone(),
            search_attributes: c.search_attributes.clone(),
        }),
        clock: s.clock,
    };
    Bytes::from(stored.encode_to_vec())
}

pub(super) fn decode(data: &[u8]) -> Result<StartInfo, RecordError> {
    let s: message::Start = decode_message("start part", data)?;
    Ok(StartInfo {
        workflow_type: s.workflow_type.unwrap_or_default(),
        task_queue: s.task_queue,
        input: s.input,
        header: s.header,
        start_time: Timestamp::from_nanos(s.start_time),
        execution_time: Timestamp::from_nanos(s.execution_time),
        execution_timeout: read_nanos(s.execution_timeout),
        execution_expiration: Timestamp::from_nanos(s.execution_expiration),
        run_timeout: read_nanos(s.run_timeout),
        task_timeout: read_nanos(s.task_timeout),
        parent: s.parent.map(read_parent),
        root: s.root,
        request_id: s.request_id,
        identity: s.identity,
        first_run_id: s.first_run_id.into(),
        original_run_id: s.original_run_id.into(),
        continued_run_id: s.continued_run_id.into(),
        retry_policy: s.retry_policy,
        attempt: s.attempt,
        retry_expiration: Timestamp::from_nanos(s.retry_expiration),
        cron_schedule: s.cron_schedule,
        continued_failure: s.continued_failure,
        last_completion_result: s.last_completion_result,
        user_metadata: s.user_metadata,
        priority: s.priority,
        carried: s.carried.map(|c| Carried {
            memo: c.memo,
            search_attributes: c.search_attributes,
        }),
        clock: s.clock,
        ..StartInfo::default()
    })
}

fn parent(p: &Parent) -> message::Parent {
    message::Parent {
        namespace_id: p.key.namespace_id.to_string(),
        workflow_id: p.key.workflow_id.to_string(),
        run_id: p.key.run_id.to_string(),
        namespace: p.namespace.clone(),
        initiated_event_id: p.initiated_event_id.get(),
        initiated_event_version: p.initiated_event_version,
        root: p.root.clone(),
    }
}

fn read_parent(p: message::Parent) -> Parent {
    Parent {
        key: RunKey::new(p.namespace_id, p.workflow_id, p.run_id),
        namespace: p.namespace,
        initiated_event_id: EventId::new(p.initiated_event_id),
        initiated_event_version: p.initiated_event_version,
        root: p.root,
        ..Parent::default()
    }
}
