//! Fences: an old owner can never commit.

use proto_ids::{RangeId, ShardId};

use super::{SHARD, acquire, at, batch, creation, key, old, update};
use crate::{Store, error::CommitError, execution::Fence};

pub(super) async fn ranges_rise(store: Store) {
    assert_eq!(store.shard.shard_get(SHARD).await.expect("get"), None);
    let first = store
        .shard
        .shard_acquire(SHARD, "a", at(10))
        .await
        .expect("acquire");
    assert_eq!((first.range, first.owner.as_str()), (RangeId::new(1), "a"));
    assert!(first.state.is_empty());
    let second = store
        .shard
        .shard_acquire(SHARD, "b", at(20))
        .await
        .expect("acquire");
    assert_eq!(
        (second.range, second.acquired_at),
        (RangeId::new(2), at(20))
    );
    assert_eq!(
        store.shard.shard_get(SHARD).await.expect("get"),
        Some(second)
    );
}

pub(super) async fn an_old_owner_never_commits(store: Store) {
    let first = acquire(&store, SHARD).await;
    let other = acquire(&store, ShardId::new(2)).await;
    let second = acquire(&store, SHARD).await;
    let mut late = batch(first, 1, vec![creation(key("w", "r"))]);
    late.fences.push(other);
    late.updates.push(update(ShardId::new(2), key("x", "r")));
    match store.execution.commit(late.clone()).await {
        Err(CommitError::Fenced(shards)) => assert_eq!(shards, vec![SHARD]),
        other => panic!("expected a fence, got {other:?}"),
    }
    let unknown = Fence {
        shard: ShardId::new(9),
        range: RangeId::new(1),
    };
    late.fences = vec![old(first), other, unknown];
    match store.execution.commit(late).await {
        Err(CommitError::Fenced(mut shards)) => {
            shards.sort();
            assert_eq!(shards, vec![SHARD, ShardId::new(9)]);
        }
        other => panic!("expected fences, got {other:?}"),
    }
    let run = store
        .execution
        .run_load(SHARD, &key("w", "r"))
        .await
        .expect("load");
    assert_eq!(run, None, "nothing of a fenced batch is written");
    let now = batch(second, 1, vec![creation(key("w", "r"))]);
    store
        .execution
        .commit(now)
        .await
        .expect("the new owner commits");
}

/// Commits of the old owner race with an acquisition: each that succeeded is visible once the acquisition has
/// returned, and none succeeds afterwards.
pub(super) async fn an_acquisition_splits_the_writers(store: Store) {
    let fence = acquire(&store, SHARD).await;
    let commits = (0..16).map(|n| {
        let execution = store.execution.clone();
        async move {
            let mut one = batch(fence, 1, vec![creation(key(&format!("w{n}"), "r"))]);
            one.lane = format!("lane {n}");
            (n, execution.commit(one).await)
        }
    });
    let taken = async {
        acquire(&store, SHARD).await;
        store
            .execution
            .run_list(SHARD, None, 100)
            .await
            .expect("list")
    };
    let (done, seen) = futures::join!(futures::future::join_all(commits), taken);
    for (n, outcome) in done {
        let is_seen = seen.contains(&key(&format!("w{n}"), "r"));
        match outcome {
            Ok(()) => assert!(
                is_seen,
                "commit {n} succeeded after the acquisition had returned"
            ),
            Err(CommitError::Fenced(_)) => {
                assert!(!is_seen, "commit {n} is written although it was fenced")
            }
            Err(error) => panic!("commit {n}: {error}"),
        }
    }
    let now = store
        .execution
        .run_list(SHARD, None, 100)
        .await
        .expect("list");
    assert_eq!(now, seen);
}
