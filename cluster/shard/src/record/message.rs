//! The stored messages. Fields are only ever added; numbers are never reused. Times are nanoseconds since
//! the Unix epoch, durations nanoseconds; 0 means not set.

use proto_messages::temporal::api::{
    common::v1::{
        ActivityType, Header, Memo, Payloads, Priority, RetryPolicy, SearchAttributes,
        WorkflowExecution, WorkflowType,
    },
    failure::v1::Failure,
    sdk::v1::UserMetadata,
    workflow::v1::ResetPoints,
};

mod queue;

pub(crate) use queue::*;

/// The part of a run that never changes.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct Start {
    #[prost(message, optional, tag = "1")]
    pub(crate) workflow_type: Option<WorkflowType>,
    #[prost(string, tag = "2")]
    pub(crate) task_queue: String,
    #[prost(message, optional, tag = "3")]
    pub(crate) input: Option<Payloads>,
    #[prost(message, optional, tag = "4")]
    pub(crate) header: Option<Header>,
    #[prost(int64, tag = "5")]
    pub(crate) start_time: i64,
    #[prost(int64, tag = "6")]
    pub(crate) execution_time: i64,
    #[prost(uint64, tag = "7")]
    pub(crate) execution_timeout: u64,
    #[prost(int64, tag = "8")]
    pub(crate) execution_expiration: i64,
    #[prost(uint64, tag = "9")]
    pub(crate) run_timeout: u64,
    #[prost(uint64, tag = "10")]
    pub(crate) task_timeout: u64,
    #[prost(message, optional, tag = "11")]
    pub(crate) parent: Option<Parent>,
    #[prost(message, optional, tag = "12")]
    pub(crate) root: Option<WorkflowExecution>,
    #[prost(string, tag = "13")]
    pub(crate) request_id: String,
    #[prost(string, tag = "14")]
    pub(crate) identity: String,
    #[prost(string, tag = "15")]
    pub(crate) first_run_id: String,
    #[prost(string, tag = "16")]
    pub(crate) original_run_id: String,
    #[prost(string, tag = "17")]
    pub(crate) continued_run_id: String,
    #[prost(message, optional, tag = "18")]
    pub(crate) retry_policy: Option<RetryPolicy>,
    #[prost(int32, tag = "19")]
    pub(crate) attempt: i32,
    #[prost(int64, tag = "20")]
    pub(crate) retry_expiration: i64,
    #[prost(string, tag = "21")]
    pub(crate) cron_schedule: String,
    #[prost(message, optional, tag = "22")]
    pub(crate) continued_failure: Option<Failure>,
    #[prost(message, optional, tag = "23")]
    pub(crate) last_completion_result: Option<Payloads>,
    #[prost(message, optional, tag = "24")]
    pub(crate) user_metadata: Option<UserMetadata>,
    #[prost(message, optional, tag = "25")]
    pub(crate) priority: Option<Priority>,
    #[prost(int64, tag = "27")]
    pub(crate) clock: i64,
    #[prost(message, optional, tag = "26")]
    pub(crate) carried: Option<Carried>,
}

/// Attributes that a run was started with and may change.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct Carried {
    #[prost(message, optional, tag = "1")]
    pub(crate) memo: Option<Memo>,
    #[prost(message, optional, tag = "2")]
    pub(crate) search_attributes: Option<SearchAttributes>,
}

