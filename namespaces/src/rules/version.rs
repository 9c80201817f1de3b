//! Arithmetic of failover versions: a version modulo the increment names the cluster that owns it.

use proto_ids::FailoverVersion;

/// Versions from other clusters are below this: counting on from one never reaches the end.
pub const VERSION_MAX: i64 = i64::MAX / 2;

/// The next version owned by the cluster whose initial version is `initial`, not below `current`. A
/// version the cluster already owns is kept. `None` when numbers end before.
pub fn next_version(
    initial: i64,
    increment: i64,
    current: FailoverVersion,
) -> Option<FailoverVersion> {
    let increment = increment.max(1);
    let floor = current.get().div_euclid(increment).checked_mul(increment)?;
    let next = floor.checked_add(initial)?;
    let next = match next < current.get() {
        true => next.checked_add(increment)?,
        false => next,
    };
    Some(FailoverVersion::new(next))
}

/// The initial version of the cluster that owns a version; a residue of zero stands for the increment.
pub fn initial_of(version: FailoverVersion, increment: i64) -> i64 {
    let increment = increment.max(1);
    match version.get().rem_euclid(increment) {
        0 => increment,
        residue => residue,
    }
}

/// Whether two versions belong to the same cluster.
pub fn same_cluster(a: FailoverVersion, b: FailoverVersion, increment: i64) -> bool {
    let increment = increment.max(1);
    a.get().rem_euclid(increment) == b.get().rem_euclid(increment)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn versions_as_operators_know_them() {
        let next = |initial, current| {
            next_version(initial, 100, FailoverVersion::new(current))
                .unwrap()
                .get()
        };
        assert_eq!(next(1, 0), 1);
        assert_eq!(next(2, 1), 2);
        assert_eq!(next(1, 2), 101);
        assert_eq!(next(1, 101), 101);
        assert_eq!(next(2, 101), 102);
        assert_eq!(next(1, 102), 201);
        // At the end of the numbers there is no next one; nothing wraps around.
        for current in [i64::MAX, i64::MAX - 1, i64::MAX - 99] {
            let current = FailoverVersion::new(current);
            if let Some(next) = next_version(99, 100, current) {
                assert!(next >= current);
            }
        }
        assert_eq!(next_version(1, 100, FailoverVersion::new(i64::MAX)), None);
        assert!(!same_cluster(
            FailoverVersion::new(i64::MAX),
            FailoverVersion::new(-1),
            100
        ));
    }

    proptest! {
        #[test]
        fn the_next_version_is_the_least_owned_one_not_below(
            increment in 2_i64..10_000, initial in 1_i64..10_000, current in 0_i64..1_000_000,
        ) {
            let initial = initial % (increment - 1) + 1;
            let next = next_version(initial, increment, FailoverVersion::new(current)).unwrap();
            prop_assert!(next.get() >= current);
            prop_assert!(next.get() - current < increment);
            prop_assert_eq!(initial_of(next, increment), initial);
            prop_assert_eq!(next_version(initial, increment, next), Some(next));
            prop_assert!(same_cluster(next, FailoverVersion::new(initial), increment));
        }
    }
}
