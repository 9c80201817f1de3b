//! Version histories: the branches of a run's history, each a list of (last event id, version) items.
//! Part of the state from the first day, so that replication never has to be retrofitted.

use proto_ids::{EventId, FailoverVersion};

/// The last event id written under one failover version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VersionItem {
    /// Last event of this version.
    pub event_id: EventId,
    /// The version.
    pub version: FailoverVersion,
}

/// Where a branch's events lie: its own nodes plus ranges of its ancestors' (history is forkable).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BranchToken {
    /// The tree, shared by all branches that fork from one another; a run's first branch uses its run id.
    pub tree_id: String,
    /// This branch.
    pub branch_id: String,
    /// Oldest first: events `begin..end` are read from that ancestor's nodes.
    pub ancestors: Vec<BranchAncestor>,
}

/// A range of events that a branch shares with an ancestor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BranchAncestor {
    /// The ancestor branch.
    pub branch_id: String,
    /// First event, inclusive.
    pub begin: EventId,
    /// End, exclusive.
    pub end: EventId,
}

impl BranchToken {
    /// A branch that shares the events before `at` with this one.
    #[must_use]
    pub fn fork(&self, branch_id: String, at: EventId) -> Self {
        let mut ancestors = Vec::with_capacity(self.ancestors.len() + 1);
        let mut begin = EventId::new(1);
        for ancestor in &self.ancestors {
            if ancestor.begin >= at {
                break;
            }
            ancestors.push(BranchAncestor {
                end: ancestor.end.min(at),
                ..ancestor.clone()
            });
            begin = ancestor.end.min(at);
        }
        if begin < at {
            let branch_id = self.branch_id.clone();
            ancestors.push(BranchAncestor {
                branch_id,
                begin,
                end: at,
            });
        }
        Self {
            tree_id: self.tree_id.clone(),
            branch_id,
            ancestors,
        }
    }
}

/// One branch of a run's history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionHistory {
    /// Where its events lie.
    pub branch: BranchToken,
    /// Rising event ids, rising versions.
    pub items: Vec<VersionItem>,
}

impl VersionHistory {
    /// The last item; none for an empty history.
    pub fn last(&self) -> Option<VersionItem> {
        self.items.last().copied()
    }

    /// Notes that events up to `event_id` were written under `version`.
    pub fn extend_to(&mut self, event_id: EventId, version: FailoverVersion) {
        match self.items.last_mut() {
            Some(last) if last.version == version => last.event_id = event_id,
            _ => self.items.push(VersionItem { event_id, version }),
        }
    }

    /// The version an event was written under, if the branch holds it.
    pub fn version_of(&self, event_id: EventId) -> Option<FailoverVersion> {
        self.items
            .iter()
            .find(|i| event_id <= i.event_id)
            .map(|i| i.version)
    }
}

/// All branches of a run; one of them is current.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionHistories {
    /// Index of the current branch.
    pub current: usize,
    /// The branches, oldest first.
    pub histories: Vec<VersionHistory>,
}

impl VersionHistories {
    /// A single empty branch.
    pub fn single(branch: BranchToken) -> Self {
        Self {
            current: 0,
            histories: vec![VersionHistory {
                branch,
                items: Vec::new(),
            }],
        }
    }

    /// The current branch.
    pub fn current(&self) -> &VersionHistory {
        &self.histories[self.current]
    }

    /// The current branch, to extend it.
    pub fn current_mut(&mut self) -> &mut VersionHistory {
        &mut self.histories[self.current]
    }
}
