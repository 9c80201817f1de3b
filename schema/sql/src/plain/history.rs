//! Reading and deleting history branches.

use async_trait::async_trait;
use proto_ids::ShardId;
use schema_store::{
    StoreError,
    execution::{BranchRecord, HistoryNode},
    history::{Direction, HistoryRange, HistoryStore, keep_below, segments},
};

use super::{Backend, Connection, execution::limit_of, fail};
use crate::place::ancestors_decode;

const FORWARD: &str = "SELECT node_id, next_node_id, data FROM history_node
    WHERE shard_id = $1 AND tree_id = $2 AND branch_id = $3 AND node_id >= $4 AND node_id < $5 AND next_node_id > $6
    ORDER BY node_id LIMIT $7";

const REVERSE: &str = "SELECT node_id, next_node_id, data FROM history_node
    WHERE shard_id = $1 AND tree_id = $2 AND branch_id = $3 AND node_id >= $4 AND node_id < $5 AND next_node_id > $6
    ORDER BY node_id DESC LIMIT $7";

#[async_trait]
impl HistoryStore for Backend {
    async fn history_read(&self, range: HistoryRange) -> Result<Vec<HistoryNode>, StoreError> {
        // An ancestor's node that reaches past the fork counts only up to the fork.
        let mut wanted = segments(&range.branch);
        wanted.retain(|segment| segment.begin < range.until && segment.end > range.from);
        let sql = match range.direction {
            Direction::Forward => FORWARD,
            Direction::Reverse => {
                wanted.reverse();
                REVERSE
            }
        };
        let mut conn = self.db.read().await?;
        let mut nodes = Vec::new();
        for segment in wanted {
            if nodes.len() >= range.limit {
                break;
            }
            let rows = sqlx::query_as(sql)
                .bind(i64::from(range.shard.get()))
                .bind(&range.branch.tree_id)
                .bind(segment.branch_id)
                .bind(segment.begin)
                .bind(segment.end.min(range.until))
                .bind(range.from)
                .bind(limit_of(range.limit - nodes.len()))
                .fetch_all(&mut *conn);
            let rows: Vec<(i64, i64, Vec<u8>)> = rows.await.map_err(fail)?;
            nodes.extend(
                rows.into_iter()
                    .map(|(node_id, next_node_id, data)| HistoryNode {
                        tree_id: range.branch.tree_id.clone(),
                        branch_id: segment.branch_id.to_owned(),
                        node_id,
                        next_node_id,
                        data: data.into(),
                    }),
            );
        }
        Ok(nodes)
    }

    async fn history_branches(
        &self,
        shard: ShardId,
        tree_id: &str,
    ) -> Result<Vec<BranchRecord>, StoreError> {
        let mut conn = self.db.read().await?;
        branches(&mut conn, shard, tree_id).await
    }

    async fn history_delete(&self, branch: &BranchRecord) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        // A commit may fork the tree at the same time; after this it waits, and its branch is seen or comes later.
        tx.lock_shard(branch.shard).await?;
        sqlx::query(
            "DELETE FROM history_branch WHERE shard_id = $1 AND tree_id = $2 AND branch_id = $3",
        )
        .bind(i64::from(branch.shard.get()))
        .bind(&branch.tree_id)
        .bind(&branch.branch_id)
        .execute(tx.conn())
        .await
        .map_err(fail)?;
        let left = branches(tx.conn(), branch.shard, &branch.tree_id).await?;
        for (branch_id, below) in keep_below(branch, &left) {
            sqlx::query(
                "DELETE FROM history_node WHERE shard_id = $1 AND tree_id = $2 AND branch_id = $3 AND node_id >= $4",
            )
            .bind(i64::from(branch.shard.get()))
            .bind(&branch.tree_id)
            .bind(branch_id)
            .bind(below)
            .execute(tx.conn())
            .await
            .map_err(fail)?;
        }
        tx.commit().await
    }
}

async fn branches(
    conn: &mut Connection,
    shard: ShardId,
    tree_id: &str,
) -> Result<Vec<BranchRecord>, StoreError> {
    let rows = sqlx::query_as(
        "SELECT branch_id, ancestors FROM history_branch WHERE shard_id = $1 AND tree_id = $2 ORDER BY branch_id",
    )
    .bind(i64::from(shard.get()))
    .bind(tree_id)
    .fetch_all(conn);
    let rows: Vec<(String, Vec<u8>)> = rows.await.map_err(fail)?;
    let record = |(branch_id, ancestors): (String, Vec<u8>)| {
        Ok(BranchRecord {
            shard,
            tree_id: tree_id.to_owned(),
            branch_id,
            ancestors: ancestors_decode(&ancestors)?,
        })
    };
    rows.into_iter().map(record).collect()
}
