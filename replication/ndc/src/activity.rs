//! In-flight state of an activity that no event tells: attempts, heartbeats, the last failure. It is taken
//! over when the run's branch holds the activity and what arrives is newer than what is here.

use cluster_core::{VersionHistories, VersionItem, state::Activity};
use proto_ids::{EventId, FailoverVersion, Timestamp};
use proto_messages::temporal::api::{common::v1::Payloads, failure::v1::Failure};

use crate::{
    branch::{self, Broken},
    verdict::Missing,
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

/// In-flight state as it arrives.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InFlight {
    /// Version of its last change.
    pub version: FailoverVersion,
    /// The attempt, from 1.
    pub attempt: i32,
    /// When the attempt was or will be scheduled.
    pub scheduled_time: Timestamp,
    /// Its started event; 0 while none is written.
    pub started_event_id: EventId,
    /// When the attempt was started; zero while not.
    pub started_time: Timestamp,
    /// Last heartbeat.
    pub last_heartbeat_time: Timestamp,
    /// Last heartbeat's details.
    pub heartbeat_details: Option<Payloads>,
    /// Last attempt's failure.
    pub last_failure: Option<Failure>,
    /// Last attempt's worker.
    pub last_worker_identity: String,
    /// When the last attempt ended.
    pub last_attempt_complete_time: Timestamp,
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

impl InFlight {
    /// Whether this is newer than what is here: by version, attempt, then heartbeat.
    pub fn is_newer_than(&self, activity: &Activity) -> bool {
        let order = self
            .version
            .cmp(&activity.version)
            .then(self.attempt.cmp(&activity.attempt));
        match order {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Greater => true,
            std::cmp::Ordering::Equal => {
                // An attempt does not become unstarted again.
                let is_undone = self.started_time.is_zero() && !activity.started_time.is_zero();
                !is_undone && self.last_heartbeat_time >= activity.last_heartbeat_time
            }
        }
    }

    /// Takes it over; false when it is older, or equal in everything. Armed timeouts are forgotten, so that
    /// the caller can ask the activity for its deadlines anew.
    pub fn take_over(self, activity: &mut Activity) -> bool {
        if !self.is_newer_than(activity) {
            return false;
        }
        let before = activity.clone();
        activity.version = self.version;
        activity.attempt = self.attempt;
        activity.attempt_scheduled_time = self.scheduled_time;
        activity.started_event_id = self.started_event_id;
        activity.started_time = self.started_time;
        activity.last_heartbeat_time = self.last_heartbeat_time;
        activity.heartbeat_details = self.heartbeat_details;
        activity.last_failure = self.last_failure;
        activity.last_worker_identity = self.last_worker_identity;
        activity.last_attempt_complete_time = self.last_attempt_complete_time;
        if *activity == before {
            return false;
        }
        activity.armed = Default::default();
        true
    }
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

    #[test]
    fn the_newer_state_wins() {
        let here = Activity {
            version: 2.into(),
            attempt: 3,
            started_time: Timestamp::from_millis(5),
            last_heartbeat_time: Timestamp::from_millis(10),
            ..Default::default()
        };
        let there = |version: i64, attempt, heartbeat| InFlight {
            version: version.into(),
            attempt,
            started_time: Timestamp::from_millis(5),
            last_heartbeat_time: Timestamp::from_millis(heartbeat),
            ..Default::default()
        };
        for (arriving, is_taken) in [
            (there(1, 9, 99), false),
            (there(11, 1, 0), true),
            (there(2, 2, 99), false),
            (there(2, 4, 0), true),
            (there(2, 3, 9), false),
            (there(2, 3, 11), true),
            // The same again changes nothing.
            (there(2, 3, 10), false),
            (
                InFlight {
                    started_time: Timestamp::ZERO,
                    ..there(2, 3, 10)
                },
                false,
            ),
        ] {
            let mut activity = here.clone();
            assert_eq!(
                arriving.clone().take_over(&mut activity),
                is_taken,
                "{arriving:?}"
            );
            assert_eq!(activity != here, is_taken);
        }
    }
}
