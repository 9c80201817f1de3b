//! State of a run outside history, on the wire: request ids, the run that a reset put in its place, and which
//! lost events it was given.

use std::collections::BTreeMap;

use cluster_core::{MutableState, NonHistoryState};
use proto_ids::RunId;
use proto_messages::meridian::replication::v1::{ReappliedEvents, RunState};

/// Delivered events that are taken over of one run. A run takes in 10,000 signals at most, so a peer that tells
/// more has counted wrong; what is left out is known by its request id still.
const REAPPLIED_MAX: usize = 20_000;

/// Encodes the state; none when it is empty.
pub fn non_history_to_wire(run: &MutableState) -> Option<RunState> {
    let mut reapplied: BTreeMap<_, Vec<i64>> = BTreeMap::new();
    for (run_id, event_id, version) in &run.execution_info.reapplied {
        reapplied
            .entry((run_id.as_str(), *version))
            .or_default()
            .push(*event_id);
    }
    let told = RunState {
        create_request_id: run.start.request_id.clone(),
        cancel_request_id: run
            .execution_info
            .cancel_request
            .clone()
            .unwrap_or_default(),
        reset_run_id: run.execution_info.reset_run_id.to_string(),
        reapplied: reapplied
            .into_iter()
            .map(|((run_id, version), event_ids)| ReappliedEvents {
                run_id: run_id.to_owned(),
                version,
                event_ids,
            })
            .collect(),
    };
    (told != RunState::default()).then_some(told)
}

/// Decodes the state.
pub fn non_history_from_wire(told: &RunState) -> NonHistoryState {
    let keys = told.reapplied.iter().flat_map(|events| {
        let run_id = RunId::new(&events.run_id);
        let key = move |id: &i64| (run_id.clone(), *id, events.version);
        events.event_ids.iter().map(key)
    });
    NonHistoryState {
        create_request_id: told.create_request_id.clone(),
        cancel_request_id: told.cancel_request_id.clone(),
        reset_run_id: RunId::new(&told.reset_run_id),
        reapplied: keys.take(REAPPLIED_MAX).collect(),
    }
}
