//! Namespaces: one counter orders all writes; a message travels in the same transaction.

use super::blob;
use crate::{
    Store,
    error::StoreError,
    namespace::{NamespaceRecord, QueueMessage},
};

fn record(id: &str, name: &str) -> NamespaceRecord {
    NamespaceRecord {
        id: id.into(),
        name: name.into(),
        data: blob(name),
        notification_version: 0,
    }
}

fn message(text: &str) -> Option<QueueMessage> {
    Some(QueueMessage {
        queue: "replication".to_owned(),
        data: blob(text),
    })
}

pub(super) async fn counter_orders_writes(store: Store) {
    let namespaces = &store.namespace;
    let version = namespaces.namespace_version().await.expect("version");
    namespaces
        .namespace_create(record("1", "b"), version, message("one"))
        .await
        .expect("create");
    assert_eq!(
        namespaces.namespace_version().await.expect("version"),
        version + 1
    );
    let lost = namespaces
        .namespace_create(record("2", "a"), version, message("lost"))
        .await;
    assert!(matches!(lost, Err(StoreError::Conflict(_))), "{lost:?}");
    assert_eq!(
        namespaces.namespace_get(&"2".into()).await.expect("get"),
        None
    );
    namespaces
        .namespace_create(record("2", "a"), version + 1, None)
        .await
        .expect("create");
    let lost = namespaces
        .namespace_update(record("1", "b"), version + 1, message("lost"))
        .await;
    assert!(matches!(lost, Err(StoreError::Conflict(_))), "{lost:?}");
    let mut changed = record("1", "b");
    changed.data = blob("changed");
    namespaces
        .namespace_update(changed.clone(), version + 2, message("two"))
        .await
        .expect("update");
    changed.notification_version = version + 2;
    assert_eq!(
        namespaces.namespace_get(&"1".into()).await.expect("get"),
        Some(changed.clone())
    );
    assert_eq!(
        namespaces
            .namespace_get_by_name(&"b".into())
            .await
            .expect("get"),
        Some(changed.clone())
    );
    assert_eq!(
        namespaces
            .namespace_get_by_name(&"c".into())
            .await
            .expect("get"),
        None
    );
    let sent = store
        .queue
        .queue_read("replication", 0, 10)
        .await
        .expect("read");
    let sent: Vec<_> = sent
        .into_iter()
        .map(|message| (message.id, message.data))
        .collect();
    assert_eq!(
        sent,
        vec![(1, blob("one")), (2, blob("two"))],
        "a lost write sends nothing"
    );
    let all = namespaces.namespace_list(None, 10).await.expect("list");
    let names: Vec<_> = all.iter().map(|record| record.name.as_str()).collect();
    assert_eq!(names, vec!["a", "b"]);
    assert_eq!(
        namespaces
            .namespace_list(Some("a".into()), 10)
            .await
            .expect("list"),
        vec![changed]
    );
    assert_eq!(
        namespaces
            .namespace_list(None, 1)
            .await
            .expect("list")
            .len(),
        1
    );
}

pub(super) async fn names_and_ids_are_unique(store: Store) {
    let namespaces = &store.namespace;
    let version = namespaces.namespace_version().await.expect("version");
    namespaces
        .namespace_create(record("1", "a"), version, None)
        .await
        .expect("create");
    for (record, tells) in [(record("1", "b"), "id 1"), (record("2", "a"), "name a")] {
        match namespaces
            .namespace_create(record, version + 1, message("lost"))
            .await
        {
            Err(StoreError::Conflict(text)) => assert!(text.contains(tells), "{text}"),
            other => panic!("expected a conflict, got {other:?}"),
        }
    }
    let missing = namespaces
        .namespace_update(record("3", "c"), version + 1, None)
        .await;
    assert!(
        matches!(missing, Err(StoreError::NotFound(_))),
        "{missing:?}"
    );
    assert_eq!(
        namespaces.namespace_version().await.expect("version"),
        version + 1
    );
    namespaces
        .namespace_update(record("1", "z"), version + 1, None)
        .await
        .expect("rename");
    assert_eq!(
        namespaces
            .namespace_get_by_name(&"a".into())
            .await
            .expect("get"),
        None
    );
    namespaces
        .namespace_delete(&"1".into())
        .await
        .expect("delete");
    let after = namespaces.namespace_version().await.expect("version");
    assert_eq!(after, version + 3, "a delete is a write");
    namespaces
        .namespace_delete(&"1".into())
        .await
        .expect("delete again");
    assert_eq!(
        namespaces.namespace_version().await.expect("version"),
        after
    );
    namespaces
        .namespace_create(record("1", "a"), after, None)
        .await
        .expect("create again");
    assert!(store.queue.queue_list("").await.expect("list").is_empty());
}
