//! Validation that start and signal-with-start have in common.

use std::collections::HashMap;

use prost::Message;
use proto_messages::{
    attributes,
    temporal::api::{
        common::v1::{
            Header, Link, Memo, Payload, Payloads, RetryPolicy, SearchAttributes,
            TimeSkippingConfig, WorkflowType,
        },
        enums::v1::WorkflowIdConflictPolicy,
        sdk::v1::UserMetadata,
        taskqueue::v1::TaskQueue,
        workflow::v1::VersioningOverride,
    },
    time,
};

use super::{
    Checked, blob, identifier, length, links, memo, policy, queue, refuse, user_metadata,
    versioning,
};
use crate::limits::{self, Limits};

/// The common fields of the two requests.
pub(crate) struct NewWorkflow<'a> {
    pub(crate) workflow_id: &'a str,
    pub(crate) workflow_type: Option<&'a WorkflowType>,
    pub(crate) task_queue: Option<&'a mut TaskQueue>,
    pub(crate) input: Option<&'a Payloads>,
    pub(crate) header: Option<&'a Header>,
    pub(crate) execution_timeout: Option<&'a mut prost_types::Duration>,
    pub(crate) run_timeout: Option<&'a mut prost_types::Duration>,
    pub(crate) task_timeout: Option<&'a mut prost_types::Duration>,
    pub(crate) start_delay: Option<&'a mut prost_types::Duration>,
    pub(crate) identity: &'a str,
    pub(crate) request_id: &'a str,
    pub(crate) reuse_policy: &'a mut i32,
    pub(crate) conflict_policy: &'a mut i32,
    /// The default of an absent conflict policy.
    pub(crate) default_conflict: WorkflowIdConflictPolicy,
    pub(crate) retry_policy: Option<&'a mut RetryPolicy>,
    pub(crate) cron_schedule: &'a str,
    pub(crate) memo: &'a mut Option<Memo>,
    pub(crate) search_attributes: &'a mut Option<SearchAttributes>,
    pub(crate) user_metadata: Option<&'a UserMetadata>,
    pub(crate) links: &'a [Link],
    pub(crate) versioning_override: Option<&'a VersioningOverride>,
    pub(crate) time_skipping: Option<&'a TimeSkippingConfig>,
}

/// Checks the common fields, fills in defaults and drops values that stand for nothing.
pub(crate) fn start(new: NewWorkflow<'_>, limits: Limits<'_>) -> Checked {
    super::workflow_id(new.workflow_id, limits)?;
    policy::retry(new.retry_policy)?;
    delay(new.start_delay, new.cron_schedule)?;
    policy::id_policies(new.reuse_policy, new.conflict_policy, new.default_conflict)?;
    length("RequestId", new.request_id, limits)?;
    length("Identity", new.identity, limits)?;
    let kind = new.workflow_type.map_or("", |t| t.name.as_str());
    identifier("WorkflowType", kind, limits)?;
    queue::not_internal(new.task_queue.as_deref())?;
    queue::task_queue(new.task_queue, limits)?;
    timeout(
        new.execution_timeout,
        "An invalid WorkflowExecutionTimeoutSeconds is set on request.",
    )?;
    timeout(
        new.run_timeout,
        "An invalid WorkflowRunTimeoutSeconds is set on request.",
    )?;
    timeout(
        new.task_timeout,
        "An invalid WorkflowTaskTimeoutSeconds is set on request.",
    )?;
    drop_nothing(new.memo.as_mut().map(|m| &mut m.fields), is_null);
    new.memo.take_if(|m| m.fields.is_empty());
    drop_nothing(
        new.search_attributes
            .as_mut()
            .map(|a| &mut a.indexed_fields),
        is_unset,
    );
    new.search_attributes
        .take_if(|a| a.indexed_fields.is_empty());
    search_attributes(new.search_attributes.as_ref(), limits)?;
    blob(new.input, limits)?;
    blob(new.header, limits)?;
    memo(new.memo.as_ref(), limits)?;
    user_metadata(new.user_metadata, limits)?;
    versioning::no_override(new.versioning_override)?;
    versioning::no_time_skipping(new.time_skipping)?;
    links(new.links, limits)
}

fn delay(delay: Option<&mut prost_types::Duration>, cron: &str) -> Checked {
    let Some(delay) = delay.filter(|d| d.seconds != 0 || d.nanos != 0) else {
        return Ok(());
    };
    if !cron.is_empty() {
        return refuse("CronSchedule and WorkflowStartDelay may not be used together.");
    }
    timeout(
        Some(delay),
        "An invalid WorkflowStartDelay is set on request.",
    )
}

/// Refuses a negative timeout, and cuts one that is too long to be counted with.
fn timeout(timeout: Option<&mut prost_types::Duration>, text: &str) -> Checked {
    if timeout
        .as_ref()
        .is_some_and(|t| t.seconds < 0 || t.nanos < 0)
    {
        return refuse(text);
    }
    time::cap_duration(timeout);
    Ok(())
}

fn drop_nothing(fields: Option<&mut HashMap<String, Payload>>, is_nothing: fn(&Payload) -> bool) {
    if let Some(fields) = fields {
        fields.retain(|_, payload| !is_nothing(payload));
    }
}

/// Whether the value is nil, as SDKs encode it.
fn is_null(payload: &Payload) -> bool {
    payload
        .metadata
        .get("encoding")
        .is_some_and(|e| e == b"binary/null".as_slice())
        || payload.data.as_ref() == b"null".as_slice()
}

/// Whether the value takes a search attribute away: nil or an empty list.
fn is_unset(payload: &Payload) -> bool {
    is_null(payload) || payload.data.as_ref() == b"[]".as_slice()
}

fn search_attributes(given: Option<&SearchAttributes>, limits: Limits<'_>) -> Checked {
    let Some(given) = given else {
        return Ok(());
    };
    if let Err(text) = attributes::check(given, limits.namespace()) {
        return refuse(text);
    }
    let (count, most) = (given.indexed_fields.len(), limits.get(&limits::ATTRIBUTES));
    if count > most {
        return refuse(format!(
            "number of search attributes {count} exceeds limit {most}"
        ));
    }
    let most = limits.get(&limits::ATTRIBUTE_SIZE);
    for (name, payload) in &given.indexed_fields {
        let size = payload.data.len();
        if size > most {
            return refuse(format!(
                "search attribute {name} value size {size} exceeds size limit {most}"
            ));
        }
    }
    let (size, most) = (given.encoded_len(), limits.get(&limits::ATTRIBUTES_SIZE));
    if size > most {
        return refuse(format!(
            "total size of search attributes {size} exceeds size limit {most}"
        ));
    }
    Ok(())
}
