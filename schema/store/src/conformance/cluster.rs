//! Cluster directory and members.

use super::{at, blob};
use crate::{
    Store,
    cluster::{ClusterRecord, MemberRecord},
    error::StoreError,
};

fn record(name: &str, data: &str, version: i64) -> ClusterRecord {
    ClusterRecord {
        name: name.into(),
        data: blob(data),
        version,
    }
}

pub(super) async fn rows_are_compared_and_set(store: Store) {
    let clusters = &store.cluster;
    clusters
        .cluster_put(record("west", "1", 0))
        .await
        .expect("put");
    clusters
        .cluster_put(record("east", "1", 0))
        .await
        .expect("put");
    for version in [0, 2] {
        let lost = clusters.cluster_put(record("west", "x", version)).await;
        assert!(matches!(lost, Err(StoreError::Conflict(_))), "{lost:?}");
    }
    let missing = clusters.cluster_put(record("north", "x", 1)).await;
    assert!(
        matches!(missing, Err(StoreError::Conflict(_))),
        "{missing:?}"
    );
    clusters
        .cluster_put(record("west", "2", 1))
        .await
        .expect("put");
    let all = clusters.cluster_list().await.expect("list");
    assert_eq!(all, vec![record("east", "1", 1), record("west", "2", 2)]);
    clusters
        .cluster_delete(&"east".into())
        .await
        .expect("delete");
    clusters
        .cluster_delete(&"east".into())
        .await
        .expect("delete again");
    assert_eq!(clusters.cluster_list().await.expect("list").len(), 1);
}

pub(super) async fn members_expire(store: Store) {
    let member = |id: &str, seen| MemberRecord {
        id: id.to_owned(),
        data: blob(id),
        seen_at: at(seen),
    };
    for (id, seen) in [("a", 10), ("b", 20), ("a", 30), ("c", 20), ("d", 5)] {
        store
            .cluster
            .member_put(member(id, seen))
            .await
            .expect("put");
    }
    let mut seen = store.cluster.member_list(at(20)).await.expect("list");
    seen.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(
        seen,
        vec![member("a", 30), member("b", 20), member("c", 20)]
    );
    store.cluster.member_delete("b").await.expect("delete");
    store
        .cluster
        .member_delete("b")
        .await
        .expect("delete again");
    let left = store.cluster.member_list(at(0)).await.expect("list");
    assert_eq!(left.len(), 2, "those not seen were removed on the way");
}
