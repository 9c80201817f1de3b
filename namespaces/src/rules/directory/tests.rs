use super::*;

fn cluster(name: &str, initial: i64) -> ClusterInfo {
    ClusterInfo {
        name: name.into(),
        cluster_id: format!("id-{name}"),
        initial_failover_version: initial,
        failover_version_increment: 100,
        shard_count: 4,
        address: "127.0.0.1:7233".into(),
        connection_enabled: true,
        is_global_namespace_enabled: true,
        ..Default::default()
    }
}

fn topology() -> Topology {
    let clusters = [cluster("west", 1), cluster("east", 2)];
    Topology {
        current: "west".into(),
        clusters: clusters
            .into_iter()
            .map(|c| (c.name.clone(), Arc::new(c)))
            .collect(),
    }
}

#[test]
fn what_is_stored_wins_where_it_is_frozen() {
    let own = OwnCluster {
        name: "west".into(),
        initial_failover_version: 7,
        failover_version_increment: 10,
        shard_count: 16,
        address: "new:1".into(),
        ..Default::default()
    };
    let (first, overruled) = boot(None, &own, || "made".into());
    assert_eq!((first.cluster_id.as_str(), first.shard_count), ("made", 16));
    assert!(overruled.is_empty());

    let (again, overruled) = boot(Some(&cluster("west", 1)), &own, || unreachable!());
    assert_eq!(again.cluster_id, "id-west");
    assert_eq!((again.shard_count, again.initial_failover_version), (4, 1));
    assert_eq!(
        (again.failover_version_increment, again.address.as_str()),
        (100, "new:1")
    );
    assert!(again.is_global_namespace_enabled);
    assert_eq!(overruled.len(), 3);

    // Before global namespaces are on, versions still follow the configuration.
    let stored = ClusterInfo {
        is_global_namespace_enabled: false,
        ..cluster("west", 1)
    };
    let (changed, _) = boot(Some(&stored), &own, || unreachable!());
    assert_eq!(changed.initial_failover_version, 7);
}

#[test]
fn a_remote_has_to_agree() {
    let topology = topology();
    let text = |remote: ClusterInfo| check_remote(&topology, &remote).unwrap_err().to_string();
    assert!(check_remote(&topology, &cluster("north", 3)).is_ok());
    assert!(
        check_remote(
            &topology,
            &ClusterInfo {
                shard_count: 8,
                ..cluster("east", 2)
            }
        )
        .is_ok()
    );
    assert!(text(cluster("west", 1)).contains("current cluster"));
    assert!(text(cluster("north", 2)).contains("initial failover version"));
    assert!(text(cluster("north", 0)).contains("initial failover version 0"));
    assert!(
        text(ClusterInfo {
            shard_count: 6,
            ..cluster("north", 3)
        })
        .contains("multiples")
    );
    assert!(
        text(ClusterInfo {
            shard_count: 0,
            ..cluster("north", 3)
        })
        .contains("shard number")
    );
    assert!(
        text(ClusterInfo {
            failover_version_increment: 10,
            ..cluster("north", 3)
        })
        .contains("increment")
    );
    assert!(
        text(ClusterInfo {
            is_global_namespace_enabled: false,
            ..cluster("north", 3)
        })
        .contains("global namespace")
    );
    assert!(
        text(ClusterInfo {
            address: String::new(),
            ..cluster("north", 3)
        })
        .contains("no address")
    );
}

#[test]
fn a_cluster_with_shared_namespaces_is_kept() {
    let topology = topology();
    let shared = Namespace {
        name: "orders".into(),
        state: 1,
        is_global: true,
        clusters: vec!["west".into(), "east".into()],
        ..Default::default()
    };
    let refused = check_removal(&topology, &"east".into(), [&shared]).unwrap_err();
    assert!(refused.to_string().contains("orders"));
    let orphan = Namespace {
        clusters: vec!["east".into(), "north".into()],
        ..shared.clone()
    };
    assert!(check_removal(&topology, &"east".into(), [&orphan]).is_ok());
    let deleted = Namespace { state: 3, ..shared };
    assert!(check_removal(&topology, &"east".into(), [&deleted]).is_ok());
}

#[test]
fn versions_name_their_cluster() {
    let topology = topology();
    let of = |v| topology.cluster_of(FailoverVersion::new(v)).to_string();
    assert_eq!((of(1), of(202)), ("west".into(), "east".into()));
    assert_eq!(
        (of(0), of(103)),
        ("unknown-cluster-0".into(), "unknown-cluster-3".into())
    );
}

#[test]
fn a_database_of_another_cluster_is_refused_with_the_way_out() {
    let (west, wset) = ("west".into(), "wset".into());
    let as_cluster = |name: &str| Topology {
        current: name.into(),
        ..topology()
    };
    assert!(check_owner(&topology(), &[&west]).is_ok());
    // Written by a version that did not note the owner.
    assert!(check_owner(&topology(), &[]).is_ok());
    assert!(
        check_owner(
            &Topology {
                current: wset,
                ..Default::default()
            },
            &[]
        )
        .is_ok()
    );
    for (current, owners) in [
        ("wset", vec![&west]),
        ("wset", vec![]),
        ("east", vec![&west]),
    ] {
        let told = check_owner(&as_cluster(current), &owners)
            .unwrap_err()
            .to_string();
        for part in [
            "belongs to cluster",
            "`west`",
            current,
            "Nothing was written",
            "meridian schema adopt",
        ] {
            assert!(told.contains(part), "{told}");
        }
    }
}

#[test]
fn a_peer_that_claims_absurd_numbers_of_shards_is_refused() {
    for shard_count in [SHARDS_MAX + 4, 100_000, i32::MAX - 3] {
        let remote = ClusterInfo {
            shard_count,
            ..cluster("north", 3)
        };
        let told = check_remote(&topology(), &remote).unwrap_err().to_string();
        assert!(told.contains("the most that there can be"), "{told}");
    }
    let most = ClusterInfo {
        shard_count: SHARDS_MAX,
        ..cluster("north", 3)
    };
    check_remote(&topology(), &most).unwrap();
}

#[test]
fn a_cluster_is_a_stranger_to_the_namespaces_that_it_does_not_share() {
    let shared = Namespace {
        is_global: true,
        clusters: vec!["west".into(), "east".into()],
        ..Default::default()
    };
    let local = Namespace {
        clusters: vec!["west".into(), "east".into()],
        ..Default::default()
    };
    let mut topology = topology();
    let north = Arc::new(cluster("north", 3));
    topology.clusters.insert(north.name.clone(), north);
    let stranger = |names: &[&str], namespace: &Namespace| {
        let found = topology.stranger_to(namespace, |c| names.contains(&c));
        found.map(|c| c.to_string())
    };
    for names in [&["west"][..], &["east"], &["north", "east"], &["app"], &[]] {
        assert_eq!(stranger(names, &shared), None, "{names:?}");
    }
    assert_eq!(stranger(&["north"], &shared).as_deref(), Some("north"));
    assert_eq!(stranger(&["east"], &local).as_deref(), Some("east"));
    assert_eq!(stranger(&["west"], &local), None);
}
