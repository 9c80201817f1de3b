//! Which run of a workflow id is current when two clusters started or continued different ones. At most
//! one run of a workflow id is open and not a zombie; a zombie is kept and readable but never executed.
//!
//! Runs are ordered by the version of their last event. A version belongs to one cluster, and that cluster
//! numbers what it writes (the task ids of events), so runs of one version are ordered by those numbers: the
//! wall clocks of its hosts have no say.

use proto_ids::{FailoverVersion, RunId, Timestamp};

/// The facts of a run that arbitration needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFacts {
    /// The run.
    pub run_id: RunId,
    /// Whether it is open.
    pub open: bool,
    /// Version of its last event.
    pub last_version: FailoverVersion,
    /// Task id of its last event; 0 when the cluster that wrote it does not send it.
    pub last_clock: i64,
    /// Version of its first event.
    pub first_version: FailoverVersion,
    /// Task id of its first event; 0 when the cluster that wrote it does not send it.
    pub first_clock: i64,
    /// Run that it continues; empty for none.
    pub continues: RunId,
    /// Run that its history was first written under: another one's after a reset.
    pub original: RunId,
    /// Run that a reset put in its place; empty for none.
    pub replaced_by: RunId,
    /// When it started, as its first event tells. Looked at only for runs of a cluster that does not number
    /// its events, which nothing else could order.
    pub started: Timestamp,
}

/// The decision on a run that events arrived for, and on the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arbitration {
    /// It is the current run, or there is none.
    Current,
    /// It takes the place of the current run.
    Takes(Suppress),
    /// It is kept beside the current run, as a zombie while it is open; what can be is delivered again to
    /// the current run.
    Beside,
}

/// The suppression of the run that loses its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suppress {
    /// Nothing: it is closed.
    Closed,
    /// It is terminated by an active write, because this cluster wrote its last event: the other clusters
    /// have to learn of it.
    Terminate,
    /// It becomes a zombie: the cluster that wrote its last event decides about it.
    Zombie,
}

impl RunFacts {
    /// Whether this run wins over another one of the same workflow id: the higher last version, then what was
    /// written later. The run id makes the order total, equal everywhere.
    pub fn wins_over(&self, other: &Self) -> bool {
        let unnumbered = self.last_clock == 0 && other.last_clock == 0;
        let started = |run: &Self| match unnumbered {
            true => run.started,
            false => Timestamp::ZERO,
        };
        (
            self.last_version,
            self.last_clock,
            started(self),
            self.run_id.as_str(),
        ) > (
            other.last_version,
            other.last_clock,
            started(other),
            other.run_id.as_str(),
        )
    }

    /// Whether this run came before `current` in one line of history, rather than beside it: its end was
    /// known to the cluster that began that one, so nothing of it is lost.
    pub fn precedes(&self, current: &Self) -> bool {
        let is_written_before = self.last_version == current.first_version
            && self.last_clock != 0
            && self.last_clock < current.first_clock;
        is_written_before
            || current.continues == self.run_id
            || current.original == self.run_id
            || current.run_id == self.replaced_by
    }
}

/// Decides between the run that events arrived for and the current run of its workflow id. `is_local` tells
/// whether a version belongs to this cluster.
pub fn arbitrate(
    target: &RunFacts,
    current: Option<&RunFacts>,
    is_local: impl Fn(FailoverVersion) -> bool,
) -> Arbitration {
    let Some(current) = current.filter(|current| current.run_id != target.run_id) else {
        return Arbitration::Current;
    };
    if !target.wins_over(current) {
        return Arbitration::Beside;
    }
    Arbitration::Takes(if !current.open {
        Suppress::Closed
    } else if is_local(current.last_version) {
        Suppress::Terminate
    } else {
        Suppress::Zombie
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(id: &str, open: bool, version: i64, clock: i64) -> RunFacts {
        RunFacts {
            run_id: id.into(),
            open,
            last_version: version.into(),
            last_clock: clock,
            first_version: version.into(),
            first_clock: clock,
            original: id.into(),
            ..RunFacts::default()
        }
    }

    /// Increment 10, this cluster's initial version 1.
    fn local(version: FailoverVersion) -> bool {
        version.get() % 10 == 1
    }

    #[test]
    fn the_higher_version_takes_the_place() {
        let old = run("old", true, 1, 5);
        for (target, current, expected) in [
            (run("new", true, 2, 1), None, Arbitration::Current),
            (old.clone(), Some(&old), Arbitration::Current),
            (
                run("new", true, 2, 1),
                Some(&old),
                Arbitration::Takes(Suppress::Terminate),
            ),
            (
                run("new", true, 11, 1),
                Some(&run("old", true, 2, 5)),
                Arbitration::Takes(Suppress::Zombie),
            ),
            (
                run("new", false, 11, 1),
                Some(&run("old", false, 2, 5)),
                Arbitration::Takes(Suppress::Closed),
            ),
            (
                run("new", true, 1, 6),
                Some(&run("old", false, 1, 5)),
                Arbitration::Takes(Suppress::Closed),
            ),
            (run("new", true, 1, 4), Some(&old), Arbitration::Beside),
        ] {
            assert_eq!(
                arbitrate(&target, current, local),
                expected,
                "{target:?} against {current:?}"
            );
        }
    }

    #[test]
    fn wall_clocks_do_not_order_runs_that_are_numbered() {
        let at = |run: RunFacts, millis| RunFacts {
            started: Timestamp::from_millis(millis),
            ..run
        };
        let (first, second) = (
            at(run("b", false, 1, 5), 9_000),
            at(run("a", true, 1, 6), 1_000),
        );
        assert!(second.wins_over(&first) && !first.wins_over(&second));
        // A peer that numbers nothing leaves only this.
        let (first, second) = (at(run("b", false, 1, 0), 1), at(run("a", true, 1, 0), 2));
        assert!(second.wins_over(&first) && !first.wins_over(&second));
    }

    #[test]
    fn a_run_that_ended_before_another_began_did_not_lose_to_it() {
        let first = run("first", false, 1, 5);
        assert!(first.precedes(&run("next", true, 1, 6)));
        // Begun by another cluster, which may not have known of it.
        assert!(!first.precedes(&run("other", true, 2, 6)));
        // Begun before it: on another branch than the one this run followed.
        assert!(!run("late", true, 1, 7).precedes(&run("other", true, 1, 6)));
        let continued = RunFacts {
            continues: "first".into(),
            ..run("next", true, 2, 1)
        };
        assert!(first.precedes(&continued));
        let reset = RunFacts {
            original: "first".into(),
            ..run("again", true, 2, 1)
        };
        assert!(first.precedes(&reset));
        let replaced = RunFacts {
            replaced_by: "once more".into(),
            ..reset.clone()
        };
        assert!(replaced.precedes(&run("once more", true, 11, 1)));
        // A reset on the side that lost.
        assert!(!reset.precedes(&run("first", true, 11, 1)));
    }
}
