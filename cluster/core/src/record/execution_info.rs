//! The stored form of the small state that most decisions change, and of the branches of the history. Fields are only ever added; numbers are never reused. Times are nanoseconds since the Unix
//! epoch, durations nanoseconds; 0 means not set.

// State may gain a field before its record does; a test names every field and fails to compile then.
#![allow(clippy::needless_update)]

use prost::Message;
use proto_ids::{EventId, FailoverVersion, RunId, Timestamp};
use proto_messages::temporal::api::{
    common::v1::{Memo, SearchAttributes},
    enums::v1::WorkflowExecutionStatus,
    workflow::v1::ResetPoints,
};

use super::{RecordError, decode_message};
use crate::{
    BranchToken, MutableState, VersionHistories, VersionHistory, VersionItem,
    component::workflow_task::{
        StoredSticky, StoredWorkflowTask, read_sticky, read_workflow_task, sticky, workflow_task,
    },
    mutable_state::ExecutionInfo,
    version::BranchAncestor,
};

/// The part of a run that every update writes.
#[derive(Clone, PartialEq, ::prost::Message)]
struct StoredExecutionInfo {
    #[prost(int32, tag = "1")]
    status: i32,
    #[prost(bool, tag = "2")]
    zombie: bool,
    #[prost(int64, tag = "3")]
    next_event_id: i64,
    #[prost(int64, tag = "4")]
    last_completed_started_event_id: i64,
    #[prost(int64, tag = "5")]
    history_size: i64,
    #[prost(int64, tag = "6")]
    state_transition_count: i64,
    #[prost(int64, tag = "7")]
    last_update_time: i64,
    #[prost(int64, tag = "8")]
    close_time: i64,
    #[prost(int64, tag = "9")]
    close_event_id: i64,
    #[prost(int64, tag = "10")]
    close_batch_first_event_id: i64,
    #[prost(string, tag = "11")]
    new_run_id: String,
    #[prost(message, optional, tag = "12")]
    workflow_task: Option<StoredWorkflowTask>,
    #[prost(bool, tag = "13")]
    first_workflow_task_scheduled: bool,
    #[prost(message, optional, tag = "14")]
    sticky: Option<StoredSticky>,
    #[prost(string, optional, tag = "15")]
    cancel_request: Option<String>,
    #[prost(message, optional, tag = "16")]
    memo: Option<Memo>,
    #[prost(message, optional, tag = "17")]
    search_attributes: Option<SearchAttributes>,
    #[prost(message, optional, tag = "18")]
    reset_points: Option<ResetPoints>,
    #[prost(int64, tag = "19")]
    signal_count: i64,
    #[prost(int32, tag = "20")]
    workflow_task_attempt: i32,
    #[prost(string, tag = "21")]
    most_recent_build_id: String,
    #[prost(message, repeated, tag = "22")]
    reapplied: Vec<StoredReapplied>,
    #[prost(string, tag = "23")]
    reset_run_id: String,
    #[prost(string, tag = "24")]
    sdk_name: String,
    #[prost(string, tag = "25")]
    sdk_version: String,
    #[prost(int64, tag = "26")]
    workflow_task_heartbeat_since: i64,
    #[prost(message, optional, tag = "27")]
    versions: Option<StoredVersions>,
    #[prost(bool, tag = "28")]
    close_attempted: bool,
    #[prost(int64, tag = "29")]
    last_running_clock: i64,
}

/// An event of a losing branch that was applied again.
#[derive(Clone, PartialEq, ::prost::Message)]
struct StoredReapplied {
    #[prost(string, tag = "1")]
    run_id: String,
    #[prost(int64, tag = "2")]
    event_id: i64,
    #[prost(int64, tag = "3")]
    version: i64,
}

/// The branches of a run's history.
#[derive(Clone, PartialEq, ::prost::Message)]
struct StoredVersions {
    #[prost(uint32, tag = "1")]
    current: u32,
    #[prost(message, repeated, tag = "2")]
    branches: Vec<StoredBranch>,
}

/// A branch.
#[derive(Clone, PartialEq, ::prost::Message)]
struct StoredBranch {
    #[prost(string, tag = "1")]
    tree_id: String,
    #[prost(string, tag = "2")]
    branch_id: String,
    #[prost(message, repeated, tag = "3")]
    ancestors: Vec<StoredAncestor>,
    #[prost(message, repeated, tag = "4")]
    items: Vec<StoredVersionItem>,
}

/// Events shared with an older branch.
#[derive(Clone, PartialEq, ::prost::Message)]
struct StoredAncestor {
    #[prost(string, tag = "1")]
    branch_id: String,
    #[prost(int64, tag = "2")]
    begin: i64,
    #[prost(int64, tag = "3")]
    end: i64,
}

/// The last event of a version.
#[derive(Clone, PartialEq, ::prost::Message)]
struct StoredVersionItem {
    #[prost(int64, tag = "1")]
    event_id: i64,
    #[prost(int64, tag = "2")]
    version: i64,
}

