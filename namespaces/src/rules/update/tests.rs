use std::time::Duration;

use proto_ids::Timestamp;
use proto_messages::temporal::api::namespace::v1::BadBinaries;

use super::*;
use crate::rules::samples;

const STAMP: Stamp = Stamp {
    now: Timestamp::from_millis(5_000),
    notification_version: 42,
};

fn apply(before: &Namespace, wanted: Update) -> Change {
    update(&samples::topology("west"), before, wanted, STAMP)
        .unwrap()
        .unwrap()
}

fn refuse(before: &Namespace, wanted: Update) -> String {
    update(&samples::topology("west"), before, wanted, STAMP)
        .unwrap_err()
        .to_string()
}

fn to(cluster: &str) -> Update {
    Update {
        replication: ReplicationChange {
            active_cluster: cluster.into(),
            ..Default::default()
        },
        ..Default::default()
    }
}

fn hold(handover: bool) -> Update {
    Update {
        replication: ReplicationChange {
            handover: Some(handover),
            ..Default::default()
        },
        ..Default::default()
    }
}

fn described(text: &str) -> Update {
    Update {
        description: text.into(),
        ..Default::default()
    }
}

#[test]
fn failing_over_there_and_back() {
    let mut namespace = samples::global("west");
    for (i, cluster) in ["east", "west"].into_iter().cycle().take(12).enumerate() {
        let change = apply(&namespace, to(cluster));
        assert!(change.publish.is_some());
        let after = change.namespace;
        assert!(after.failover_version > namespace.failover_version);
        assert_eq!(
            samples::topology("west")
                .cluster_of(after.failover_version)
                .as_str(),
            cluster
        );
        assert_eq!(after.config_version, namespace.config_version);
        assert_eq!(after.failover_notification_version, 42);
        assert_eq!(after.failover_history.len(), (i + 1).min(10));
        assert_eq!(
            after.failover_history.last().unwrap().1,
            after.failover_version
        );
        namespace = after;
    }
    assert_eq!(namespace.failover_version.get(), 601);
    assert_eq!(namespace.failover_history[0].1.get(), 102);
}

#[test]
fn naming_the_active_cluster_keeps_the_version_and_ends_handover() {
    let held = apply(&samples::global("west"), hold(true)).namespace;
    assert!(held.handover);
    let after = apply(&held, to("west")).namespace;
    assert!(!after.handover);
    assert_eq!(after.failover_version.get(), 1);
    assert!(after.failover_history.is_empty());
    let over = apply(&held, to("east")).namespace;
    assert!(!over.handover);
    assert_eq!(over.failover_version.get(), 2);
}

#[test]
fn handover_has_conditions() {
    let global = samples::global("west");
    assert!(refuse(&samples::local(), hold(true)).contains("not a global namespace"));
    let alone = Namespace {
        clusters: vec!["west".into()],
        ..global.clone()
    };
    assert!(refuse(&alone, hold(true)).contains("two replicated clusters"));
    let old = Namespace {
        state: 2,
        ..global.clone()
    };
    assert!(refuse(&old, hold(true)).contains("registered"));
    let held = apply(&global, hold(true)).namespace;
    assert_eq!(held.config_version, global.config_version + 1);
    let deprecated = Update {
        state: NamespaceState::Deprecated,
        ..Default::default()
    };
    assert!(refuse(&held, deprecated).contains("replication state"));
    assert!(!apply(&held, hold(false)).namespace.handover);
}

#[test]
fn one_call_changes_settings_or_the_active_cluster() {
    let both = Update {
        description: "new".into(),
        ..to("east")
    };
    assert_eq!(
        refuse(&samples::global("west"), both),
        "Cannot set active cluster to current cluster when other parameters are set."
    );
    assert_eq!(
        refuse(&samples::global("west"), to("mars")),
        "Invalid cluster name: mars."
    );
    assert_eq!(
        refuse(&samples::local(), to("east")),
        "Invalid local namespace active cluster."
    );
}

