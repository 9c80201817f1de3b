//! The run's timeout, and that of the whole chain of runs.

use proto_messages::temporal::api::{
    enums::v1::{TimeoutType, WorkflowTaskFailedCause},
    failure::v1::{Failure, TimeoutFailureInfo, failure::FailureInfo},
    history::v1::WorkflowExecutionTimedOutEventAttributes,
};

use super::next_run;
use crate::{Refusal, component::workflow_task, decision::Decision, event::Attributes};

/// The run, or the whole chain of runs, took too long.
pub(crate) fn fire(decision: &mut Decision<'_>) -> Result<(), Refusal> {
    if decision
        .ms
        .run_deadline()
        .is_none_or(|(at, _)| at > decision.now())
    {
        return Ok(());
    }
    workflow_task::fail_in_flight(decision, WorkflowTaskFailedCause::ForceCloseCommand)?;
    decision.flush_buffered_events();
    let failure = Failure {
        message: "workflow timeout".to_owned(),
        source: "Server".to_owned(),
        failure_info: Some(FailureInfo::TimeoutFailureInfo(TimeoutFailureInfo {
            timeout_type: TimeoutType::StartToClose.into(),
            last_heartbeat_details: None,
        })),
        ..Default::default()
    };
    let (retry_state, next) = next_run::after_failure(decision, &failure);
    let new_execution_run_id = next_run::run_id_of(next.as_ref());
    decision.write(Attributes::WorkflowExecutionTimedOutEventAttributes(
        WorkflowExecutionTimedOutEventAttributes {
            retry_state: retry_state.into(),
            new_execution_run_id,
        },
    ))?;
    next_run::start(decision, next)
}
