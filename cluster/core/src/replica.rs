//! A run's state as other clusters and tools see it: Temporal's message of a mutable state. Each component fills in
//! its own. The branches of the history are left to the caller, whose their tokens are.

use std::time::Duration;

use proto_ids::{EventId, Timestamp};
use proto_messages::{
    temporal::{
        api::enums::v1::WorkflowExecutionStatus,
        server::api::{
            enums::v1::WorkflowExecutionState as StateName,
            persistence::v1::{
                ExecutionStats, WorkflowExecutionInfo, WorkflowExecutionState, WorkflowMutableState,
            },
        },
    },
    time,
};

use crate::{MutableState, component};

/// A moment; unset when there is none.
pub(crate) fn at(moment: Timestamp) -> Option<prost_types::Timestamp> {
    (!moment.is_zero()).then(|| time::to_proto(moment))
}

/// A length of time, set even when it is zero.
pub(crate) fn lasting(d: Duration) -> Option<prost_types::Duration> {
    Some(time::duration_to_proto(d))
}

impl MutableState {
    /// The whole state, without the branches of the history.
    pub fn to_replica(&self) -> WorkflowMutableState {
        let mut replica = WorkflowMutableState {
            execution_info: Some(execution_info(self)),
            execution_state: Some(execution_state(self)),
            next_event_id: self.execution_info.next_event_id.get(),
            ..WorkflowMutableState::default()
        };
        for component in component::all() {
            (component.replicate)(self, &mut replica);
        }
        replica
    }
}

fn execution_state(run: &MutableState) -> WorkflowExecutionState {
    let state = match (run.is_running(), run.execution_info.zombie) {
        (false, _) => StateName::Completed,
        (true, true) => StateName::Zombie,
        (true, false)
            if run.execution_info.last_completed_started_event_id == EventId::default() =>
        {
            StateName::Created
        }
        (true, false) => StateName::Running,
    };
    WorkflowExecutionState {
        run_id: run.key.run_id.to_string(),
        state: state as i32,
        status: match run.is_running() {
            true => WorkflowExecutionStatus::Running as i32,
            false => run.execution_info.status as i32,
        },
        ..WorkflowExecutionState::default()
    }
}

fn execution_info(run: &MutableState) -> WorkflowExecutionInfo {
    let execution_info = &run.execution_info;
    WorkflowExecutionInfo {
        namespace_id: run.key.namespace_id.to_string(),
        workflow_id: run.key.workflow_id.to_string(),
        last_update_time: at(execution_info.last_update_time),
        last_running_clock: execution_info.last_running_clock,
        last_completed_workflow_task_started_event_id: execution_info
            .last_completed_started_event_id
            .get(),
        state_transition_count: execution_info.state_transition_count,
        execution_stats: Some(ExecutionStats {
            history_size: execution_info.history_size,
            ..ExecutionStats::default()
        }),
        auto_reset_points: execution_info.reset_points.clone(),
        workflow_was_reset: !execution_info.reset_run_id.is_empty(),
        reset_run_id: execution_info.reset_run_id.to_string(),
        ..WorkflowExecutionInfo::default()
    }
}
