//! Items of one branch: order, membership, common ancestors. A branch is well formed when its event ids
//! rise strictly and its versions rise strictly; everything here keeps that, and refuses what breaks it.

use cluster_core::VersionItem;
use proto_ids::{EventId, FailoverVersion};

/// Items that are no branch, or an append that would make them none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// No items.
    #[error("a branch has no items")]
    Empty,
    /// Ids or versions do not rise.
    #[error("item {event_id}@{version} does not rise over the one before it")]
    NotRising {
        /// The item's event id.
        event_id: EventId,
        /// The item's version.
        version: FailoverVersion,
    },
}

/// Checks that items make a branch. An empty list is refused: a branch that exists has an event.
pub fn check(items: &[VersionItem]) -> Result<(), Broken> {
    let first = items.first().ok_or(Broken::Empty)?;
    if first.event_id < EventId::new(1) || first.version < FailoverVersion::new(0) {
        return Err(not_rising(first));
    }
    for pair in items.windows(2) {
        if pair[1].event_id <= pair[0].event_id || pair[1].version <= pair[0].version {
            return Err(not_rising(&pair[1]));
        }
    }
    Ok(())
}

/// The version of an event, if the branch reaches that far.
pub fn version_of(items: &[VersionItem], event_id: EventId) -> Option<FailoverVersion> {
    if event_id < EventId::new(1) {
        return None;
    }
    items
        .iter()
        .find(|item| event_id <= item.event_id)
        .map(|item| item.version)
}

/// Whether the branch holds this event under this version.
pub fn contains(items: &[VersionItem], event: VersionItem) -> bool {
    version_of(items, event.event_id) == Some(event.version)
}

/// The last event that two branches share; none when they share nothing.
pub fn lowest_common_ancestor(a: &[VersionItem], b: &[VersionItem]) -> Option<VersionItem> {
    let (mut a, mut b) = (a.iter().rev().peekable(), b.iter().rev().peekable());
    while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
        if x.version == y.version {
            return Some(VersionItem {
                event_id: x.event_id.min(y.event_id),
                version: x.version,
            });
        }
        if x.version > y.version {
            a.next();
        } else {
            b.next();
        }
    }
    None
}

/// The events of `loser` that `winner` does not share, end exclusive; none when it shares them all.
pub fn losing_range(loser: &[VersionItem], winner: &[VersionItem]) -> Option<(EventId, EventId)> {
    let last = loser.last()?;
    let shared = lowest_common_ancestor(loser, winner).unwrap_or_default();
    (last.event_id > shared.event_id).then(|| (shared.event_id.next(), last.event_id.next()))
}

/// The items up to and including an event of the branch.
pub fn up_to(items: &[VersionItem], event_id: EventId) -> Vec<VersionItem> {
    let mut kept = Vec::with_capacity(items.len());
    for item in items {
        if event_id <= item.event_id {
            kept.push(VersionItem {
                event_id,
                version: item.version,
            });
            break;
        }
        kept.push(*item);
    }
    kept
}

/// Notes that events up to `event_id` were written under `version`.
pub fn append(
    items: &mut Vec<VersionItem>,
    event_id: EventId,
    version: FailoverVersion,
) -> Result<(), Broken> {
    match items.last_mut() {
        Some(last) if event_id <= last.event_id || version < last.version => {
            Err(Broken::NotRising { event_id, version })
        }
        Some(last) if last.version == version => {
            last.event_id = event_id;
            Ok(())
        }
        _ => {
            items.push(VersionItem { event_id, version });
            Ok(())
        }
    }
}

fn not_rising(item: &VersionItem) -> Broken {
    Broken::NotRising {
        event_id: item.event_id,
        version: item.version,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn items(list: &[(i64, i64)]) -> Vec<VersionItem> {
        list.iter()
            .map(|&(e, v)| VersionItem {
                event_id: e.into(),
                version: v.into(),
            })
            .collect()
    }

    #[test]
    fn branches_part_where_their_versions_do() {
        for (a, b, shared) in [
            (&[(5, 1)][..], &[(9, 1)][..], Some((5, 1))),
            (&[(5, 1), (8, 2)], &[(5, 1), (7, 3)], Some((5, 1))),
            (
                &[(5, 1), (8, 2), (9, 11)],
                &[(5, 1), (8, 2), (12, 12)],
                Some((8, 2)),
            ),
            (&[(3, 1), (8, 2)], &[(6, 1), (9, 3)], Some((3, 1))),
            (&[(4, 0), (9, 1)], &[(4, 0), (6, 1)], Some((6, 1))),
            (&[(4, 1)], &[(4, 2)], None),
        ] {
            let (a, b) = (items(a), items(b));
            let found = lowest_common_ancestor(&a, &b);
            assert_eq!(found, lowest_common_ancestor(&b, &a));
            assert_eq!(found.map(|i| (i.event_id.get(), i.version.get())), shared);
        }
    }

    #[test]
    fn what_a_branch_holds_alone_is_lost_with_it() {
        for (loser, winner, lost) in [
            (&[(5, 1), (8, 2)][..], &[(5, 1), (7, 3)][..], Some((6, 9))),
            (&[(6, 1)], &[(4, 1), (7, 3)], Some((5, 7))),
            (&[(4, 1)], &[(4, 1), (7, 3)], None),
            (&[(4, 1)], &[(4, 2)], Some((1, 5))),
        ] {
            let found = losing_range(&items(loser), &items(winner));
            assert_eq!(found.map(|(from, to)| (from.get(), to.get())), lost);
        }
    }

    #[test]
    fn appending_never_lets_a_version_fall() {
        let mut branch = items(&[(4, 2)]);
        append(&mut branch, 6.into(), 2.into()).unwrap();
        append(&mut branch, 7.into(), 11.into()).unwrap();
        assert_eq!(branch, items(&[(6, 2), (7, 11)]));
        assert!(append(&mut branch, 8.into(), 2.into()).is_err());
        assert!(append(&mut branch, 7.into(), 12.into()).is_err());
        assert_eq!(check(&items(&[])), Err(Broken::Empty));
        assert!(check(&items(&[(4, 2), (4, 3)])).is_err());
        assert!(check(&items(&[(4, 2), (5, 1)])).is_err());
    }

    proptest! {
        #[test]
        fn what_is_shared_is_in_both(
            steps in prop::collection::vec((1_i64..6, 1_i64..4), 1..6),
            cut in 1_i64..20,
            tail in prop::collection::vec((1_i64..6, 1_i64..4), 0..4),
        ) {
            let mut a = Vec::new();
            let (mut event, mut version) = (0, 0);
            for (events, versions) in steps {
                (event, version) = (event + events, version + versions);
                append(&mut a, event.into(), version.into()).unwrap();
            }
            let cut = cut.min(event);
            let mut b = up_to(&a, cut.into());
            let (mut event, mut version) = (cut, version + 100);
            for (events, versions) in tail {
                (event, version) = (event + events, version + versions);
                append(&mut b, event.into(), version.into()).unwrap();
            }
            check(&a).unwrap();
            check(&b).unwrap();
            let shared = lowest_common_ancestor(&a, &b).unwrap();
            prop_assert_eq!(shared.event_id.get(), cut);
            prop_assert!(contains(&a, shared) && contains(&b, shared));
        }
    }
}
