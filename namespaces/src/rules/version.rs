//! Arithmetic of failover versions: a version modulo the increment names the cluster that owns it.

use proto_ids::FailoverVersion;

/// The next version owned by the cluster whose initial version is `initial`, not below `current`. A
/// version the cluster already owns is kept.
pub fn next_version(initial: i64, increment: i64, current: FailoverVersion) -> FailoverVersion {
    let increment = increment.max(1);
    let floor = current.get().div_euclid(increment) * increment;
    let next = floor + initial;
    FailoverVersion::new(if next < current.get() {
        next + increment
    } else {
        next
    })
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
    (a.get() - b.get()) % increment.max(1) == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn versions_as_operators_know_them() {
        let next =
            |initial, current| next_version(initial, 100, FailoverVersion::new(current)).get();
        assert_eq!(next(1, 0), 1);
        assert_eq!(next(2, 1), 2);
        assert_eq!(next(1, 2), 101);
        assert_eq!(next(1, 101), 101);
        assert_eq!(next(2, 101), 102);
        assert_eq!(next(1, 102), 201);
    }

    proptest! {
        #[test]
        fn the_next_version_is_the_least_owned_one_not_below(
            increment in 2_i64..10_000, initial in 1_i64..10_000, current in 0_i64..1_000_000,
        ) {
            let initial = initial % (increment - 1) + 1;
            let next = next_version(initial, increment, FailoverVersion::new(current));
            prop_assert!(next.get() >= current);
            prop_assert!(next.get() - current < increment);
            prop_assert_eq!(initial_of(next, increment), initial);
            prop_assert_eq!(next_version(initial, increment, next), next);
            prop_assert!(same_cluster(next, FailoverVersion::new(initial), increment));
        }
    }
}