pub(super) fn encode(w: &MutableState) -> Vec<u8> {
    let h = &w.execution_info;
    let stored = StoredExecutionInfo {
        status: h.status as i32,
        zombie: h.zombie,
        next_event_id: h.next_event_id.get(),
        last_completed_started_event_id: h.last_completed_started_event_id.get(),
        history_size: h.history_size,
        state_transition_count: h.state_transition_count,
        last_update_time: h.last_update_time.nanos(),
        close_time: h.close_time.nanos(),
        close_event_id: h.close_event_id.get(),
        close_batch_first_event_id: h.close_batch_first_event_id.get(),
        new_run_id: h.new_run_id.to_string(),
        workflow_task: h.workflow_task.as_ref().map(workflow_task),
        first_workflow_task_scheduled: h.first_workflow_task_scheduled,
        sticky: h.sticky.as_ref().map(sticky),
        cancel_request: h.cancel_request.clone(),
        memo: h.memo.clone(),
        search_attributes: h.search_attributes.clone(),
        reset_points: h.reset_points.clone(),
        signal_count: h.signal_count,
        workflow_task_attempt: h.workflow_task_attempt,
        most_recent_build_id: h.most_recent_build_id.clone(),
        reapplied: h.reapplied.iter().map(reapplied).collect(),
        reset_run_id: h.reset_run_id.to_string(),
        sdk_name: h.sdk_name.clone(),
        sdk_version: h.sdk_version.clone(),
        workflow_task_heartbeat_since: h.workflow_task_heartbeat_since.nanos(),
        close_attempted: h.close_attempted,
        last_running_clock: h.last_running_clock,
        versions: Some(versions(&w.versions)),
    };
    stored.encode_to_vec()
}

pub(super) fn decode(data: &[u8]) -> Result<(ExecutionInfo, VersionHistories), RecordError> {
    let h: StoredExecutionInfo = decode_message("hot part", data)?;
    let status = WorkflowExecutionStatus::try_from(h.status)
        .map_err(|_| RecordError::Unknown("status", h.status.to_string()))?;
    let versions = read_versions(h.versions.unwrap_or_default())?;
    let execution_info = ExecutionInfo {
        status,
        zombie: h.zombie,
        next_event_id: EventId::new(h.next_event_id),
        last_completed_started_event_id: EventId::new(h.last_completed_started_event_id),
        history_size: h.history_size,
        state_transition_count: h.state_transition_count,
        last_update_time: Timestamp::from_nanos(h.last_update_time),
        close_time: Timestamp::from_nanos(h.close_time),
        close_event_id: EventId::new(h.close_event_id),
        close_batch_first_event_id: EventId::new(h.close_batch_first_event_id),
        new_run_id: h.new_run_id.into(),
        workflow_task: h.workflow_task.map(read_workflow_task),
        first_workflow_task_scheduled: h.first_workflow_task_scheduled,
        sticky: h.sticky.map(read_sticky),
        cancel_request: h.cancel_request,
        memo: h.memo,
        search_attributes: h.search_attributes,
        reset_points: h.reset_points,
        signal_count: h.signal_count,
        workflow_task_attempt: h.workflow_task_attempt,
        most_recent_build_id: h.most_recent_build_id,
        reapplied: h.reapplied.into_iter().map(read_reapplied).collect(),
        reset_run_id: h.reset_run_id.into(),
        sdk_name: h.sdk_name,
        sdk_version: h.sdk_version,
        workflow_task_heartbeat_since: Timestamp::from_nanos(h.workflow_task_heartbeat_since),
        close_attempted: h.close_attempted,
        last_running_clock: h.last_running_clock,
        ..ExecutionInfo::default()
    };
    Ok((execution_info, versions))
}

fn reapplied(r: &(RunId, i64, i64)) -> StoredReapplied {
    StoredReapplied {
        run_id: r.0.to_string(),
        event_id: r.1,
        version: r.2,
    }
}

fn read_reapplied(r: StoredReapplied) -> (RunId, i64, i64) {
    (r.run_id.into(), r.event_id, r.version)
}

fn versions(from: &VersionHistories) -> StoredVersions {
    let branch = |h: &VersionHistory| StoredBranch {
        tree_id: h.branch.tree_id.clone(),
        branch_id: h.branch.branch_id.clone(),
        ancestors: h
            .branch
            .ancestors
            .iter()
            .map(|a| StoredAncestor {
                branch_id: a.branch_id.clone(),
                begin: a.begin.get(),
                end: a.end.get(),
            })
            .collect(),
        items: h
            .items
            .iter()
            .map(|i| StoredVersionItem {
                event_id: i.event_id.get(),
                version: i.version.get(),
            })
            .collect(),
    };
    StoredVersions {
        current: from.current as u32,
        branches: from.histories.iter().map(branch).collect(),
    }
}

fn read_versions(from: StoredVersions) -> Result<VersionHistories, RecordError> {
    let histories: Vec<_> = from
        .branches
        .into_iter()
        .map(|b| VersionHistory {
            branch: BranchToken {
                tree_id: b.tree_id,
                branch_id: b.branch_id,
                ancestors: b
                    .ancestors
                    .into_iter()
                    .map(|a| BranchAncestor {
                        branch_id: a.branch_id,
                        begin: EventId::new(a.begin),
                        end: EventId::new(a.end),
                    })
                    .collect(),
            },
            items: b
                .items
                .into_iter()
                .map(|i| VersionItem {
                    event_id: EventId::new(i.event_id),
                    version: FailoverVersion::new(i.version),
                })
                .collect(),
        })
        .collect();
    let current = from.current as usize;
    if current >= histories.len().max(1) {
        return Err(RecordError::Unknown("current branch", current.to_string()));
    }
    Ok(VersionHistories { current, histories })
}
