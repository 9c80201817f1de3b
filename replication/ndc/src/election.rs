//! Which branch of a run is current: the one whose last item has the highest version. A version belongs to
//! one cluster and a cluster keeps one line of history per version, so there are no ties; were there one,
//! the branch that is current stays current.

use cluster_core::VersionHistories;
use proto_ids::EventId;

/// Index of the branch that has to be current.
pub fn elect(local: &VersionHistories) -> usize {
    let version = |index: usize| {
        local
            .histories
            .get(index)
            .and_then(|branch| branch.last())
            .map(|item| item.version)
    };
    (0..local.histories.len()).fold(local.current, |best, index| {
        if version(index) > version(best) {
            index
        } else {
            best
        }
    })
}

/// Events of the current branch that another branch does not share: what is lost, and searched for what
/// can be delivered again, when `winner` becomes current.
pub fn losing_range(local: &VersionHistories, winner: usize) -> Option<(EventId, EventId)> {
    let (loser, winner) = (
        local.histories.get(local.current)?,
        local.histories.get(winner)?,
    );
    let shared =
        super::branch::lowest_common_ancestor(&loser.items, &winner.items).unwrap_or_default();
    let last = loser.last()?;
    (last.event_id > shared.event_id).then(|| (shared.event_id.next(), last.event_id.next()))
}