/// The part of a run that every update writes.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct ExecutionInfo {
    #[prost(int32, tag = "1")]
    pub(crate) status: i32,
    #[prost(bool, tag = "2")]
    pub(crate) zombie: bool,
    #[prost(int64, tag = "3")]
    pub(crate) next_event_id: i64,
    #[prost(int64, tag = "4")]
    pub(crate) last_completed_started_event_id: i64,
    #[prost(int64, tag = "5")]
    pub(crate) history_size: i64,
    #[prost(int64, tag = "6")]
    pub(crate) state_transition_count: i64,
    #[prost(int64, tag = "7")]
    pub(crate) last_update_time: i64,
    #[prost(int64, tag = "8")]
    pub(crate) close_time: i64,
    #[prost(int64, tag = "9")]
    pub(crate) close_event_id: i64,
    #[prost(int64, tag = "10")]
    pub(crate) close_batch_first_event_id: i64,
    #[prost(string, tag = "11")]
    pub(crate) new_run_id: String,
    #[prost(message, optional, tag = "12")]
    pub(crate) workflow_task: Option<WorkflowTask>,
    #[prost(bool, tag = "13")]
    pub(crate) first_workflow_task_scheduled: bool,
    #[prost(message, optional, tag = "14")]
    pub(crate) sticky: Option<Sticky>,
    #[prost(string, optional, tag = "15")]
    pub(crate) cancel_request: Option<String>,
    #[prost(message, optional, tag = "16")]
    pub(crate) memo: Option<Memo>,
    #[prost(message, optional, tag = "17")]
    pub(crate) search_attributes: Option<SearchAttributes>,
    #[prost(message, optional, tag = "18")]
    pub(crate) reset_points: Option<ResetPoints>,
    #[prost(int64, tag = "19")]
    pub(crate) signal_count: i64,
    #[prost(int32, tag = "20")]
    pub(crate) workflow_task_attempt: i32,
    #[prost(string, tag = "21")]
    pub(crate) most_recent_build_id: String,
    #[prost(message, repeated, tag = "22")]
    pub(crate) reapplied: Vec<Reapplied>,
    #[prost(string, tag = "23")]
    pub(crate) reset_run_id: String,
    #[prost(string, tag = "24")]
    pub(crate) sdk_name: String,
    #[prost(string, tag = "25")]
    pub(crate) sdk_version: String,
    #[prost(int64, tag = "26")]
    pub(crate) workflow_task_heartbeat_since: i64,
    #[prost(message, optional, tag = "27")]
    pub(crate) versions: Option<Versions>,
    #[prost(bool, tag = "28")]
    pub(crate) close_attempted: bool,
    #[prost(int64, tag = "29")]
    pub(crate) last_running_clock: i64,
}

/// A scheduled or started workflow task.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct WorkflowTask {
    #[prost(int64, tag = "1")]
    pub(crate) version: i64,
    #[prost(int64, tag = "2")]
    pub(crate) scheduled_event_id: i64,
    #[prost(int64, tag = "3")]
    pub(crate) started_event_id: i64,
    #[prost(string, tag = "4")]
    pub(crate) request_id: String,
    #[prost(int32, tag = "5")]
    pub(crate) attempt: i32,
    #[prost(uint64, tag = "6")]
    pub(crate) timeout: u64,
    #[prost(int64, tag = "7")]
    pub(crate) scheduled_time: i64,
    #[prost(int64, tag = "8")]
    pub(crate) started_time: i64,
    #[prost(int64, tag = "9")]
    pub(crate) original_scheduled_time: i64,
    #[prost(string, tag = "10")]
    pub(crate) task_queue: String,
    #[prost(bool, tag = "11")]
    pub(crate) sticky: bool,
    #[prost(string, tag = "12")]
    pub(crate) identity: String,
    #[prost(bool, tag = "13")]
    pub(crate) suggest_continue_as_new: bool,
    #[prost(int64, tag = "14")]
    pub(crate) history_size: i64,
}

/// A sticky queue.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct Sticky {
    #[prost(string, tag = "1")]
    pub(crate) task_queue: String,
    #[prost(uint64, tag = "2")]
    pub(crate) schedule_to_start_timeout: u64,
}

