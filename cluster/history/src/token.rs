//! Tokens that clients carry for us: task tokens and history page tokens. They hold ids that mean the same
//! in every cluster of the namespace, so a task taken before a failover can be answered after it.

use bytes::Bytes;
use prost::Message;
use proto_ids::{EventId, RunKey};
use proto_messages::meridian::history::v1::{HistoryToken, TaskToken};
use tonic::Status;

use cluster_core::{
    mutable_state::{ActivityInfo, MutableState, WorkflowTask},
    request::ActivityRef,
    version::{BranchAncestor, BranchToken},
};
use cluster_rpc::status;
use proto_messages::{
    temporal::server::api::persistence::v1::{HistoryBranch, HistoryBranchRange},
    time::to_proto,
};

/// The token of a started workflow task.
pub fn workflow_task(ms: &MutableState, task: &WorkflowTask) -> Bytes {
    encode(&TaskToken {
        scheduled_event_id: task.scheduled_event_id.get(),
        started_event_id: task.started_event_id.get(),
        attempt: task.attempt,
        workflow_type: ms.start.workflow_type.name.clone(),
        started_time: Some(to_proto(task.started_time)),
        version: task.version.get(),
        ..run(&ms.key)
    })
}

/// The token of a started activity attempt.
pub fn activity(ms: &MutableState, activity: &ActivityInfo) -> Bytes {
    encode(&TaskToken {
        scheduled_event_id: activity.scheduled_event_id.get(),
        attempt: activity.attempt,
        activity_id: activity.activity_id.clone(),
        activity_type: activity.activity_type.name.clone(),
        workflow_type: ms.start.workflow_type.name.clone(),
        started_time: Some(to_proto(activity.started_time)),
        version: activity.version.get(),
        ..run(&ms.key)
    })
}

/// Reads a task token, and checks that it belongs to the namespace of the call.
pub fn read_task(namespace_id: &str, token: &Bytes) -> Result<(RunKey, TaskToken), Status> {
    if token.is_empty() {
        return Err(status::invalid_argument("Task token not set on request."));
    }
    let token = TaskToken::decode(token.clone())
        .map_err(|_| status::invalid_argument("Error deserializing task token."))?;
    if token.workflow_id.is_empty() {
        return Err(status::invalid_argument(
            "WorkflowId is not set on request.",
        ));
    }
    if !token.namespace_id.is_empty() && token.namespace_id != namespace_id {
        return Err(other_namespace());
    }
    let key = RunKey::new(
        namespace_id,
        token.workflow_id.as_str(),
        token.run_id.as_str(),
    );
    Ok((key, token))
}

/// Which activity the token means: by scheduled event, or by id when the caller had no token of ours.
pub fn activity_ref(token: &TaskToken) -> Result<ActivityRef, Status> {
    if token.scheduled_event_id > 0 {
        return Ok(ActivityRef::Token {
            scheduled_event_id: EventId::new(token.scheduled_event_id),
            attempt: token.attempt,
        });
    }
    if token.activity_id.is_empty() {
        return Err(status::invalid_argument(
            "Neither ActivityID nor ScheduledEventID is provided",
        ));
    }
    Ok(ActivityRef::Id(token.activity_id.clone()))
}

/// Encodes a page token.
pub fn history(token: &HistoryToken) -> Bytes {
    encode(token)
}

/// Reads a page token of this namespace and workflow.
pub fn read_history(key: &RunKey, token: &Bytes) -> Result<HistoryToken, Status> {
    let token = HistoryToken::decode(token.clone())
        .map_err(|_| status::invalid_argument("Invalid NextPageToken."))?;
    if token.namespace_id != key.namespace_id.as_str() {
        return Err(other_namespace());
    }
    let same_run = key.run_id.is_empty() || token.run_id == key.run_id.as_str();
    if token.workflow_id != key.workflow_id.as_str() || !same_run {
        return Err(status::invalid_argument(
            "RunId in the request does not match the NextPageToken.",
        ));
    }
    Ok(token)
}

/// A branch as page tokens carry it; the form other servers of the protocol use.
pub fn branch(branch: &BranchToken) -> Bytes {
    encode(&HistoryBranch {
        tree_id: branch.tree_id.clone(),
        branch_id: branch.branch_id.clone(),
        ancestors: branch
            .ancestors
            .iter()
            .map(|a| HistoryBranchRange {
                branch_id: a.branch_id.clone(),
                begin_node_id: a.begin.get(),
                end_node_id: a.end.get(),
            })
            .collect(),
    })
}

/// Reads a branch out of a page token.
pub fn read_branch(bytes: &Bytes) -> Result<BranchToken, Status> {
    let branch = HistoryBranch::decode(bytes.clone())
        .map_err(|_| status::invalid_argument("Invalid NextPageToken."))?;
    let ancestors = branch.ancestors.into_iter().map(|a| BranchAncestor {
        branch_id: a.branch_id,
        begin: EventId::new(a.begin_node_id),
        end: EventId::new(a.end_node_id),
    });
    Ok(BranchToken {
        tree_id: branch.tree_id,
        branch_id: branch.branch_id,
        ancestors: ancestors.collect(),
    })
}

fn run(key: &RunKey) -> TaskToken {
    TaskToken {
        namespace_id: key.namespace_id.as_str().to_owned(),
        workflow_id: key.workflow_id.as_str().to_owned(),
        run_id: key.run_id.as_str().to_owned(),
        ..TaskToken::default()
    }
}

fn encode(message: &impl Message) -> Bytes {
    Bytes::from(message.encode_to_vec())
}

fn other_namespace() -> Status {
    status::invalid_argument("Operation requested with a token from a different namespace.")
}
