//! Durable queues.

use super::blob;
use crate::{
    Store,
    queue::{Message, QueueInfo},
};

pub(super) async fn messages(store: Store) {
    let queues = &store.queue;
    for (queue, id) in [
        ("dlq/a", 1),
        ("dlq/a", 2),
        ("dlq/b", 1),
        ("dlq/a", 3),
        ("x%", 1),
    ] {
        assert_eq!(
            queues
                .queue_enqueue(queue, blob(queue))
                .await
                .expect("enqueue"),
            id
        );
    }
    let all = queues.queue_read("dlq/a", 0, 10).await.expect("read");
    let wanted = |id| Message {
        id,
        data: blob("dlq/a"),
    };
    assert_eq!(all, vec![wanted(1), wanted(2), wanted(3)]);
    assert_eq!(
        queues.queue_read("dlq/a", 1, 1).await.expect("read"),
        vec![wanted(2)]
    );
    assert!(
        queues
            .queue_read("none", 0, 1)
            .await
            .expect("read")
            .is_empty()
    );
    assert_eq!(queues.queue_delete("dlq/a", 2, 9).await.expect("delete"), 2);
    assert_eq!(queues.queue_delete("dlq/a", 2, 9).await.expect("delete"), 0);
    assert_eq!(queues.queue_delete("none", 1, 9).await.expect("delete"), 0);
    assert_eq!(queues.queue_last_id("dlq/a").await.expect("last"), 3);
    assert_eq!(queues.queue_last_id("none").await.expect("last"), 0);
    assert_eq!(
        queues
            .queue_enqueue("dlq/a", blob("new"))
            .await
            .expect("enqueue"),
        4,
        "ids are never reused"
    );
    let info = |name: &str, len, last_id| QueueInfo {
        name: name.to_owned(),
        len,
        last_id,
    };
    let listed = queues.queue_list("dlq/").await.expect("list");
    assert_eq!(listed, vec![info("dlq/a", 2, 4), info("dlq/b", 1, 1)]);
    assert_eq!(
        queues.queue_list("x%").await.expect("list"),
        vec![info("x%", 1, 1)]
    );
    assert!(
        queues.queue_list("%").await.expect("list").is_empty(),
        "a prefix is no pattern"
    );
    let many =
        futures::future::join_all((0..20).map(|_| queues.queue_enqueue("many", blob("m")))).await;
    let mut ids: Vec<i64> = many.into_iter().map(|id| id.expect("enqueue")).collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=20).collect::<Vec<i64>>());
}

pub(super) async fn acknowledgements(store: Store) {
    let queues = &store.queue;
    assert_eq!(queues.queue_ack_get("q", "east").await.expect("get"), None);
    for (id, wanted) in [(5, 5), (3, 5), (8, 8)] {
        queues.queue_ack_set("q", "east", id).await.expect("set");
        assert_eq!(
            queues.queue_ack_get("q", "east").await.expect("get"),
            Some(wanted)
        );
    }
    assert_eq!(queues.queue_ack_get("q", "west").await.expect("get"), None);
    assert_eq!(queues.queue_ack_get("p", "east").await.expect("get"), None);
}
