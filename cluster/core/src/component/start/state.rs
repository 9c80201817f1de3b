//! The part of the state that the first event determined.

use std::time::Duration;

use proto_ids::{RunId, Timestamp};
use proto_messages::temporal::api::{
    common::v1::{
        Header, Memo, Payloads, Priority, RetryPolicy, SearchAttributes, WorkflowExecution,
        WorkflowType,
    },
    failure::v1::Failure,
    sdk::v1::UserMetadata,
};

use crate::request::Parent;

/// The part of the state that the first event determined.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StartInfo {
    /// The type.
    pub workflow_type: WorkflowType,
    /// The queue of its workflow tasks.
    pub task_queue: String,
    /// The input.
    pub input: Option<Payloads>,
    /// The header.
    pub header: Option<Header>,
    /// When the run started.
    pub start_time: Timestamp,
    /// When its first workflow task may run (start time plus back-off).
    pub execution_time: Timestamp,
    /// Timeout over all runs of the chain; zero for none.
    pub execution_timeout: Duration,
    /// When the chain expires; zero for never.
    pub execution_expiration: Timestamp,
    /// Timeout of this run; zero for none.
    pub run_timeout: Duration,
    /// Timeout of its workflow tasks.
    pub task_timeout: Duration,
    /// The parent.
    pub parent: Option<Parent>,
    /// The root of the tree of workflows.
    pub root: Option<WorkflowExecution>,
    /// Request id of the start, for dedup.
    pub request_id: String,
    /// The identity of the client that started it.
    pub identity: String,
    /// First run of the chain.
    pub first_run_id: RunId,
    /// Run id the history was first written under (survives reset).
    pub original_run_id: RunId,
    /// Run this one continues; empty for none.
    pub continued_run_id: RunId,
    /// Retry policy.
    pub retry_policy: Option<RetryPolicy>,
    /// Attempt, from 1.
    pub attempt: i32,
    /// When retries of the chain end; zero for never.
    pub retry_expiration: Timestamp,
    /// Cron schedule; empty for none.
    pub cron_schedule: String,
    /// Failure of the run before.
    pub continued_failure: Option<Failure>,
    /// Result of the run before.
    pub last_completion_result: Option<Payloads>,
    /// User metadata.
    pub user_metadata: Option<UserMetadata>,
    /// Priority.
    pub priority: Option<Priority>,
    /// Task id of the first event: where the start stands among the writes of the cluster that made it.
    /// 0 when that cluster does not tell.
    pub clock: i64,
    /// The attributes that the next run of a retry or cron schedule begins with, though this run changes its
    /// own. `None` where there can be no such next run, and in runs that an earlier release stored.
    pub carried: Option<Carried>,
}

/// Attributes that a run was started with and may change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Carried {
    /// Memo.
    pub memo: Option<Memo>,
    /// Search attributes.
    pub search_attributes: Option<SearchAttributes>,
}
