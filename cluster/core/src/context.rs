//! The context of a decision: what a rule may know beside the mutable state and the request, that is the time, the
//! failover version, limits, and a seed for new ids. Everything is an argument, so the same input gives the same bytes.

use std::time::Duration;

use proto_ids::{FailoverVersion, Timestamp};

/// The context of one decision.
#[derive(Clone, Copy, Debug)]
pub struct DecisionContext<'a> {
    /// The time of the decision; event times and derived deadlines use it.
    pub now: Timestamp,
    /// The namespace's failover version, stamped on new events. 0 for local namespaces.
    pub version: FailoverVersion,
    /// The decision's place in the order in which this cluster writes the shard, stamped on new events as
    /// their task id. It rises from decision to decision whatever the wall clock does, and across owners of
    /// the shard; the run that continues this one gets the number after it, so two are used up at a time.
    pub clock: i64,
    /// Limits and namespace configuration.
    pub limits: &'a Limits,
    /// Source of new ids (runs, branches, requests).
    pub seed: IdSeed,
}

/// Sixteen random bytes from which a decision derives every id it needs, in a fixed order.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdSeed(pub [u8; 16]);

const HEX: &[u8; 16] = b"0123456789abcdef";

impl IdSeed {
    /// The `n`-th id of this seed, in UUID text form (version 4 layout).
    pub fn uuid(&self, n: u32) -> String {
        let mut b = self.0;
        for (i, byte) in n.to_be_bytes().into_iter().enumerate() {
            b[12 + i] ^= byte;
        }
        b[6] = (b[6] & 0x0f) | 0x40;
        b[8] = (b[8] & 0x3f) | 0x80;
        let mut text = String::with_capacity(36);
        for (i, byte) in b.into_iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                text.push('-');
            }
            text.push(char::from(HEX[usize::from(byte >> 4)]));
            text.push(char::from(HEX[usize::from(byte & 0xf)]));
        }
        text
    }
}

/// Limits and namespace configuration that rules depend on. Defaults are Temporal's.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The namespace's name, written into events that name it.
    pub namespace: String,
    /// How long closed runs are kept.
    pub retention: Duration,
    /// Start-to-close timeout of a workflow task when the start request names none (10 s).
    pub default_workflow_task_timeout: Duration,
    /// Longest workflow task timeout accepted (120 s); longer ones are cut.
    pub max_workflow_task_timeout: Duration,
    /// Events in one run at which it is terminated (51,200).
    pub history_count_error: i64,
    /// Events at which continue-as-new is suggested (4,096).
    pub history_count_suggest_continue_as_new: i64,
    /// History bytes at which the run is terminated (50 MiB).
    pub history_size_error: i64,
    /// History bytes at which continue-as-new is suggested (4 MiB).
    pub history_size_suggest_continue_as_new: i64,
    /// Pending activities, children, external signals and external cancels of one run (2,000 each).
    pub pending_limit: usize,
    /// Signals one run may receive (10,000).
    pub signals_limit: i64,
    /// Buffered events of one run (100) before the workflow task is forced to fail.
    pub buffered_events_limit: usize,
    /// Bytes of one payload-carrying field (2 MiB).
    pub blob_size_error: usize,
    /// Bytes of a failure kept in state while an activity is tried again (4 KiB).
    pub activity_failure_size_error: usize,
    /// Bytes of all buffered events of one run (2 MiB) before the workflow task is forced to fail.
    pub buffered_events_size_limit: usize,
    /// Bytes of a memo (2 MiB).
    pub memo_size_error: usize,
    /// Search attributes of one run (100).
    pub search_attributes_limit: usize,
    /// Bytes of one search attribute's value (2 KiB).
    pub search_attribute_size_error: usize,
    /// Bytes of all search attributes of one run (40 KiB).
    pub search_attributes_size_error: usize,
    /// Characters of an id (1,000).
    pub id_length: usize,
    /// Retry policy applied to activities that name none, and to unset fields.
    pub default_activity_retry: DefaultRetry,
    /// Retry policy defaults of workflows that ask for retries.
    pub default_workflow_retry: DefaultRetry,
    /// Workflow task attempts after which a failed one is re-dispatched with back-off (3), as Temporal does.
    pub workflow_task_retry_backoff_after: i32,
    /// Longest such back-off (10 min).
    pub workflow_task_retry_max_interval: Duration,
    /// Minimum interval between runs of a workflow that keeps continuing as new (1 s).
    pub continue_as_new_min_interval: Duration,
    /// Most reset points kept (20).
    pub reset_points_limit: usize,
    /// Whether a completion's new activities may be handed back with its answer when the worker asks for it
    /// (off until the caller can carry them).
    pub eager_activities: bool,
    /// How long a chain of workflow tasks that only keep themselves alive may last (30 min).
    pub workflow_task_heartbeat_timeout: Duration,
    /// Whether the namespace replicates to other clusters: replication tasks are derived only then.
    pub replicated: bool,
}

/// Values for the unset fields of a retry policy.
#[derive(Clone, Copy, Debug)]
pub struct DefaultRetry {
    /// First interval (1 s).
    pub initial_interval: Duration,
    /// Growth per attempt (2.0).
    pub backoff_coefficient: f64,
    /// Longest interval, as a multiple of the first (100).
    pub maximum_interval_coefficient: f64,
    /// Most attempts; 0 is unlimited.
    pub maximum_attempts: i32,
}

impl Default for DefaultRetry {
    fn default() -> Self {
        Self {
            initial_interval: Duration::from_secs(1),
            backoff_coefficient: 2.0,
            maximum_interval_coefficient: 100.0,
            maximum_attempts: 0,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            namespace: String::new(),
            retention: Duration::from_secs(3 * 86_400),
            default_workflow_task_timeout: Duration::from_secs(10),
            max_workflow_task_timeout: Duration::from_secs(120),
            history_count_error: 51_200,
            history_count_suggest_continue_as_new: 4_096,
            history_size_error: 50 << 20,
            history_size_suggest_continue_as_new: 4 << 20,
            pending_limit: 2_000,
            signals_limit: 10_000,
            buffered_events_limit: 100,
            blob_size_error: 2 << 20,
            activity_failure_size_error: 4 << 10,
            buffered_events_size_limit: 2 << 20,
            memo_size_error: 2 << 20,
            search_attributes_limit: 100,
            search_attribute_size_error: 2 << 10,
            search_attributes_size_error: 40 << 10,
            id_length: 1_000,
            default_activity_retry: DefaultRetry::default(),
            default_workflow_retry: DefaultRetry::default(),
            workflow_task_retry_backoff_after: 3,
            workflow_task_retry_max_interval: Duration::from_secs(600),
            continue_as_new_min_interval: Duration::from_secs(1),
            reset_points_limit: 20,
            eager_activities: false,
            workflow_task_heartbeat_timeout: Duration::from_secs(1_800),
            replicated: false,
        }
    }
}
