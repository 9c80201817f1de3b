//! The decision on a batch of events from another cluster: nothing (it is there), a gap (what is missing
//! first), or a plan: which branch it goes to, whether that branch has to be forked, and whether it is current,
//! stays non-current, or becomes current.

use cluster_core::{BranchToken, VersionHistories, VersionHistory, VersionItem};
use proto_ids::{EventId, FailoverVersion};

use crate::branch::{self, Broken};

/// New events of a run: `first..next`, all of one version, on the branch that `items` describe. The
/// branch may reach past the events.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// The whole branch at its source.
    pub items: &'a [VersionItem],
    /// First event.
    pub first: EventId,
    /// End, exclusive.
    pub next: EventId,
    /// Version of the events.
    pub version: FailoverVersion,
}

/// The decision on a batch for a run that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchDecision {
    /// Every event is there.
    Duplicate,
    /// Events before it are missing.
    Gap(Missing),
    /// Write it.
    Apply(Plan),
}

/// The decision on a batch for a run that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// It begins the run.
    Create,
    /// Events before it are missing.
    Gap(Missing),
}

/// A range of missing events; both ends exclusive, no start means from the first event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The last event before the range.
    pub after: Option<VersionItem>,
    /// The first event behind the range.
    pub before: VersionItem,
}

/// How to write a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Where it goes.
    pub target: Target,
    /// The role of that branch afterwards.
    pub role: BranchRole,
    /// First event that is not there yet; earlier ones of the batch are dropped.
    pub from: EventId,
}

/// A branch to write to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The end of this branch.
    Branch(usize),
    /// A new branch that shares this one's events up to and including `at`.
    Fork {
        /// Index of the branch it forks from.
        from: usize,
        /// Last shared event.
        at: VersionItem,
    },
}

/// The role of a branch after a batch was written to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BranchRole {
    /// It is the current one: state advances.
    Current,
    /// It stays non-current: only its events are kept, and what can be is reapplied.
    NonCurrent,
    /// It wins: state is rebuilt from it, and events that only the old current branch has may be reapplied.
    Wins,
}

/// A batch that no history explains.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The items are no branch.
    #[error("the version history is malformed")]
    Malformed(#[from] Broken),
    /// The events are not on the branch that came with them.
    #[error("events {first}..{next} of version {version} are not on the branch they came with")]
    OffBranch {
        /// First event.
        first: EventId,
        /// End, exclusive.
        next: EventId,
        /// Their version.
        version: FailoverVersion,
    },
    /// The run began differently here: the same run id was written by two unrelated histories.
    #[error("no local branch shares an event with the incoming one")]
    Unrelated,
}

impl Incoming<'_> {
    fn check(&self) -> Result<(), Refused> {
        branch::check(self.items)?;
        let last = VersionItem {
            event_id: EventId::new(self.next.get() - 1),
            version: self.version,
        };
        let first = VersionItem {
            event_id: self.first,
            version: self.version,
        };
        let on_branch = self.first < self.next
            && branch::contains(self.items, first)
            && branch::contains(self.items, last);
        if on_branch {
            return Ok(());
        }
        Err(Refused::OffBranch {
            first: self.first,
            next: self.next,
            version: self.version,
        })
    }

    fn gap_after(&self, after: Option<VersionItem>) -> Missing {
        Missing {
            after,
            before: VersionItem {
                event_id: self.first,
                version: self.version,
            },
        }
    }

    /// The decision for a run that does not exist here. A run that a reset made is fetched from its first event
    /// on like any other: its base run may not be here.
    pub fn for_absent(&self) -> Result<Absent, Refused> {
        self.check()?;
        if self.first == EventId::new(1) {
            return Ok(Absent::Create);
        }
        Ok(Absent::Gap(self.gap_after(None)))
    }

    /// The decision for a run with these branches.
    pub fn against(&self, local: &VersionHistories) -> Result<BatchDecision, Refused> {
        self.check()?;
        let (index, shared) = closest(local, self.items).ok_or(Refused::Unrelated)?;
        let end = local.histories[index].last().ok_or(Refused::Unrelated)?;
        if self.next <= shared.event_id.next() {
            return Ok(BatchDecision::Duplicate);
        }
        if self.first > shared.event_id.next() {
            return Ok(BatchDecision::Gap(self.gap_after(Some(shared))));
        }
        let target = if shared == end {
            Target::Branch(index)
        } else {
            Target::Fork {
                from: index,
                at: shared,
            }
        };
        // The branch of an equal version is the current one itself: a version shared is a history shared.
        let current = local.current().last().map(|last| last.version);
        let role = match target {
            Target::Branch(index) if index == local.current => BranchRole::Current,
            _ if Some(self.version) > current => BranchRole::Wins,
            _ => BranchRole::NonCurrent,
        };
        Ok(BatchDecision::Apply(Plan {
            target,
            role,
            from: shared.event_id.next(),
        }))
    }
}

impl Plan {
    /// Makes the change to the version histories: forks when told to (`token` becomes the new branch),
    /// extends the branch to `next`, and moves the current index when the branch wins. Returns the branch's
    /// index.
    pub fn carry_out(
        &self,
        local: &mut VersionHistories,
        token: impl FnOnce(&VersionHistory, EventId) -> BranchToken,
        next: EventId,
        version: FailoverVersion,
    ) -> Result<usize, Broken> {
        let index = match self.target {
            Target::Branch(index) => index,
            Target::Fork { from, at } => {
                let base = local.histories.get(from).ok_or(Broken::Empty)?;
                let forked = VersionHistory {
                    branch: token(base, at.event_id.next()),
                    items: branch::up_to(&base.items, at.event_id),
                };
                local.histories.push(forked);
                local.histories.len() - 1
            }
        };
        let branch = local.histories.get_mut(index).ok_or(Broken::Empty)?;
        branch::append(&mut branch.items, EventId::new(next.get() - 1), version)?;
        if self.role == BranchRole::Wins {
            local.current = index;
        }
        Ok(index)
    }
}

/// A token for a branch that shares `base`'s nodes below `fork_at`.
pub fn fork_token(base: &BranchToken, fork_at: EventId, branch_id: String) -> BranchToken {
    let mut ancestors: Vec<_> = base.ancestors.clone();
    let begin = ancestors.last().map_or(EventId::new(1), |last| last.end);
    ancestors.retain(|ancestor| ancestor.begin < fork_at);
    for ancestor in &mut ancestors {
        ancestor.end = ancestor.end.min(fork_at);
    }
    if begin < fork_at {
        ancestors.push(cluster_core::version::BranchAncestor {
            branch_id: base.branch_id.clone(),
            begin,
            end: fork_at,
        });
    }
    BranchToken {
        tree_id: base.tree_id.clone(),
        branch_id,
        ancestors,
    }
}

/// The local branch that shares most with `items`; of several, the one that ends first, since only that
/// one can be appended to.
fn closest(local: &VersionHistories, items: &[VersionItem]) -> Option<(usize, VersionItem)> {
    let mut best: Option<(usize, VersionItem, EventId)> = None;
    for (index, history) in local.histories.iter().enumerate() {
        let (Some(end), Some(shared)) = (
            history.last(),
            branch::lowest_common_ancestor(&history.items, items),
        ) else {
            continue;
        };
        let closer = best.is_none_or(|(_, so_far, so_far_end)| {
            (shared.event_id, std::cmp::Reverse(end.event_id))
                > (so_far.event_id, std::cmp::Reverse(so_far_end))
        });
        if closer {
            best = Some((index, shared, end.event_id));
        }
    }
    best.map(|(index, shared, _)| (index, shared))
}
