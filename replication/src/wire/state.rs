//! A run's state as peers and tools see it. Our stored form is another one; this is made when asked for.

use cluster_core::MutableState;
use proto_messages::temporal::server::api::{
    history::v1::VersionHistories, persistence::v1::WorkflowMutableState,
};

use super::history_to_wire;

/// The whole state.
pub fn to_wire(run: &MutableState) -> WorkflowMutableState {
    let mut replica = run.to_replica();
    let info = replica.execution_info.get_or_insert_default();
    info.version_histories = Some(VersionHistories {
        current_version_history_index: run.versions.current as i32,
        histories: run.versions.histories.iter().map(history_to_wire).collect(),
    });
    replica
}