/// A pending activity.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct Activity {
    #[prost(int64, tag = "1")]
    pub(crate) version: i64,
    #[prost(int64, tag = "2")]
    pub(crate) scheduled_event_id: i64,
    #[prost(int64, tag = "3")]
    pub(crate) scheduled_batch_id: i64,
    #[prost(string, tag = "4")]
    pub(crate) activity_id: String,
    #[prost(message, optional, tag = "5")]
    pub(crate) activity_type: Option<ActivityType>,
    #[prost(string, tag = "6")]
    pub(crate) task_queue: String,
    #[prost(message, optional, tag = "7")]
    pub(crate) input: Option<Payloads>,
    #[prost(message, optional, tag = "8")]
    pub(crate) header: Option<Header>,
    #[prost(int64, tag = "9")]
    pub(crate) scheduled_time: i64,
    #[prost(int64, tag = "10")]
    pub(crate) attempt_scheduled_time: i64,
    #[prost(int64, tag = "11")]
    pub(crate) started_event_id: i64,
    #[prost(int64, tag = "12")]
    pub(crate) started_time: i64,
    #[prost(string, tag = "13")]
    pub(crate) request_id: String,
    #[prost(string, tag = "14")]
    pub(crate) identity: String,
    #[prost(int32, tag = "15")]
    pub(crate) attempt: i32,
    #[prost(uint64, tag = "16")]
    pub(crate) schedule_to_close_timeout: u64,
    #[prost(uint64, tag = "17")]
    pub(crate) schedule_to_start_timeout: u64,
    #[prost(uint64, tag = "18")]
    pub(crate) start_to_close_timeout: u64,
    #[prost(uint64, tag = "19")]
    pub(crate) heartbeat_timeout: u64,
    #[prost(int64, tag = "20")]
    pub(crate) last_heartbeat_time: i64,
    #[prost(message, optional, tag = "21")]
    pub(crate) heartbeat_details: Option<Payloads>,
    #[prost(message, optional, tag = "22")]
    pub(crate) retry_policy: Option<RetryPolicy>,
    #[prost(int64, tag = "23")]
    pub(crate) retry_expiration: i64,
    #[prost(message, optional, tag = "24")]
    pub(crate) last_failure: Option<Failure>,
    #[prost(string, tag = "25")]
    pub(crate) last_worker_identity: String,
    #[prost(int64, tag = "26")]
    pub(crate) last_attempt_complete_time: i64,
    #[prost(int64, tag = "27")]
    pub(crate) cancel_requested_event_id: i64,
    #[prost(bool, tag = "28")]
    pub(crate) eager: bool,
    #[prost(message, optional, tag = "29")]
    pub(crate) priority: Option<Priority>,
    #[prost(message, optional, tag = "30")]
    pub(crate) user_metadata: Option<UserMetadata>,
    #[prost(message, optional, tag = "31")]
    pub(crate) armed: Option<Armed>,
}

/// Timeouts that have a task under way.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct Armed {
    #[prost(bool, tag = "1")]
    pub(crate) schedule_to_start: bool,
    #[prost(bool, tag = "2")]
    pub(crate) schedule_to_close: bool,
    #[prost(bool, tag = "3")]
    pub(crate) start_to_close: bool,
    #[prost(bool, tag = "4")]
    pub(crate) heartbeat: bool,
    #[prost(int64, tag = "5")]
    pub(crate) heartbeat_at: i64,
}

/// A pending timer.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct UserTimer {
    #[prost(int64, tag = "1")]
    pub(crate) version: i64,
    #[prost(string, tag = "2")]
    pub(crate) timer_id: String,
    #[prost(int64, tag = "3")]
    pub(crate) started_event_id: i64,
    #[prost(int64, tag = "4")]
    pub(crate) expiry: i64,
}

