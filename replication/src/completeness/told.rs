//! The result of a comparison, for people.

use proto_messages::meridian::replication::v1::Completeness;

/// Whether nothing is lacking, as far as is known.
pub fn is_complete(found: &Completeness) -> bool {
    found.unknown.is_empty() && found.lacking_runs == 0 && found.dead_letters == 0
}

/// A lacking run, for people.
pub fn names(found: &Completeness) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<_> = found
        .differences
        .iter()
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
