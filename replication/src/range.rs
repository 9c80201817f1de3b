//! Which events a caller of the raw history means. A caller names events by id and version, since an id
//! alone means different events on different branches; the branch is the one that holds the end. Pure.

use cluster_core::{VersionHistories, VersionItem};
use proto_ids::{EventId, FailoverVersion};
use replication_ndc::branch;

/// The bounds of a request. An end whose id or version is 0 is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Where it begins.
    pub start: Option<VersionItem>,
    /// Where it ends.
    pub end: Option<VersionItem>,
}

/// Events of one branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Index of the branch.
    pub branch: usize,
    /// First event.
    pub from: EventId,
    /// End, exclusive.
    pub until: EventId,
}

/// Bounds that no branch fits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// No branch holds the end.
    #[error("no branch holds event {}@{}", .0.event_id, .0.version)]
    End(VersionItem),
    /// The run has no events.
    #[error("the run has no events")]
    Empty,
}

impl Bounds {
    /// From the numbers of a request.
    pub fn new(start: (i64, i64), end: (i64, i64)) -> Self {
        let bound = |(event_id, version): (i64, i64)| {
            (event_id > 0 && version > 0).then(|| VersionItem {
                event_id: EventId::new(event_id),
                version: FailoverVersion::new(version),
            })
        };
        Self {
            start: bound(start),
            end: bound(end),
        }
    }

    /// The events strictly between the bounds.
    pub fn exclusive(&self, histories: &VersionHistories) -> Result<Range, Unknown> {
        let (index, until) = match self.end {
            None => {
                let last = histories.current().last().ok_or(Unknown::Empty)?;
                (histories.current, last.event_id.next())
            }
            Some(end) => (holder(histories, end)?, end.event_id),
        };
        let from = self.start.map_or(EventId::new(1), |start| {
            shared(&histories.histories[index].items, start, histories).next()
        });
        Ok(Range {
            branch: index,
            from,
            until: until.max(from),
        })
    }

    /// The events from bound to bound, both included.
    pub fn inclusive(&self, histories: &VersionHistories) -> Result<Range, Unknown> {
        let (index, until) = match self.end {
            None => {
                let last = histories.current().last().ok_or(Unknown::Empty)?;
                (histories.current, last.event_id.next())
            }
            Some(end) => {
                let holds =
                    |branch: &cluster_core::VersionHistory| branch::contains(&branch.items, end);
                let index = histories.histories.iter().position(holds);
                (index.ok_or(Unknown::End(end))?, end.event_id.next())
            }
        };
        let from = self.start.map_or(EventId::new(1), |start| {
            let items = &histories.histories[index].items;
            match branch::contains(items, start) {
                true => start.event_id,
                false => shared(items, start, histories).next(),
            }
        });
        Ok(Range {
            branch: index,
            from,
            until: until.max(from),
        })
    }
}

/// The branch that holds an exclusive end, or stops right before it under the same version.
fn holder(histories: &VersionHistories, end: VersionItem) -> Result<usize, Unknown> {
    let before = VersionItem {
        event_id: EventId::new(end.event_id.get() - 1),
        version: end.version,
    };
    let find = |item: VersionItem| {
        histories
            .histories
            .iter()
            .position(|branch| branch::contains(&branch.items, item))
    };
    find(end).or_else(|| find(before)).ok_or(Unknown::End(end))
}

/// The start itself when the branch holds it, else the last event the branch shares with the start's own
/// branch; 0 when the start is unknown.
fn shared(items: &[VersionItem], start: VersionItem, histories: &VersionHistories) -> EventId {
    if branch::contains(items, start) {
        return start.event_id;
    }
    histories
        .histories
        .iter()
        .find(|other| branch::contains(&other.items, start))
        .and_then(|other| branch::lowest_common_ancestor(&other.items, items))
        .map_or(EventId::new(0), |item| item.event_id.min(start.event_id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster_core::VersionHistory;

    fn histories(current: usize, branches: &[&[(i64, i64)]]) -> VersionHistories {
        let branch = |items: &&[(i64, i64)]| VersionHistory {
            items: items
                .iter()
                .map(|&(e, v)| VersionItem {
                    event_id: e.into(),
                    version: v.into(),
                })
                .collect(),
            ..Default::default()
        };
        VersionHistories {
            current,
            histories: branches.iter().map(branch).collect(),
        }
    }

    fn range(branch: usize, from: i64, until: i64) -> Result<Range, Unknown> {
        Ok(Range {
            branch,
            from: from.into(),
            until: until.into(),
        })
    }

    #[test]
    fn both_ends_are_exclusive() {
        let run = histories(0, &[&[(5, 1), (10, 2)], &[(8, 1)]]);
        for (start, end, expected) in [
            ((0, 0), (0, 0), range(0, 1, 11)),
            ((2, 1), (0, 0), range(0, 3, 11)),
            ((0, 0), (7, 2), range(0, 1, 7)),
            ((3, 1), (4, 1), range(0, 4, 4)),
            // The branch that stops right before the end.
            ((5, 1), (11, 2), range(0, 6, 11)),
            ((5, 1), (9, 1), range(1, 6, 9)),
            // The start is on the other branch: from where the two part.
            ((7, 1), (10, 2), range(0, 6, 10)),
            // A version of 0 is no version.
            ((1, 0), (2, 0), range(0, 1, 11)),
        ] {
            let found = Bounds::new(start, end).exclusive(&run);
            assert_eq!(found, expected, "{start:?} to {end:?}");
        }
        assert!(Bounds::new((0, 0), (9, 3)).exclusive(&run).is_err());
    }

    #[test]
    fn both_ends_are_inclusive() {
        let run = histories(1, &[&[(5, 1), (10, 2)], &[(5, 1), (12, 3)]]);
        assert_eq!(
            Bounds::new((0, 0), (10, 2)).inclusive(&run),
            range(0, 1, 11)
        );
        assert_eq!(
            Bounds::new((6, 3), (12, 3)).inclusive(&run),
            range(1, 6, 13)
        );
        assert_eq!(
            Bounds::new((7, 2), (12, 3)).inclusive(&run),
            range(1, 6, 13)
        );
        assert!(Bounds::new((0, 0), (11, 2)).inclusive(&run).is_err());
    }
}
