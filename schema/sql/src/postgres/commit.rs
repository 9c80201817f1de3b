//! A commit batch as one call of the schema's function `commit_batch`, a transaction of its own.

use proto_ids::{RunKey, ShardId};
use schema_store::{
    CommitError,
    execution::{CommitBatch, LANE_COMMITS_KEPT},
};

use super::{
    Backend, code,
    columns::{Columns, Nodes, Runs},
    is_in_doubt,
};
use crate::{pointers::Pointers, stats::Stats};

const COMMIT: &str = "SELECT commit_batch(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,
    $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, $40,
    $41, $42, $43, $44, $45, $46, $47, $48, $49, $50, $51, $52, $53, $54, $55, $56, $57, $58, $59,
    $60, $61, $62, $63, $64, $65, $66, $67, $68, $69, $70
)";

/// The error codes that the function raises for broken fences and guards; the message lists them.
const FENCED: &str = "MD001";
const CONFLICT: &str = "MD002";
/// The SQLSTATE of a full disk.
const DISK_FULL: &str = "53100";

type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

impl Backend {
    pub(super) async fn write_batch(&self, batch: CommitBatch) -> Result<(), CommitError> {
        batch.check()?;
        let pointers = Pointers::of(&batch.updates).map_err(CommitError::Conflict)?;
        let columns = Columns::of(&batch, &pointers);
        let query = sqlx::query(COMMIT)
            .bind(&batch.lane)
            .bind(batch.seq)
            .bind(batch.seq.rem_euclid(LANE_COMMITS_KEPT));
        let query = bind_rest(bind_state(query, &columns), &columns);
        // Nothing is sent before there is a connection.
        let lane = self.lanes.take().await;
        let mut lane = lane.map_err(|error| CommitError::Unavailable(error.to_string()))?;
        let Err(error) = query.execute(&mut lane.conn).await else {
            lane.release();
            self.stats.committed(batch.updates.len());
            Stats::add(&self.stats.transactions, 1);
            return Ok(());
        };
        if is_in_doubt(&error) {
            return Err(CommitError::Unknown(error.to_string()));
        }
        lane.release();
        let refusal = refusal(&batch, error);
        if matches!(refusal, CommitError::Fenced(_) | CommitError::Conflict(_)) {
            Stats::add(&self.stats.commits_refused, 1);
        }
        Err(refusal)
    }
}

/// Maps an answer that says that nothing was written to an error.
fn refusal(batch: &CommitBatch, error: sqlx::Error) -> CommitError {
    let text = error.to_string();
    let Some(code) = code(&error) else {
        return match error {
            sqlx::Error::Encode(_) => CommitError::Refused(text),
            _ => CommitError::Unavailable(text),
        };
    };
    let listed = || {
        let message = error
            .as_database_error()
            .map(|error| error.message())
            .unwrap_or_default();
        message
            .split(',')
            .filter_map(|number| number.parse::<usize>().ok())
    };
    match code.as_str() {
        FENCED => {
            let shard = |number| Some(ShardId::new(i32::try_from(number).ok()?));
            CommitError::Fenced(listed().filter_map(shard).collect())
        }
        CONFLICT => {
            let key = |index: usize| Some(batch.updates.get(index)?.key.clone());
            CommitError::Conflict(listed().filter_map(key).collect::<Vec<RunKey>>())
        }
        DISK_FULL => CommitError::Full(text),
        // Data, constraints, cardinality (a row twice in one statement), limits: the batch itself is bad.
        code if ["21", "22", "23", "42", "54"]
            .iter()
            .any(|class| code.starts_with(class)) =>
        {
            CommitError::Refused(text)
        }
        _ => CommitError::Unavailable(text),
    }
}

fn bind_runs<'q>(query: Query<'q>, runs: &'q Runs<'q>) -> Query<'q> {
    query
        .bind(&runs.shard)
        .bind(&runs.namespace)
        .bind(&runs.workflow)
        .bind(&runs.run)
}

fn bind_nodes<'q>(query: Query<'q>, nodes: &'q Nodes<'q>) -> Query<'q> {
    query
        .bind(&nodes.shard)
        .bind(&nodes.tree)
        .bind(&nodes.branch)
}

/// Fences to pointers.
fn bind_state<'q>(query: Query<'q>, c: &'q Columns<'q>) -> Query<'q> {
    let query = bind_runs(query.bind(&c.fence_shard).bind(&c.fence_range), &c.guards);
    let query = query.bind(&c.guard_version).bind(&c.guard_update);
    let query = bind_runs(query, &c.pointer_guards).bind(&c.pointer_update);
    let query = bind_runs(bind_runs(query, &c.cleared), &c.gone);
    let query = bind_runs(query, &c.puts)
        .bind(&c.put_version)
        .bind(&c.put_hot)
        .bind(&c.put_start);
    let query = bind_runs(query, &c.items)
        .bind(&c.item_kind)
        .bind(&c.item_id)
        .bind(&c.item_value);
    bind_runs(query, &c.pointers)
        .bind(&c.pointer_request)
        .bind(&c.pointer_status)
        .bind(&c.pointer_version)
        .bind(&c.pointer_start)
        .bind(&c.pointer_first)
}

/// History to progress.
fn bind_rest<'q>(query: Query<'q>, c: &'q Columns<'q>) -> Query<'q> {
    let query = bind_nodes(query, &c.branches).bind(&c.branch_ancestors);
    let query = bind_nodes(query, &c.nodes)
        .bind(&c.node_id)
        .bind(&c.node_next)
        .bind(&c.node_data);
    query
        .bind(&c.outbox.shard)
        .bind(&c.outbox.id)
        .bind(&c.outbox_first)
        .bind(&c.outbox.data)
        .bind(&c.timers.shard)
        .bind(&c.timer_at)
        .bind(&c.timers.id)
        .bind(&c.timers.data)
        .bind(&c.progress_shard)
        .bind(&c.progress_state)
        .bind(&c.progress_outbox)
        .bind(&c.progress_timer_at)
        .bind(&c.progress_timer_task)
}
