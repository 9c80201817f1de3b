//! History: branches share nodes, reads go both ways, deletes keep what others read.

use super::{SHARD, acquire, batch, blob, key, update};
use crate::{
    Store,
    execution::{BranchRecord, HistoryNode},
    history::{Direction, HistoryRange},
};

fn branch(id: &str, ancestors: &[(&str, i64, i64)]) -> BranchRecord {
    BranchRecord {
        shard: SHARD,
        tree_id: "tree".to_owned(),
        branch_id: id.to_owned(),
        ancestors: ancestors
            .iter()
            .map(|(id, begin, end)| (id.to_string(), *begin, *end))
            .collect(),
    }
}

/// ```text
/// a: 1-3 3-5 5-9 9-12
/// b:        \ 5-7 7-10        forks from a at 5
/// c:             \ 7-8 8-20   forks from b at 7
/// d:      \ 4-6               forks from a at 4, inside a's second node
/// ```
fn tree() -> Vec<(BranchRecord, Vec<(i64, i64)>)> {
    vec![
        (branch("a", &[]), vec![(1, 3), (3, 5), (5, 9), (9, 12)]),
        (branch("b", &[("a", 1, 5)]), vec![(5, 7), (7, 10)]),
        (
            branch("c", &[("a", 1, 5), ("b", 5, 7)]),
            vec![(7, 8), (8, 20)],
        ),
        (branch("d", &[("a", 1, 4)]), vec![(4, 6)]),
    ]
}

async fn grow(store: &Store) {
    let fence = acquire(store, SHARD).await;
    let mut update = update(SHARD, key("w", "r"));
    for (branch, nodes) in tree() {
        for (node_id, next_node_id) in nodes {
            update.history.push(HistoryNode {
                tree_id: "tree".to_owned(),
                branch_id: branch.branch_id.clone(),
                node_id,
                next_node_id,
                data: blob(&format!("{}{node_id}", branch.branch_id)),
            });
        }
        update.branches.push(branch);
    }
    let mut other = update.history[0].clone();
    other.tree_id = "other tree".to_owned();
    update.history.push(other);
    store
        .execution
        .commit(batch(fence, 1, vec![update]))
        .await
        .expect("commit");
}

async fn read(
    store: &Store,
    of: &str,
    from: i64,
    until: i64,
    limit: usize,
    direction: Direction,
) -> String {
    let branch = tree()
        .into_iter()
        .map(|(branch, _)| branch)
        .find(|branch| branch.branch_id == of);
    let range = HistoryRange {
        shard: SHARD,
        branch: branch.expect("branch"),
        from,
        until,
        limit,
        direction,
    };
    let nodes = store.history.history_read(range).await.expect("read");
    let show = |node: HistoryNode| String::from_utf8_lossy(&node.data).into_owned();
    nodes.into_iter().map(show).collect::<Vec<_>>().join(" ")
}

pub(super) async fn branches_share_nodes(store: Store) {
    grow(&store).await;
    let all = async |of| read(&store, of, 1, i64::MAX, 100, Direction::Forward).await;
    assert_eq!(all("a").await, "a1 a3 a5 a9");
    assert_eq!(all("b").await, "a1 a3 b5 b7");
    assert_eq!(all("c").await, "a1 a3 b5 c7 c8");
    assert_eq!(
        all("d").await,
        "a1 a3 d4",
        "the reader cuts the node that reaches past the fork"
    );
    let branches = store
        .history
        .history_branches(SHARD, "tree")
        .await
        .expect("branches");
    let wanted: Vec<BranchRecord> = tree().into_iter().map(|(branch, _)| branch).collect();
    assert_eq!(branches, wanted);
    assert!(
        store
            .history
            .history_branches(SHARD, "none")
            .await
            .expect("branches")
            .is_empty()
    );
}

pub(super) async fn pages_go_both_ways(store: Store) {
    grow(&store).await;
    let (forward, reverse) = (Direction::Forward, Direction::Reverse);
    assert_eq!(read(&store, "c", 4, 8, 100, forward).await, "a3 b5 c7");
    assert_eq!(read(&store, "c", 4, 8, 2, forward).await, "a3 b5");
    assert_eq!(read(&store, "c", 7, 8, 2, forward).await, "c7");
    assert_eq!(read(&store, "c", 1, 100, 3, reverse).await, "c8 c7 b5");
    assert_eq!(read(&store, "c", 1, 5, 3, reverse).await, "a3 a1");
    assert_eq!(read(&store, "c", 2, 3, 100, forward).await, "a1");
    assert_eq!(
        read(&store, "d", 4, 100, 100, forward).await,
        "d4",
        "a node beyond the fork is not read"
    );
    assert_eq!(read(&store, "a", 12, 100, 100, forward).await, "");
    assert_eq!(read(&store, "a", 5, 5, 100, forward).await, "");
    let fence = acquire(&store, SHARD).await;
    let mut again = update(SHARD, key("w", "r"));
    again.history = vec![HistoryNode {
        tree_id: "tree".to_owned(),
        branch_id: "a".to_owned(),
        node_id: 9,
        next_node_id: 30,
        data: blob("new"),
    }];
    store
        .execution
        .commit(batch(fence, 2, vec![again]))
        .await
        .expect("commit");
    assert_eq!(
        read(&store, "a", 20, 100, 100, forward).await,
        "new",
        "a node that exists is replaced"
    );
}

pub(super) async fn deleting_keeps_what_others_read(store: Store) {
    grow(&store).await;
    let all = async |of| read(&store, of, 1, i64::MAX, 100, Direction::Forward).await;
    let delete = async |of: &str| {
        let branch = tree()
            .into_iter()
            .map(|(branch, _)| branch)
            .find(|branch| branch.branch_id == of);
        store
            .history
            .history_delete(&branch.expect("branch"))
            .await
            .expect("delete");
    };
    delete("a").await;
    delete("a").await;
    assert_eq!(all("a").await, "a1 a3");
    assert_eq!(all("c").await, "a1 a3 b5 c7 c8");
    delete("b").await;
    assert_eq!(all("b").await, "a1 a3 b5");
    assert_eq!(all("c").await, "a1 a3 b5 c7 c8");
    delete("c").await;
    assert_eq!(
        all("c").await,
        "a1 a3",
        "what only c read is gone, d still reads a"
    );
    assert_eq!(all("d").await, "a1 a3 d4");
    delete("d").await;
    assert_eq!(all("d").await, "");
    assert!(
        store
            .history
            .history_branches(SHARD, "tree")
            .await
            .expect("branches")
            .is_empty()
    );
    let mut other = tree().remove(0).0;
    other.tree_id = "other tree".to_owned();
    let range = HistoryRange {
        shard: SHARD,
        branch: other,
        from: 1,
        until: 100,
        limit: 10,
        direction: Direction::Forward,
    };
    assert_eq!(
        store.history.history_read(range).await.expect("read").len(),
        1,
        "other trees are untouched"
    );
}
