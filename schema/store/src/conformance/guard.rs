//! Guards: a batch is written only if every update finds what it expects.

use super::{SHARD, acquire, batch, creation, current, key, outbox, put, update};
use crate::{
    Store,
    error::CommitError,
    execution::{CommitBatch, CurrentExpected, CurrentWrite, Expected, Fence, RowWrite, RunUpdate},
};

async fn expect_conflict(store: &Store, batch: CommitBatch, wanted: &[(&str, &str)]) {
    match store.execution.commit(batch).await {
        Err(CommitError::Conflict(mut runs)) => {
            runs.sort();
            let wanted: Vec<_> = wanted
                .iter()
                .map(|(workflow, run)| key(workflow, run))
                .collect();
            assert_eq!(runs, wanted);
        }
        other => panic!("expected conflicts {wanted:?}, got {other:?}"),
    }
}

async fn commit(store: &Store, fence: Fence, updates: Vec<RunUpdate>) {
    let outcome = store.execution.commit(batch(fence, 1, updates)).await;
    outcome.expect("commit");
}

pub(super) async fn run_versions(store: Store) {
    let fence = acquire(&store, SHARD).await;
    let on = |expected, row| RunUpdate {
        expected,
        row,
        ..update(SHARD, key("w", "r"))
    };
    let wanted = [("w", "r")];
    let missing = [
        on(Expected::Version(1), put(2)),
        on(Expected::Version(1), RowWrite::Delete),
        on(Expected::Version(0), RowWrite::Keep),
    ];
    for update in missing {
        expect_conflict(&store, batch(fence, 1, vec![update]), &wanted).await;
    }
    commit(&store, fence, vec![on(Expected::Absent, put(1))]).await;
    let stale = [
        on(Expected::Absent, put(2)),
        on(Expected::Version(2), put(3)),
        on(Expected::Version(2), RowWrite::Keep),
    ];
    for update in stale {
        expect_conflict(&store, batch(fence, 1, vec![update]), &wanted).await;
    }
    commit(&store, fence, vec![on(Expected::Version(1), put(2))]).await;
    commit(
        &store,
        fence,
        vec![on(Expected::Version(2), RowWrite::Keep)],
    )
    .await;
    commit(&store, fence, vec![on(Expected::Any, put(9))]).await;
    let run = store
        .execution
        .run_load(SHARD, &key("w", "r"))
        .await
        .expect("load");
    assert_eq!(run.map(|run| run.version), Some(9));
    commit(
        &store,
        fence,
        vec![on(Expected::Version(9), RowWrite::Delete)],
    )
    .await;
    commit(&store, fence, vec![on(Expected::Any, RowWrite::Delete)]).await;
    let run = store
        .execution
        .run_load(SHARD, &key("w", "r"))
        .await
        .expect("load");
    assert_eq!(run, None);
}

pub(super) async fn current_pointers(store: Store) {
    let fence = acquire(&store, SHARD).await;
    let point = |expected, run: &str| RunUpdate {
        current: current(expected, run),
        ..update(SHARD, key("w", run))
    };
    let run = |run: &str| CurrentExpected::Run(run.into());
    expect_conflict(
        &store,
        batch(fence, 1, vec![point(run("a"), "b")]),
        &[("w", "b")],
    )
    .await;
    commit(&store, fence, vec![point(CurrentExpected::Absent, "a")]).await;
    let stale = [point(CurrentExpected::Absent, "b"), point(run("b"), "b")];
    for update in stale {
        expect_conflict(&store, batch(fence, 1, vec![update]), &[("w", "b")]).await;
    }
    commit(&store, fence, vec![point(run("a"), "b")]).await;
    let ids = (&"ns".into(), &"w".into());
    let stored = store
        .execution
        .current_load(SHARD, ids.0, ids.1)
        .await
        .expect("load");
    let wanted = current(CurrentExpected::Any, "b").and_then(|write| write.record);
    assert_eq!(stored, wanted);
    let remove = |expected| RunUpdate {
        current: Some(CurrentWrite {
            expected,
            record: None,
        }),
        ..update(SHARD, key("w", "b"))
    };
    expect_conflict(
        &store,
        batch(fence, 1, vec![remove(run("a"))]),
        &[("w", "b")],
    )
    .await;
    commit(&store, fence, vec![remove(run("b"))]).await;
    commit(&store, fence, vec![remove(CurrentExpected::Any)]).await;
    let stored = store
        .execution
        .current_load(SHARD, ids.0, ids.1)
        .await
        .expect("load");
    assert_eq!(stored, None);
}

