//! Commit batches: everything in them is written at once, and can be read, trimmed and settled.

use bytes::Bytes;
use proto_ids::{NamespaceId, RunKey, ShardId, TaskId};

use super::{SHARD, acquire, at, batch, blob, creation, current, key, outbox, put, update};
use crate::{
    Store,
    error::CommitError,
    execution::{
        BranchRecord, CurrentExpected, Expected, HistoryNode, ItemRowKey, ItemWrite, RowWrite,
        RunUpdate, ShardProgress, TimerRow,
    },
};

fn item(kind: i16, id: &str, value: Option<&str>) -> ItemWrite {
    ItemWrite {
        key: item_key(kind, id),
        value: value.map(blob),
    }
}

fn item_key(kind: i16, id: &str) -> ItemRowKey {
    ItemRowKey {
        kind,
        id: id.to_owned(),
    }
}

fn timer(millis: i64, id: i64) -> TimerRow {
    TimerRow {
        fire_at: at(millis),
        task_id: TaskId::new(id),
        data: blob(&format!("timer {id}")),
    }
}

pub(super) async fn everything_is_written_and_read(store: Store) {
    let one = acquire(&store, SHARD).await;
    let two = acquire(&store, ShardId::new(2)).await;
    let mut full = creation(key("w", "r"));
    full.items = vec![item(2, "b", Some("two")), item(1, "a", Some("one"))];
    full.current = current(CurrentExpected::Absent, "r");
    full.outbox = vec![outbox(1, 3)];
    full.timers = vec![timer(100, 3)];
    let branch = BranchRecord {
        shard: SHARD,
        tree_id: "tree".to_owned(),
        branch_id: "branch".to_owned(),
        ancestors: vec![("old".to_owned(), 1, 5)],
    };
    full.branches = vec![branch.clone()];
    full.history = vec![HistoryNode {
        tree_id: "tree".to_owned(),
        branch_id: "branch".to_owned(),
        node_id: 5,
        next_node_id: 8,
        data: blob("events"),
    }];
    let mut all = batch(one, 1, vec![full]);
    all.fences.push(two);
    all.updates.push(RunUpdate {
        shard: ShardId::new(2),
        ..creation(key("w", "r"))
    });
    all.progress.push(ShardProgress {
        shard: ShardId::new(2),
        state: blob("queues"),
        trim_outbox: None,
        trim_timers: None,
    });
    store.execution.commit(all).await.expect("commit");
    let run = store
        .execution
        .run_load(SHARD, &key("w", "r"))
        .await
        .expect("load")
        .expect("run");
    assert_eq!(
        (run.version, run.hot, run.start),
        (1, blob("hot 1"), blob("start"))
    );
    let items = vec![
        (item_key(1, "a"), blob("one")),
        (item_key(2, "b"), blob("two")),
    ];
    assert_eq!(run.items, items, "items come in key order");
    let other = store
        .execution
        .run_load(ShardId::new(2), &key("w", "r"))
        .await
        .expect("load");
    assert_eq!(
        other.map(|run| run.items.len()),
        Some(0),
        "shards do not share rows"
    );
    assert_eq!(
        store
            .execution
            .outbox_read(SHARD, TaskId::new(0), 10)
            .await
            .expect("outbox"),
        vec![outbox(1, 3)]
    );
    let timers = store
        .execution
        .timer_read(SHARD, (at(0), TaskId::new(0)), at(100), 10)
        .await;
    assert_eq!(timers.expect("timers"), vec![timer(100, 3)]);
    assert_eq!(
        store
            .history
            .history_branches(SHARD, "tree")
            .await
            .expect("branches"),
        vec![branch]
    );
    let shard = store
        .shard
        .shard_get(ShardId::new(2))
        .await
        .expect("get")
        .expect("shard");
    assert_eq!(
        (shard.state, shard.range, shard.owner.as_str()),
        (blob("queues"), two.range, "me")
    );
    let again = store
        .shard
        .shard_acquire(ShardId::new(2), "you", at(9))
        .await
        .expect("acquire");
    assert_eq!(
        again.state,
        blob("queues"),
        "an acquisition keeps the queue state"
    );
}