#[test]
fn settings_are_merged_and_counted() {
    let before = Namespace {
        data: [
            ("a".to_owned(), "1".to_owned()),
            ("b".to_owned(), "1".to_owned()),
        ]
        .into(),
        ..samples::global("west")
    };
    let config = NamespaceConfig {
        workflow_execution_retention_ttl: Some(time::duration_to_proto(Duration::from_secs(
            172_800,
        ))),
        bad_binaries: Some(BadBinaries {
            binaries: [("x".to_owned(), Default::default())].into(),
        }),
        custom_search_attribute_aliases: [("Keyword01".to_owned(), "Region".to_owned())].into(),
        ..Default::default()
    };
    let wanted = Update {
        data: [("b".to_owned(), "2".to_owned())].into(),
        config: Some(config),
        ..described("new")
    };
    let after = apply(&before, wanted.clone()).namespace;
    assert_eq!(
        (after.data["a"].as_str(), after.data["b"].as_str()),
        ("1", "2")
    );
    assert_eq!(after.retention, Duration::from_secs(172_800));
    assert_eq!(after.config_version, before.config_version + 1);
    assert_eq!(after.failover_version, before.failover_version);
    assert_eq!(after.bad_binaries["x"].create_time.unwrap().seconds, 5);

    let mut other = wanted.config.unwrap();
    other.custom_search_attribute_aliases = [("Keyword01".to_owned(), "Zone".to_owned())].into();
    let taken = Update {
        config: Some(other),
        ..Default::default()
    };
    assert_eq!(
        refuse(&after, taken),
        "Custom search attribute field name already allocated."
    );

    let forget = |sum: &str| Update {
        delete_bad_binary: sum.into(),
        ..Default::default()
    };
    assert!(apply(&after, forget("x")).namespace.bad_binaries.is_empty());
    assert_eq!(
        refuse(&after, forget("y")),
        "Bad binary checksum y doesn't exists."
    );
    let nothing = update(&samples::topology("west"), &after, Update::default(), STAMP).unwrap();
    assert!(nothing.is_none());
}

#[test]
fn promotion_gives_the_first_version_and_clusters_come_after() {
    let promote = Update {
        promote: true,
        ..Default::default()
    };
    let change = apply(&samples::local(), promote);
    assert!(change.publish.is_none());
    let global = change.namespace;
    assert!(global.is_global);
    assert_eq!(global.failover_version.get(), 1);
    let spread = Update {
        replication: ReplicationChange {
            clusters: vec!["west".into(), "east".into()],
            ..Default::default()
        },
        ..Default::default()
    };
    let change = apply(&global, spread);
    assert!(change.publish.is_some());
    assert_eq!(change.namespace.config_version, global.config_version + 1);
    // The cluster that is removed is notified of it once more.
    let shrink = Update {
        replication: ReplicationChange {
            clusters: vec!["west".into()],
            ..Default::default()
        },
        ..Default::default()
    };
    let change = apply(&change.namespace, shrink);
    assert!(change.publish.is_some());
    assert!(apply(&change.namespace, described("x")).publish.is_none());
}

#[test]
fn states_only_go_down() {
    let of = |state| Update {
        state,
        ..Default::default()
    };
    let old = apply(&samples::local(), of(NamespaceState::Deprecated)).namespace;
    assert_eq!(
        refuse(&old, of(NamespaceState::Registered)),
        "Invalid namespace state update."
    );
    let gone = apply(&old, of(NamespaceState::Deleted)).namespace;
    assert!(gone.is_deleted());
    assert!(deprecate(&gone, true, STAMP).is_err());
    assert!(deprecate(&old, true, STAMP).unwrap().is_none());
    assert!(deprecate(&samples::global("west"), false, STAMP).is_err());
}

#[test]
fn a_hold_since_a_restore_ends_with_a_higher_version_only() {
    let mut restored = samples::global("west");
    restored.handover = true;
    restored.handover_until = Timestamp::MAX;
    assert!(refuse(&restored, hold(false)).contains("put back from a copy"));
    assert!(refuse(&restored, hold(true)).contains("put back from a copy"));
    let own = restored.active_cluster.clone();
    let before = restored.failover_version;
    let here = apply(&restored, to(own.as_str()));
    assert!(!here.namespace.handover && here.namespace.failover_version > before);
    assert_eq!(here.namespace.active_cluster, own);
    assert!(here.publish.is_some(), "the others hear of it");
    let other = if own.as_str() == "west" {
        "east"
    } else {
        "west"
    };
    let there = apply(&restored, to(other)).namespace;
    assert!(!there.handover && there.failover_version > before);
    assert_eq!(there.active_cluster.as_str(), other);
}
