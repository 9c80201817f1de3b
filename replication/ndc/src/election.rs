//! Which branch of a run is current: the one whose last item has the highest version. A version belongs to
//! one cluster and a cluster keeps one line of history per version, so there are no ties; were there one,
//! the branch that is current stays current.

use cluster_core::VersionHistories;

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