pub(super) async fn items_change_one_by_one_or_all(store: Store) {
    let fence = acquire(&store, SHARD).await;
    let mut first = creation(key("w", "r"));
    first.items = vec![
        item(1, "a", Some("1")),
        item(1, "b", Some("1")),
        item(2, "a", Some("1")),
    ];
    let neighbour = RunUpdate {
        items: first.items.clone(),
        ..creation(key("w", "s"))
    };
    store
        .execution
        .commit(batch(fence, 1, vec![first, neighbour]))
        .await
        .expect("commit");
    let change = |expected, version, items, items_replaced| RunUpdate {
        expected: Expected::Version(expected),
        row: put(version),
        items,
        items_replaced,
        ..update(SHARD, key("w", "r"))
    };
    let items = async || {
        let run = store
            .execution
            .run_load(SHARD, &key("w", "r"))
            .await
            .expect("load")
            .expect("run");
        let show = |(key, value): (ItemRowKey, Bytes)| {
            format!("{}{}={}", key.kind, key.id, value[0] as char)
        };
        run.items
            .into_iter()
            .map(show)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let some = vec![
        item(1, "a", None),
        item(1, "b", Some("2")),
        item(3, "c", Some("2")),
        item(9, "x", None),
    ];
    store
        .execution
        .commit(batch(fence, 2, vec![change(1, 2, some, false)]))
        .await
        .expect("commit");
    assert_eq!(items().await, "1b=2 2a=1 3c=2");
    let kept = RunUpdate {
        expected: Expected::Version(2),
        items: vec![item(3, "c", Some("3"))],
        ..update(SHARD, key("w", "r"))
    };
    store
        .execution
        .commit(batch(fence, 3, vec![kept]))
        .await
        .expect("commit");
    assert_eq!(items().await, "1b=2 2a=1 3c=3");
    let all = vec![item(1, "b", Some("4"))];
    store
        .execution
        .commit(batch(fence, 4, vec![change(2, 3, all, true)]))
        .await
        .expect("commit");
    assert_eq!(items().await, "1b=4");
    let gone = RunUpdate {
        expected: Expected::Version(3),
        row: RowWrite::Delete,
        ..update(SHARD, key("w", "r"))
    };
    store
        .execution
        .commit(batch(fence, 5, vec![gone]))
        .await
        .expect("commit");
    store
        .execution
        .commit(batch(fence, 6, vec![creation(key("w", "r"))]))
        .await
        .expect("commit");
    assert_eq!(items().await, "", "a deleted run takes its items along");
    let other = store
        .execution
        .run_load(SHARD, &key("w", "s"))
        .await
        .expect("load")
        .expect("run");
    assert_eq!(other.items.len(), 3, "other runs are untouched");
}

pub(super) async fn parts_are_kept(store: Store) {
    let fence = acquire(&store, SHARD).await;
    store
        .execution
        .commit(batch(fence, 1, vec![creation(key("w", "r"))]))
        .await
        .expect("commit");
    let hot_only = RunUpdate {
        expected: Expected::Version(1),
        row: RowWrite::Put {
            version: 2,
            hot: Bytes::new(),
            start: None,
        },
        ..update(SHARD, key("w", "r"))
    };
    store
        .execution
        .commit(batch(fence, 2, vec![hot_only]))
        .await
        .expect("commit");
    let run = store
        .execution
        .run_load(SHARD, &key("w", "r"))
        .await
        .expect("load")
        .expect("run");
    assert_eq!(
        (run.version, run.hot, run.start),
        (2, Bytes::new(), blob("start"))
    );
}

pub(super) async fn bad_batches_are_refused(store: Store) {
    let fence = acquire(&store, SHARD).await;
    acquire(&store, ShardId::new(2)).await;
    let unfenced = RunUpdate {
        shard: ShardId::new(2),
        ..creation(key("w", "r"))
    };
    let orphans = RunUpdate {
        items: vec![item(1, "a", Some("1"))],
        ..update(SHARD, key("w", "r"))
    };
    let twice = vec![creation(key("w", "r")), creation(key("w", "r"))];
    for updates in [vec![unfenced], vec![orphans], twice] {
        let outcome = store.execution.commit(batch(fence, 1, updates)).await;
        assert!(
            matches!(outcome, Err(CommitError::Refused(_))),
            "{outcome:?}"
        );
    }
    store
        .execution
        .commit(batch(fence, 1, Vec::new()))
        .await
        .expect("an empty batch commits");
}

pub(super) async fn outcomes_can_be_asked(store: Store) {
    let fence = acquire(&store, SHARD).await;
    let happened = async |lane: &str, seq| {
        store
            .execution
            .commit_happened(lane, seq)
            .await
            .expect("happened")
    };
    assert!(!happened("lane", 1).await);
    store
        .execution
        .commit(batch(fence, 1, Vec::new()))
        .await
        .expect("commit");
    assert!(happened("lane", 1).await && !happened("lane", 2).await && !happened("other", 1).await);
    for seq in 3..40 {
        store
            .execution
            .commit(batch(fence, seq, Vec::new()))
            .await
            .expect("commit");
    }
    assert!(happened("lane", 39).await && happened("lane", 38).await);
    assert!(!happened("lane", 2).await && !happened("lane", 40).await);
}

pub(super) async fn outbox_and_timers_are_read_and_trimmed(store: Store) {
    let fence = acquire(&store, SHARD).await;
    let other = acquire(&store, ShardId::new(2)).await;
    let mut filled = creation(key("w", "r"));
    filled.outbox = vec![outbox(1, 3), outbox(4, 4), outbox(5, 9)];
    filled.timers = vec![timer(300, 1), timer(100, 2), timer(100, 3), timer(200, 4)];
    let mut elsewhere = update(ShardId::new(2), key("w", "r"));
    elsewhere.outbox = vec![outbox(1, 1)];
    elsewhere.timers = vec![timer(1, 1)];
    let mut first = batch(fence, 1, vec![filled, elsewhere]);
    first.fences.push(other);
    store.execution.commit(first).await.expect("commit");
    let tasks = async |after: i64, limit| {
        let rows = store
            .execution
            .outbox_read(SHARD, TaskId::new(after), limit)
            .await
            .expect("outbox");
        rows.into_iter()
            .map(|row| row.last_task_id.get())
            .collect::<Vec<_>>()
    };
    let timers = async |after: (i64, i64), until, limit| {
        let after = (at(after.0), TaskId::new(after.1));
        let rows = store
            .execution
            .timer_read(SHARD, after, at(until), limit)
            .await
            .expect("timers");
        rows.into_iter()
            .map(|row| row.task_id.get())
            .collect::<Vec<_>>()
    };
    assert_eq!(tasks(0, 2).await, vec![3, 4]);
    assert_eq!(tasks(3, 9).await, vec![4, 9]);
    assert_eq!(timers((0, 0), 300, 9).await, vec![2, 3, 4, 1]);
    assert_eq!(timers((100, 2), 200, 9).await, vec![3, 4]);
    assert_eq!(timers((100, 2), 200, 1).await, vec![3]);
    assert_eq!(timers((200, 4), 200, 9).await, Vec::<i64>::new());
    assert_eq!(timers((300, 4), 200, 9).await, Vec::<i64>::new());
    let mut trim = batch(fence, 2, Vec::new());
    trim.progress.push(ShardProgress {
        shard: SHARD,
        state: blob("acked"),
        trim_outbox: Some(TaskId::new(4)),
        trim_timers: Some((at(100), TaskId::new(2))),
    });
    store.execution.commit(trim).await.expect("commit");
    assert_eq!(tasks(0, 9).await, vec![9]);
    assert_eq!(timers((0, 0), 300, 9).await, vec![3, 4, 1]);
    let untouched = store
        .execution
        .outbox_read(ShardId::new(2), TaskId::new(0), 9)
        .await
        .expect("outbox");
    assert_eq!(untouched, vec![outbox(1, 1)], "a trim stays in its shard");
    let untouched = store
        .execution
        .timer_read(ShardId::new(2), (at(0), TaskId::new(0)), at(9), 9)
        .await;
    assert_eq!(untouched.expect("timers"), vec![timer(1, 1)]);
}

pub(super) async fn runs_are_listed_once_each(store: Store) {
    let fence = acquire(&store, SHARD).await;
    let mut keys = vec![
        key("b", "1"),
        key("a", "2"),
        key("a", "1"),
        key("B", "1"),
        key("a b", "1"),
    ];
    keys.push(RunKey::new("other", "a", "1"));
    let updates = keys.iter().cloned().map(creation).collect();
    store
        .execution
        .commit(batch(fence, 1, updates))
        .await
        .expect("commit");
    let all = store
        .execution
        .run_list(SHARD, None, 100)
        .await
        .expect("list");
    for page_size in 1..4 {
        let mut seen: Vec<RunKey> = Vec::new();
        loop {
            let after = seen.last().cloned();
            let page = store
                .execution
                .run_list(SHARD, after, page_size)
                .await
                .expect("list");
            if page.is_empty() {
                break;
            }
            assert!(page.len() <= page_size);
            seen.extend(page);
        }
        assert_eq!(seen, all, "pages of {page_size}");
    }
    let mut sorted = all;
    sorted.sort();
    keys.sort();
    assert_eq!(sorted, keys);
    let none = store
        .execution
        .run_list(ShardId::new(2), None, 100)
        .await
        .expect("list");
    assert!(none.is_empty());
}

pub(super) async fn odd_texts_and_bytes_come_back(store: Store) {
    let fence = acquire(&store, SHARD).await;
    let odd = "it's \"odd\" \\ {a,b} [1] NULL \t\r\n\u{1} \u{7f} é 漢 🦀 %_";
    let namespace = NamespaceId::new("ns");
    let every_byte: Bytes = (0..=255u8).cycle().take(100_000).collect();
    let mut update = creation(key(odd, odd));
    update.items = vec![ItemWrite {
        key: item_key(i16::MIN, odd),
        value: Some(every_byte.clone()),
    }];
    update.current = current(CurrentExpected::Absent, odd);
    update.outbox = vec![outbox(i64::MAX - 1, i64::MAX)];
    let mut odd_batch = batch(fence, i64::MAX, vec![update]);
    odd_batch.lane = odd.to_owned();
    store.execution.commit(odd_batch).await.expect("commit");
    let run = store
        .execution
        .run_load(SHARD, &key(odd, odd))
        .await
        .expect("load")
        .expect("run");
    assert_eq!(run.items, vec![(item_key(i16::MIN, odd), every_byte)]);
    let pointer = store
        .execution
        .current_load(SHARD, &namespace, &odd.into())
        .await
        .expect("load");
    assert_eq!(
        pointer.map(|pointer| pointer.request_id),
        Some(format!("request of {odd}"))
    );
    assert!(
        store
            .execution
            .commit_happened(odd, i64::MAX)
            .await
            .expect("happened")
    );
    let tasks = store
        .execution
        .outbox_read(SHARD, TaskId::new(0), 9)
        .await
        .expect("outbox");
    assert_eq!(tasks, vec![outbox(i64::MAX - 1, i64::MAX)]);
}
