//! Matching's backlog.

use proto_ids::{RangeId, TaskId};

use super::blob;
use crate::{
    Store,
    error::StoreError,
    task_queue::{BacklogAppend, BacklogTask, TaskQueueKey},
};

fn queue(name: &str, kind: i32) -> TaskQueueKey {
    TaskQueueKey {
        namespace_id: "ns".into(),
        name: name.to_owned(),
        kind,
    }
}

fn append(key: &TaskQueueKey, range: RangeId, ids: &[i64]) -> BacklogAppend {
    let task = |id: &i64| BacklogTask {
        task_id: TaskId::new(*id),
        data: blob(&format!("task {id}")),
    };
    BacklogAppend {
        key: key.clone(),
        range,
        tasks: ids.iter().map(task).collect(),
    }
}

async fn ids(store: &Store, key: &TaskQueueKey, after: i64, limit: usize) -> Vec<i64> {
    let tasks = store
        .task_queue
        .task_queue_read(key, TaskId::new(after), limit)
        .await
        .expect("read");
    tasks.into_iter().map(|task| task.task_id.get()).collect()
}

pub(super) async fn backlog(store: Store) {
    let (one, two) = (queue("q", 1), queue("q", 2));
    let first = store
        .task_queue
        .task_queue_acquire(&one)
        .await
        .expect("acquire");
    assert_eq!((first.range, first.ack), (RangeId::new(1), TaskId::new(0)));
    let other = store
        .task_queue
        .task_queue_acquire(&two)
        .await
        .expect("acquire");
    let appends = vec![
        append(&one, first.range, &[3, 1, 2]),
        append(&two, other.range, &[1]),
    ];
    store
        .task_queue
        .task_queue_append(appends)
        .await
        .expect("append");
    assert_eq!(ids(&store, &one, 0, 10).await, vec![1, 2, 3]);
    assert_eq!(ids(&store, &one, 1, 1).await, vec![2]);
    for (queue, after, wanted) in [(&one, 0, 3), (&one, 2, 1), (&one, 3, 0), (&two, 0, 1)] {
        let counted = store.task_queue.task_queue_count(queue, TaskId::new(after));
        assert_eq!(counted.await.expect("count"), wanted);
    }
    let tasks = store
        .task_queue
        .task_queue_read(&two, TaskId::new(0), 10)
        .await
        .expect("read");
    assert_eq!(tasks, append(&two, other.range, &[1]).tasks);
    store
        .task_queue
        .task_queue_ack(&one, first.range, TaskId::new(2))
        .await
        .expect("ack");
    store
        .task_queue
        .task_queue_ack(&one, first.range, TaskId::new(1))
        .await
        .expect("ack");
    assert_eq!(ids(&store, &one, 0, 10).await, vec![3]);
    assert_eq!(ids(&store, &two, 0, 10).await, vec![1]);
    let again = store
        .task_queue
        .task_queue_acquire(&one)
        .await
        .expect("acquire");
    assert_eq!(
        (again.range, again.ack),
        (RangeId::new(2), TaskId::new(2)),
        "an ack never falls"
    );
}

pub(super) async fn ranges_fence(store: Store) {
    let (one, two) = (queue("one", 1), queue("two", 1));
    let old = store
        .task_queue
        .task_queue_acquire(&one)
        .await
        .expect("acquire")
        .range;
    let new = store
        .task_queue
        .task_queue_acquire(&one)
        .await
        .expect("acquire")
        .range;
    let other = store
        .task_queue
        .task_queue_acquire(&two)
        .await
        .expect("acquire")
        .range;
    let appends = vec![append(&two, other, &[1]), append(&one, old, &[1])];
    match store.task_queue.task_queue_append(appends).await {
        Err(StoreError::Fenced(text)) => assert!(text.contains("one"), "{text}"),
        other => panic!("expected a fence, got {other:?}"),
    }
    assert!(
        ids(&store, &two, 0, 10).await.is_empty(),
        "an append is all or nothing"
    );
    let unknown = vec![append(&queue("never", 1), RangeId::new(1), &[1])];
    let outcome = store.task_queue.task_queue_append(unknown).await;
    assert!(matches!(outcome, Err(StoreError::Fenced(_))), "{outcome:?}");
    store
        .task_queue
        .task_queue_append(vec![append(&one, new, &[1])])
        .await
        .expect("append");
    let outcome = store
        .task_queue
        .task_queue_ack(&one, old, TaskId::new(1))
        .await;
    assert!(matches!(outcome, Err(StoreError::Fenced(_))), "{outcome:?}");
    assert_eq!(ids(&store, &one, 0, 10).await, vec![1]);
}
