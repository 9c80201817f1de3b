//! The result of a comparison, for people.

use proto_messages::{
    meridian::replication::v1::{Completeness, RunDifference, run_difference::Kind},
    temporal::api::common::v1::WorkflowExecution,
};

use super::Key;

/// Whether nothing is lacking, as far as is known, once buffered events have their place in history.
pub fn is_complete(found: &Completeness) -> bool {
    found.unknown.is_empty() && found.lacking_runs == 0 && found.dead_letters == 0
}

/// A run that lacks nothing but buffered events.
pub(super) fn buffered((workflow_id, run_id): &Key, events: i32) -> RunDifference {
    RunDifference {
        execution: Some(WorkflowExecution {
            workflow_id: workflow_id.clone(),
            run_id: run_id.clone(),
        }),
        kind: Kind::Buffered as i32,
        detail: format!("{events}, until the workflow task that a worker has ends"),
        ..Default::default()
    }
}

/// The lacking runs, for people.
pub fn names(found: &Completeness) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<_> = found
        .differences
        .iter()
        .filter(|d| d.kind() != Kind::Buffered)
        .take(SHOWN)
        .filter_map(|d| Some(d.execution.as_ref()?.workflow_id.clone()))
        .collect();
    let more = usize::try_from(found.lacking_runs).unwrap_or(0);
    let more = more.saturating_sub(shown.len());
    let more = match more {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let letters = match found.dead_letters {
        0 => String::new(),
        letters => format!("; {letters} changes are dead letters there"),
    };
    let noun = match found.lacking_runs {
        1 => "workflow",
        _ => "workflows",
    };
    format!(
        "{} {noun} ({}{more}){letters}",
        found.lacking_runs,
        shown.join(", ")
    )
}