/// A pending child workflow.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct Child {
    #[prost(int64, tag = "1")]
    pub(crate) version: i64,
    #[prost(int64, tag = "2")]
    pub(crate) initiated_event_id: i64,
    #[prost(int64, tag = "3")]
    pub(crate) initiated_batch_id: i64,
    #[prost(int64, tag = "4")]
    pub(crate) started_event_id: i64,
    #[prost(string, tag = "5")]
    pub(crate) namespace: String,
    #[prost(string, tag = "6")]
    pub(crate) namespace_id: String,
    #[prost(string, tag = "7")]
    pub(crate) workflow_id: String,
    #[prost(string, tag = "8")]
    pub(crate) run_id: String,
    #[prost(message, optional, tag = "9")]
    pub(crate) workflow_type: Option<WorkflowType>,
    #[prost(string, tag = "10")]
    pub(crate) create_request_id: String,
    #[prost(int32, tag = "11")]
    pub(crate) parent_close_policy: i32,
}

/// A pending cancel of another run.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct ExternalCancel {
    #[prost(int64, tag = "1")]
    pub(crate) version: i64,
    #[prost(int64, tag = "2")]
    pub(crate) initiated_event_id: i64,
    #[prost(int64, tag = "3")]
    pub(crate) initiated_batch_id: i64,
    #[prost(string, tag = "4")]
    pub(crate) namespace: String,
    #[prost(string, tag = "5")]
    pub(crate) namespace_id: String,
    #[prost(message, optional, tag = "6")]
    pub(crate) target: Option<WorkflowExecution>,
    #[prost(string, tag = "7")]
    pub(crate) request_id: String,
}

/// A pending signal to another run.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct ExternalSignal {
    #[prost(int64, tag = "1")]
    pub(crate) version: i64,
    #[prost(int64, tag = "2")]
    pub(crate) initiated_event_id: i64,
    #[prost(int64, tag = "3")]
    pub(crate) initiated_batch_id: i64,
    #[prost(string, tag = "4")]
    pub(crate) namespace: String,
    #[prost(string, tag = "5")]
    pub(crate) namespace_id: String,
    #[prost(message, optional, tag = "6")]
    pub(crate) target: Option<WorkflowExecution>,
    #[prost(string, tag = "7")]
    pub(crate) control: String,
    #[prost(string, tag = "8")]
    pub(crate) request_id: String,
}

/// A run's parent.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct Parent {
    #[prost(string, tag = "1")]
    pub(crate) namespace_id: String,
    #[prost(string, tag = "2")]
    pub(crate) workflow_id: String,
    #[prost(string, tag = "3")]
    pub(crate) run_id: String,
    #[prost(string, tag = "4")]
    pub(crate) namespace: String,
    #[prost(int64, tag = "5")]
    pub(crate) initiated_event_id: i64,
    #[prost(int64, tag = "6")]
    pub(crate) initiated_event_version: i64,
    #[prost(message, optional, tag = "7")]
    pub(crate) root: Option<WorkflowExecution>,
}

/// An event of a losing branch that was applied again.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct Reapplied {
    #[prost(string, tag = "1")]
    pub(crate) run_id: String,
    #[prost(int64, tag = "2")]
    pub(crate) event_id: i64,
    #[prost(int64, tag = "3")]
    pub(crate) version: i64,
}

/// The branches of a run's history.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct Versions {
    #[prost(uint32, tag = "1")]
    pub(crate) current: u32,
    #[prost(message, repeated, tag = "2")]
    pub(crate) branches: Vec<Branch>,
}

/// A branch.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct Branch {
    #[prost(string, tag = "1")]
    pub(crate) tree_id: String,
    #[prost(string, tag = "2")]
    pub(crate) branch_id: String,
    #[prost(message, repeated, tag = "3")]
    pub(crate) ancestors: Vec<Ancestor>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) items: Vec<VersionItem>,
}

/// Events shared with an older branch.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct Ancestor {
    #[prost(string, tag = "1")]
    pub(crate) branch_id: String,
    #[prost(int64, tag = "2")]
    pub(crate) begin: i64,
    #[prost(int64, tag = "3")]
    pub(crate) end: i64,
}

/// The last event of a version.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct VersionItem {
    #[prost(int64, tag = "1")]
    pub(crate) event_id: i64,
    #[prost(int64, tag = "2")]
    pub(crate) version: i64,
}