/// Many lookups at once, some given up on the way: each of the others gets its own pointer.
pub(super) async fn lookups_at_once_get_their_own(store: Store) {
    let fence = acquire(&store, SHARD).await;
    let names: Vec<_> = (0..40)
        .map(|n| (format!("w{n}"), format!("r{n}")))
        .collect();
    let point = |(workflow, run): &(String, String)| RunUpdate {
        current: current(CurrentExpected::Absent, run),
        ..update(SHARD, key(workflow, run))
    };
    // Every second one has a pointer.
    let updates = names.iter().step_by(2).map(point).collect();
    commit(&store, fence, updates).await;
    let namespace = "ns".into();
    for round in 0..4 {
        let lookups = names.iter().enumerate().map(|(n, (workflow, run))| {
            let (store, namespace) = (&store, &namespace);
            async move {
                let workflow = workflow.as_str().into();
                let lookup = store.execution.current_load(SHARD, namespace, &workflow);
                if n % 4 == round {
                    // Looked at once and dropped.
                    let _ = futures::FutureExt::now_or_never(lookup);
                    return;
                }
                let found = lookup.await.expect("load").map(|current| current.run_id);
                assert_eq!(
                    found,
                    (n % 2 == 0).then(|| run.as_str().into()),
                    "{workflow}"
                );
            }
        });
        futures::future::join_all(lookups).await;
    }
}

/// Updates of one batch follow each other: a run may close and its successor start in one commit.
pub(super) async fn current_pointers_within_a_batch(store: Store) {
    let fence = acquire(&store, SHARD).await;
    let start = |expected, run: &str| RunUpdate {
        current: current(expected, run),
        ..creation(key("w", run))
    };
    let chain = vec![
        start(CurrentExpected::Absent, "a"),
        start(CurrentExpected::Run("a".into()), "b"),
        start(CurrentExpected::Run("b".into()), "c"),
    ];
    commit(&store, fence, chain).await;
    let ids = (&"ns".into(), &"w".into());
    let stored = store
        .execution
        .current_load(SHARD, ids.0, ids.1)
        .await
        .expect("load");
    assert_eq!(stored.map(|current| current.run_id), Some("c".into()));
    let twice = vec![
        RunUpdate {
            key: key("v", "a"),
            ..start(CurrentExpected::Absent, "a")
        },
        RunUpdate {
            key: key("v", "b"),
            ..start(CurrentExpected::Absent, "b")
        },
    ];
    expect_conflict(&store, batch(fence, 2, twice), &[("v", "b")]).await;
}

pub(super) async fn conflicts_are_named_and_nothing_is_written(store: Store) {
    let fence = acquire(&store, SHARD).await;
    commit(
        &store,
        fence,
        vec![creation(key("a", "r")), creation(key("b", "r"))],
    )
    .await;
    let mut good = creation(key("c", "r"));
    good.outbox.push(outbox(1, 2));
    good.current = current(CurrentExpected::Absent, "r");
    let stale = RunUpdate {
        expected: Expected::Version(5),
        row: put(6),
        ..update(SHARD, key("b", "r"))
    };
    let updates = vec![creation(key("a", "r")), good.clone(), stale];
    expect_conflict(&store, batch(fence, 2, updates), &[("a", "r"), ("b", "r")]).await;
    let run = store
        .execution
        .run_load(SHARD, &key("c", "r"))
        .await
        .expect("load");
    assert_eq!(run, None);
    let tasks = store
        .execution
        .outbox_read(SHARD, 0.into(), 10)
        .await
        .expect("outbox");
    assert!(tasks.is_empty());
    assert!(
        !store
            .execution
            .commit_happened("lane", 2)
            .await
            .expect("happened")
    );
    commit(&store, fence, vec![good]).await;
}

/// Batches of one owner that run at the same time see each other's writes.
pub(super) async fn one_of_many_wins(store: Store) {
    let fence = acquire(&store, SHARD).await;
    let commits = (0..8).map(|n| {
        let mut one = batch(fence, 1, vec![creation(key("w", "r"))]);
        one.lane = format!("lane {n}");
        store.execution.commit(one)
    });
    let outcomes = futures::future::join_all(commits).await;
    let won = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let lost = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Err(CommitError::Conflict(_))))
        .count();
    assert_eq!((won, lost), (1, 7), "{outcomes:?}");
}
