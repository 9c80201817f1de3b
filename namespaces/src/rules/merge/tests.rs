use proptest::prelude::*;
use proto_messages::temporal::server::api::enums::v1::NamespaceOperation::{Create, Update};

use super::*;
use crate::{
    message,
    rules::{ReplicationChange, Update as Wanted, samples, update},
};

const STAMP: Stamp = Stamp {
    now: proto_ids::Timestamp::from_millis(9_000),
    notification_version: 7,
};

fn task(namespace: &Namespace, operation: NamespaceOperation) -> NamespaceTaskAttributes {
    message::attributes(namespace, operation)
}

fn receive(known: Option<&Namespace>, task: &NamespaceTaskAttributes) -> Merge {
    merge(
        &samples::topology("east"),
        Some(&"west".into()),
        known,
        known,
        task,
        STAMP,
    )
    .unwrap()
}

/// The part that two clusters must agree on.
fn shared(namespace: &Namespace) -> Namespace {
    Namespace {
        notification_version: 0,
        failover_notification_version: 0,
        handover: false,
        ..namespace.clone()
    }
}

#[test]
fn an_unknown_namespace_is_made_only_where_it_lives() {
    let source = samples::global("west");
    let Merge::Create(made) = receive(None, &task(&source, Create)) else {
        panic!()
    };
    assert_eq!(shared(&made), shared(&source));
    assert_eq!(made.notification_version, 7);
    // An update of a namespace that is not here makes it too.
    assert!(matches!(
        receive(None, &task(&source, Update)),
        Merge::Create(_)
    ));
    let elsewhere = Namespace {
        clusters: vec!["west".into(), "north".into()],
        ..source.clone()
    };
    assert_eq!(receive(None, &task(&elsewhere, Create)), Merge::Ignored);
    // A cluster that loses its copy learns of it.
    let Merge::Update(removed) = receive(
        Some(&made),
        &task(
            &Namespace {
                config_version: 1,
                ..elsewhere
            },
            Update,
        ),
    ) else {
        panic!()
    };
    assert!(!removed.lives_in(&"east".into()));
    assert_eq!(receive(Some(&made), &task(&source, Create)), Merge::Ignored);
}

#[test]
fn a_name_or_id_that_means_another_namespace_collides() {
    let source = samples::global("west");
    let task = task(&source, Create);
    let other_id = Namespace {
        id: "other".into(),
        ..source.clone()
    };
    let other_name = Namespace {
        name: "other".into(),
        ..source
    };
    for (by_id, by_name) in [(None, Some(&other_id)), (Some(&other_name), None)] {
        let refused = merge(
            &samples::topology("east"),
            Some(&"west".into()),
            by_id,
            by_name,
            &task,
            STAMP,
        )
        .unwrap_err();
        assert!(matches!(refused, Refusal::Collision { .. }));
    }
}

#[test]
fn a_message_without_its_parts_is_refused() {
    let whole = task(&samples::global("west"), Update);
    let broken = [
        NamespaceTaskAttributes {
            id: String::new(),
            ..whole.clone()
        },
        NamespaceTaskAttributes {
            info: None,
            ..whole.clone()
        },
        NamespaceTaskAttributes {
            config: None,
            ..whole.clone()
        },
        NamespaceTaskAttributes {
            replication_config: None,
            ..whole.clone()
        },
        NamespaceTaskAttributes {
            namespace_operation: 0,
            ..whole.clone()
        },
        task(
            &Namespace {
                state: 3,
                ..samples::global("west")
            },
            Update,
        ),
    ];
    for message in broken {
        let refused = merge(
            &samples::topology("east"),
            Some(&"west".into()),
            None,
            None,
            &message,
            STAMP,
        );
        assert!(matches!(refused, Err(Refusal::Invalid(_))), "{message:?}");
    }
}

#[test]
fn a_handover_elsewhere_is_not_one_here() {
    let held = Namespace {
        handover: true,
        config_version: 1,
        ..samples::global("west")
    };
    let Merge::Update(after) = receive(Some(&samples::global("west")), &task(&held, Update)) else {
        panic!()
    };
    assert!(!after.handover);
}

fn there(here: &str) -> &'static str {
    if here == "west" { "east" } else { "west" }
}

#[test]
fn a_peer_takes_over_neither_local_namespaces_nor_those_it_does_not_share() {
    let told = |known: Option<&Namespace>, source: &str, message: &NamespaceTaskAttributes| {
        let source = source.into();
        merge(
            &samples::topology("east"),
            Some(&source),
            known,
            known,
            message,
            STAMP,
        )
    };
    let newer = |namespace: Namespace| {
        let version = proto_ids::FailoverVersion::new(101);
        let namespace = Namespace {
            failover_version: version,
            config_version: 9,
            ..namespace
        };
        task(&namespace, Update)
    };
    let global = samples::global("west");
    // A cluster that shares it may change it; another connected cluster may not, nor a namespace of this one only.
    assert!(matches!(
        told(Some(&global), "west", &newer(global.clone())),
        Ok(Merge::Update(_))
    ));
    let stranger = told(Some(&global), "north", &newer(global.clone()));
    assert!(
        matches!(stranger, Err(Refusal::NotShared { .. })),
        "{stranger:?}"
    );
    let stranger = told(None, "north", &newer(global.clone()));
    assert!(
        matches!(stranger, Err(Refusal::NotShared { .. })),
        "{stranger:?}"
    );
    let local = told(Some(&samples::local()), "west", &newer(global.clone()));
    assert!(matches!(local, Err(Refusal::Precondition(_))), "{local:?}");
    // The server's own, by name or by id, known or not.
    for system in [
        Namespace {
            name: SYSTEM_NAMESPACE.into(),
            ..global.clone()
        },
        Namespace {
            id: SYSTEM_NAMESPACE_ID.into(),
            ..global.clone()
        },
    ] {
        for known in [None, Some(&system)] {
            let taken = told(known, "west", &newer(system.clone()));
            assert!(matches!(taken, Err(Refusal::Invalid(_))), "{taken:?}");
        }
    }
}

