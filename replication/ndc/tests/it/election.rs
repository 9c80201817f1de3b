//! Which branch of a run has to be current, told from nothing but the branches: the one whose last item has the highest
//! version. A version belongs to one cluster and a cluster keeps one line of history per version, so there are no ties.

use cluster_core::VersionHistories;

/// Index of the branch that has to be current.
pub fn elect(local: &VersionHistories) -> usize {
    let version = |index: &usize| {
        let branch = &local.histories[*index];
        branch.last().map(|item| item.version)
    };
    (0..local.histories.len()).max_by_key(version).unwrap()
}
