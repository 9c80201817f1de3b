//! Which run of a workflow id is current when two clusters started or continued different ones. At most
//! one run of a workflow id is open and not a zombie; a zombie is kept and readable but never executed.

use proto_ids::{FailoverVersion, RunId, Timestamp};

/// What arbitration looks at in a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFacts {
    /// The run.
    pub run_id: RunId,
    /// Whether it is open.
    pub open: bool,
    /// Version of its last event.
    pub last_version: FailoverVersion,
    /// When it started, as its first event tells: the same in every cluster.
    pub started: Timestamp,
}

/// What becomes of a run that events arrived for, and of the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arbitration {
    /// It is the current run, or nobody is.
    Current,
    /// It takes the place of the current run.
    Takes(Suppress),
    /// It is kept beside the current run, as a zombie while it is open; what can be is delivered again to
    /// the current run.
    Beside,
}

/// What happens to the run that loses its place.
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
    /// Whether this run wins over another one of the same workflow id: the higher last version, then, within
    /// one cluster's line of runs, the later start. The run id makes the order total, equal everywhere.
    pub fn wins_over(&self, other: &Self) -> bool {
        (self.last_version, self.started, self.run_id.as_str())
            > (other.last_version, other.started, other.run_id.as_str())
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

    fn run(id: &str, open: bool, version: i64, started: i64) -> RunFacts {
        RunFacts {
            run_id: id.into(),
            open,
            last_version: version.into(),
            started: Timestamp::from_millis(started),
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
}