#[test]
fn versions_that_cannot_be_are_not_taken() {
    let global = samples::global("west");
    let with = |failover: i64, config: i64| {
        let message = NamespaceTaskAttributes {
            failover_version: failover,
            config_version: config,
            ..task(&global, Update)
        };
        merge(
            &samples::topology("east"),
            Some(&"west".into()),
            Some(&global),
            Some(&global),
            &message,
            STAMP,
        )
    };
    assert!(matches!(with(101, 1), Ok(Merge::Update(_))));
    for (failover, config) in [
        (i64::MAX, 1),
        (i64::MAX - 6, 1),
        (VERSION_MAX + 1, 1),
        (-1, 1),
        (i64::MIN, 1),
        (101, i64::MAX),
        (101, -1),
        // East's number with west told to be active.
        (102, 1),
    ] {
        let told = with(failover, config);
        assert!(
            matches!(told, Err(Refusal::Invalid(_))),
            "{failover} {config}: {told:?}"
        );
    }
}

proptest! {
    /// Whatever order the messages of one source come in, and however often, the copy ends as the source.
    #[test]
    fn any_order_ends_equal(
        steps in prop::collection::vec(0_u8..4, 1..12),
        shuffle in prop::collection::vec(any::<prop::sample::Index>(), 24),
    ) {
        let mut source = samples::global("west");
        let mut messages = vec![task(&source, Create)];
        for (i, step) in steps.iter().enumerate() {
            let to = |cluster: &str| ReplicationChange {
                active_cluster: cluster.into(), ..Default::default()
            };
            let wanted = match step {
                0 => Wanted { description: format!("step {i}"), ..Default::default() },
                1 => Wanted { replication: to("east"), ..Default::default() },
                2 => Wanted { replication: to("west"), ..Default::default() },
                _ => Wanted { data: [(format!("k{i}"), "v".into())].into(), ..Default::default() },
            };
            let stamp = Stamp { notification_version: i as i64, ..STAMP };
            if let Some(change) = update(&samples::topology("west"), &source, wanted, stamp).unwrap() {
                source = change.namespace;
                messages.push(task(&source, Update));
            }
        }
        let mut copy: Option<Namespace> = None;
        let twice: Vec<_> = messages.iter().chain(&messages).collect();
        let order = shuffle.iter().map(|i| i.get(&twice)).chain(&twice);
        for message in order {
            if let Merge::Create(n) | Merge::Update(n) = receive(copy.as_ref(), message) {
                copy = Some(n);
            }
        }
        prop_assert_eq!(shared(&copy.unwrap()), shared(&source));
    }

    /// Two sides that fail over at the same time, without hearing of each other, agree once they have: the
    /// higher version wins on both.
    #[test]
    fn failovers_that_cross_end_equal(
        at_west in prop::collection::vec(prop::bool::ANY, 0..6),
        at_east in prop::collection::vec(prop::bool::ANY, 0..6),
    ) {
        let start = samples::global("west");
        let run = |side: &str, moves: &[bool]| {
            moves.iter().fold(start.clone(), |namespace, to_east| {
                let to = if *to_east { "east" } else { "west" };
                let replication = ReplicationChange {
                    active_cluster: to.into(), ..Default::default()
                };
                let wanted = Wanted { replication, ..Default::default() };
                let changed = update(&samples::topology(side), &namespace, wanted, STAMP).unwrap();
                changed.map_or(namespace, |c| c.namespace)
            })
        };
        let (west, east) = (run("west", &at_west), run("east", &at_east));
        let told = |namespace: &Namespace, other: &Namespace, here: &str| {
            let message = task(other, Update);
            match merge(&samples::topology(here), Some(&there(here).into()), Some(namespace), Some(namespace), &message, STAMP).unwrap() {
                Merge::Update(n) => n,
                Merge::Ignored => namespace.clone(),
                Merge::Create(_) => unreachable!("it is known"),
            }
        };
        let (at_west, at_east) = (told(&west, &east, "west"), told(&east, &west, "east"));
        // Equal versions mean the same owner, though not the same way there.
        if west.failover_version != east.failover_version {
            prop_assert_eq!(shared(&at_west), shared(&at_east));
        }
        prop_assert_eq!(&at_west.active_cluster, &at_east.active_cluster);
        prop_assert_eq!(at_west.failover_version, at_east.failover_version);
    }
}
