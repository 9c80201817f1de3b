//! Whether in-flight state of an activity (attempts, heartbeats) may be looked at at all: no event tells it,
//! so only the branches say whether it belongs to what is here. Which of two states is newer is the core's
//! to say.

use cluster_core::{VersionHistories, VersionItem};
use proto_ids::EventId;

use crate::{
    batch_decision::Missing,
    branch::{self, Broken},
};

/// Whether the branches allow taking in-flight state over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The current branch holds the activity.
    Admit,
    /// It comes from a branch that lost.
    Drop,
    /// Events are missing first.
    Gap(Missing),
}

/// Compares branches before in-flight state of the activity scheduled by `scheduled` is looked at.
pub fn admit(
    local: &VersionHistories,
    incoming: &[VersionItem],
    scheduled: EventId,
) -> Result<Admission, Broken> {
    branch::check(incoming)?;
    let here = &local.current().items;
    let (Some(here_last), Some(there_last)) = (here.last(), incoming.last()) else {
        return Err(Broken::Empty);
    };
    let shared = branch::lowest_common_ancestor(here, incoming);
    let gap_before = |event_id: EventId| {
        let version = branch::version_of(incoming, event_id).unwrap_or(there_last.version);
        Admission::Gap(Missing {
            after: shared,
            before: VersionItem { event_id, version },
        })
    };
    Ok(match shared {
        Some(shared) if shared == *there_last => Admission::Admit,
        Some(shared) if shared == *here_last => {
            if scheduled <= shared.event_id {
                Admission::Admit
            } else {
                gap_before(scheduled.next())
            }
        }
        _ if there_last.version < here_last.version => Admission::Drop,
        // The other branch wins; bringing its events makes it the current one.
        _ => gap_before(there_last.event_id.next()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster_core::VersionHistory;

    fn items(list: &[(i64, i64)]) -> Vec<VersionItem> {
        list.iter()
            .map(|&(e, v)| VersionItem {
                event_id: e.into(),
                version: v.into(),
            })
            .collect()
    }

    fn gap(after: (i64, i64), before: (i64, i64)) -> Admission {
        Admission::Gap(Missing {
            after: Some(items(&[after])[0]),
            before: items(&[before])[0],
        })
    }

    #[test]
    fn only_the_winning_branch_speaks_for_its_activities() {
        let local = |list: &[(i64, i64)]| VersionHistories {
            current: 0,
            histories: vec![VersionHistory {
                items: items(list),
                ..Default::default()
            }],
        };
        for (here, there, expected) in [
            (&[(9, 1)][..], &[(9, 1)][..], Admission::Admit),
            (&[(9, 1)], &[(7, 1)], Admission::Admit),
            (&[(9, 1)], &[(12, 1)], Admission::Admit),
            (&[(5, 1)], &[(12, 1)], gap((5, 1), (7, 1))),
            (&[(5, 1)], &[(6, 1)], gap((5, 1), (7, 1))),
            (&[(5, 1), (9, 2)], &[(8, 1)], Admission::Drop),
            (&[(9, 1)], &[(5, 1), (8, 2)], gap((5, 1), (9, 2))),
        ] {
            let found = admit(&local(here), &items(there), 6.into());
            assert_eq!(found, Ok(expected), "{here:?} {there:?}");
        }
        assert!(admit(&local(&[(9, 1)]), &[], 6.into()).is_err());
    }
}
