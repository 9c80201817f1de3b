//! The workflow id policies: what a start does about the run that has the id.

use std::time::Duration;

use proto_ids::{RunKey, Timestamp};
use proto_messages::temporal::api::{
    enums::v1::{
        WorkflowExecutionStatus as S, WorkflowIdConflictPolicy as Conflict,
        WorkflowIdReusePolicy as Reuse,
    },
    workflowservice::v1::StartWorkflowExecutionRequest,
};
use tonic::Status;

use cluster_rpc::status;
use cluster_shard::CurrentRecord;

/// The workflow id policies of a start, defaults filled in.
#[derive(Clone, Debug)]
pub struct IdPolicies {
    /// About a closed run.
    pub reuse: Reuse,
    /// About a running one.
    pub conflict: Conflict,
    /// The caller used the old reuse policy for terminating a running run.
    pub is_old_terminate: bool,
    /// Dedup id.
    pub request_id: String,
}

/// The action of a start on the run that has the id.
#[derive(Debug)]
pub enum StartAction {
    /// The id is free: make the run.
    Create,
    /// The same call again: answer as the first time.
    Deduplicate,
    /// Use the running run.
    UseExisting,
    /// Terminate the running run and make a new one.
    TerminateExisting,
    /// Say no.
    Reject(Box<Status>),
}

impl IdPolicies {
    /// The policies of a request.
    pub fn of(request: &StartWorkflowExecutionRequest, default_conflict: Conflict) -> Self {
        #[expect(deprecated, reason = "clients still send it")]
        let is_old_terminate = request.workflow_id_reuse_policy() == Reuse::TerminateIfRunning;
        let conflict = match request.workflow_id_conflict_policy() {
            _ if is_old_terminate => Conflict::TerminateExisting,
            Conflict::Unspecified => default_conflict,
            policy => policy,
        };
        let reuse = match request.workflow_id_reuse_policy() {
            Reuse::AllowDuplicateFailedOnly => Reuse::AllowDuplicateFailedOnly,
            Reuse::RejectDuplicate => Reuse::RejectDuplicate,
            _ => Reuse::AllowDuplicate,
        };
        Self {
            reuse,
            conflict,
            is_old_terminate,
            request_id: request.request_id.clone(),
        }
    }
}

/// Decides. `reuse` is the least age at which a running run may be replaced.
pub fn start_action(
    policies: &IdPolicies,
    current: &CurrentRecord,
    key: &RunKey,
    now: Timestamp,
    reuse: Duration,
) -> StartAction {
    if !policies.request_id.is_empty() && policies.request_id == current.request_id {
        return StartAction::Deduplicate;
    }
    let id = format!(
        "WorkflowId: {}, RunId: {}.",
        key.workflow_id, current.run_id
    );
    match S::try_from(current.status).unwrap_or_default() {
        S::Running | S::Paused | S::Unspecified => match policies.conflict {
            Conflict::UseExisting => StartAction::UseExisting,
            Conflict::TerminateExisting => replace(key, now.since(current.start_time), reuse),
            _ => refuse(
                current,
                format!("Workflow execution is already running. {id}"),
            ),
        },
        closed => match policies.reuse {
            Reuse::AllowDuplicateFailedOnly if !is_failure(closed) => refuse(
                current,
                format!(
                    "Workflow execution already finished successfully. {id} \
                     Workflow Id reuse policy: allow duplicate workflow Id if last run failed."
                ),
            ),
            Reuse::RejectDuplicate => refuse(
                current,
                format!(
                    "Workflow execution already finished. {id} \
                     Workflow Id reuse policy: reject duplicate workflow Id."
                ),
            ),
            _ => StartAction::Create,
        },
    }
}

fn replace(key: &RunKey, age: Duration, reuse: Duration) -> StartAction {
    if age >= reuse {
        return StartAction::TerminateExisting;
    }
    let wait = (reuse - age).as_millis();
    let text = format!(
        "Too many restarts for workflow {}. Time until next request: {wait}ms",
        key.workflow_id
    );
    StartAction::Reject(Box::new(status::busy_workflow(text)))
}

fn refuse(current: &CurrentRecord, text: String) -> StartAction {
    let (run, first) = (current.run_id.as_str(), current.first_run_id.as_str());
    StartAction::Reject(Box::new(status::already_started(
        text,
        &current.request_id,
        run,
        first,
    )))
}

fn is_failure(status: S) -> bool {
    matches!(
        status,
        S::Failed | S::Canceled | S::Terminated | S::TimedOut
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto_ids::{FailoverVersion, RunId};

    fn check(status: S, reuse: Reuse, conflict: Conflict, request_id: &str) -> &'static str {
        let current = CurrentRecord {
            run_id: RunId::new("r"),
            request_id: "first".into(),
            status: status as i32,
            last_write_version: FailoverVersion::default().get(),
            start_time: Timestamp::from_millis(1_000),
            first_run_id: RunId::new("r"),
        };
        let request = StartWorkflowExecutionRequest {
            workflow_id_reuse_policy: reuse as i32,
            workflow_id_conflict_policy: conflict as i32,
            request_id: request_id.into(),
            ..Default::default()
        };
        let policies = IdPolicies::of(&request, Conflict::Fail);
        let now = Timestamp::from_millis(3_000);
        let key = RunKey::new("n", "w", "");
        match start_action(&policies, &current, &key, now, Duration::from_secs(1)) {
            StartAction::Create => "make",
            StartAction::Deduplicate => "repeat",
            StartAction::UseExisting => "existing",
            StartAction::TerminateExisting => "replace",
            StartAction::Reject(_) => "refuse",
        }
    }

    #[test]
    fn id_policies() {
        use Conflict as C;
        #[expect(deprecated, reason = "clients still send it")]
        let cases = [
            (
                S::Running,
                Reuse::Unspecified,
                C::Unspecified,
                "other",
                "refuse",
            ),
            (
                S::Running,
                Reuse::RejectDuplicate,
                C::Unspecified,
                "first",
                "repeat",
            ),
            (
                S::Running,
                Reuse::AllowDuplicate,
                C::UseExisting,
                "other",
                "existing",
            ),
            (
                S::Running,
                Reuse::RejectDuplicate,
                C::TerminateExisting,
                "other",
                "replace",
            ),
            (
                S::Running,
                Reuse::TerminateIfRunning,
                C::Unspecified,
                "other",
                "replace",
            ),
            (
                S::Completed,
                Reuse::TerminateIfRunning,
                C::Unspecified,
                "other",
                "make",
            ),
            (
                S::Completed,
                Reuse::AllowDuplicate,
                C::Fail,
                "other",
                "make",
            ),
            (
                S::Completed,
                Reuse::AllowDuplicateFailedOnly,
                C::Fail,
                "other",
                "refuse",
            ),
            (
                S::TimedOut,
                Reuse::AllowDuplicateFailedOnly,
                C::Fail,
                "other",
                "make",
            ),
            (
                S::Failed,
                Reuse::RejectDuplicate,
                C::UseExisting,
                "other",
                "refuse",
            ),
            (
                S::Failed,
                Reuse::RejectDuplicate,
                C::UseExisting,
                "first",
                "repeat",
            ),
        ];
        for (status, reuse, conflict, request, wanted) in cases {
            let found = check(status, reuse, conflict, request);
            assert_eq!(found, wanted, "{status:?} {reuse:?} {conflict:?} {request}");
        }
    }
}
