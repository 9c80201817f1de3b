//! A commit batch as one call: one text of many statements from BEGIN to COMMIT, of which the driver runs one
//! after the other until one fails. A broken fence or guard inserts into the view `broken`, whose trigger
//! rolls the transaction back and fails the statement, so that COMMIT is never reached. Which fence or guard
//! it was is read afterwards, with the writing connection still held.

use proto_ids::{RunKey, ShardId};
use schema_store::{
    CommitError,
    execution::{CommitBatch, Expected, LANE_COMMITS_KEPT, RowWrite, RunUpdate, ShardProgress},
};
use sqlx::SqliteConnection;

use super::{Backend, SQLITE_FULL, SQLITE_IOERR, code, rows::Rows};
use crate::{place::ancestors_encode, pointers::Pointers, stats::Stats};

/// The text: what every batch does, and what comes seldom. `$1` fences, `$2` guards of runs, `$3` guards of
/// pointers, then what is written.
/// (Numbered with `$`: the driver takes the gaps that `?N` leaves for parameters of their own.)
macro_rules! commit {
    ($seldom:literal) => {
        concat!(
            "BEGIN IMMEDIATE;
    INSERT INTO broken SELECT 'fence' FROM jsonb_each($1) AS f LEFT JOIN shard AS s ON s.shard_id = f.value->>0
        WHERE s.range_id IS NOT f.value->>1 LIMIT 1;
    INSERT INTO broken SELECT 'guard' FROM jsonb_each($2) AS g LEFT JOIN run AS r
        ON r.shard_id = g.value->>0 AND r.namespace_id = g.value->>1 AND r.workflow_id = g.value->>2
            AND r.run_id = g.value->>3
        WHERE r.version IS NOT g.value->>4 LIMIT 1;
    INSERT INTO broken SELECT 'guard' FROM jsonb_each($3) AS g LEFT JOIN current_run AS c
        ON c.shard_id = g.value->>0 AND c.namespace_id = g.value->>1 AND c.workflow_id = g.value->>2
        WHERE c.run_id IS NOT g.value->>3 LIMIT 1;
    DELETE FROM run_item WHERE (shard_id, namespace_id, workflow_id, run_id) IN
        (SELECT value->>0, value->>1, value->>2, value->>3 FROM jsonb_each($4));
    DELETE FROM run WHERE (shard_id, namespace_id, workflow_id, run_id) IN
        (SELECT value->>0, value->>1, value->>2, value->>3 FROM jsonb_each($5));
    INSERT INTO run (shard_id, namespace_id, workflow_id, run_id, version, hot, start)
        SELECT value->>0, value->>1, value->>2, value->>3, value->>4, substr($7, value->>5, value->>6),
            substr($7, value->>7, value->>8) FROM jsonb_each($6) WHERE true
        ON CONFLICT DO UPDATE
            SET version = excluded.version, hot = excluded.hot, start = coalesce(excluded.start, start);
    DELETE FROM run_item WHERE (shard_id, namespace_id, workflow_id, run_id, kind, id) IN
        (SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5 FROM jsonb_each($8));
    INSERT INTO run_item (shard_id, namespace_id, workflow_id, run_id, kind, id, value)
        SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5,
            substr($10, value->>6, value->>7) FROM jsonb_each($9) WHERE true
        ON CONFLICT DO UPDATE SET value = excluded.value;
    DELETE FROM current_run WHERE (shard_id, namespace_id, workflow_id) IN
        (SELECT value->>0, value->>1, value->>2 FROM jsonb_each($11));
    INSERT INTO current_run (shard_id, namespace_id, workflow_id, run_id, request_id, status, last_write_version,
            start_time, first_run_id)
        SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7, value->>8
            FROM jsonb_each($12) WHERE true
        ON CONFLICT DO UPDATE SET run_id = excluded.run_id, request_id = excluded.request_id,
            status = excluded.status, last_write_version = excluded.last_write_version,
            start_time = excluded.start_time, first_run_id = excluded.first_run_id;
    INSERT INTO history_branch (shard_id, tree_id, branch_id, ancestors)
        SELECT value->>0, value->>1, value->>2, substr($14, value->>3, value->>4) FROM jsonb_each($13) WHERE true
        ON CONFLICT DO UPDATE SET ancestors = excluded.ancestors;
    INSERT INTO history_node (shard_id, tree_id, branch_id, node_id, next_node_id, data)
        SELECT value->>0, value->>1, value->>2, value->>3, value->>4, substr($16, value->>5, value->>6)
            FROM jsonb_each($15) WHERE true
        ON CONFLICT DO UPDATE SET next_node_id = excluded.next_node_id, data = excluded.data;
    INSERT INTO outbox (shard_id, last_task_id, first_task_id, data)
        SELECT value->>0, value->>1, value->>2, substr($18, value->>3, value->>4) FROM jsonb_each($17) WHERE true
        ON CONFLICT DO UPDATE SET first_task_id = excluded.first_task_id, data = excluded.data;
    INSERT INTO timer (shard_id, fire_at, task_id, data)
        SELECT value->>0, value->>1, value->>2, substr($20, value->>3, value->>4) FROM jsonb_each($19) WHERE true
        ON CONFLICT DO UPDATE SET data = excluded.data;
    INSERT INTO lane_commit (lane, slot, seq) VALUES ($21, $22, $23)
        ON CONFLICT DO UPDATE SET seq = excluded.seq;",
            $seldom,
            "COMMIT;"
        )
    };
}

const COMMIT: &str = commit!("");

/// With positions and trims. The shards exist: their fences were checked.
const COMMIT_WITH_PROGRESS: &str = commit!(
    "INSERT INTO shard (shard_id, range_id, owner, state, acquired_at)
        SELECT value->>0, 0, '', substr($25, value->>1, value->>2), 0 FROM jsonb_each($24) WHERE true
        ON CONFLICT DO UPDATE SET state = excluded.state;
    DELETE FROM outbox WHERE (shard_id, last_task_id) IN
        (SELECT o.shard_id, o.last_task_id FROM jsonb_each($26) AS p CROSS JOIN outbox AS o
            WHERE o.shard_id = p.value->>0 AND o.last_task_id <= p.value->>1);
    DELETE FROM timer WHERE (shard_id, fire_at, task_id) IN
        (SELECT t.shard_id, t.fire_at, t.task_id FROM jsonb_each($27) AS p CROSS JOIN timer AS t
            WHERE t.shard_id = p.value->>0 AND (t.fire_at, t.task_id) <= (p.value->>1, p.value->>2));"
);

const LOST_FENCES: &str = "SELECT f.value->>0 FROM jsonb_each($1) AS f LEFT JOIN shard AS s
    ON s.shard_id = f.value->>0 WHERE s.range_id IS NOT f.value->>1";

const BROKEN_GUARDS: &str = "SELECT g.value->>5 FROM jsonb_each($1) AS g LEFT JOIN run AS r
        ON r.shard_id = g.value->>0 AND r.namespace_id = g.value->>1 AND r.workflow_id = g.value->>2
            AND r.run_id = g.value->>3
        WHERE r.version IS NOT g.value->>4
    UNION
    SELECT g.value->>4 FROM jsonb_each($2) AS g LEFT JOIN current_run AS c
        ON c.shard_id = g.value->>0 AND c.namespace_id = g.value->>1 AND c.workflow_id = g.value->>2
        WHERE c.run_id IS NOT g.value->>3";

/// SQLITE_CONSTRAINT, which is what the trigger of `broken` ends with.
const SQLITE_CONSTRAINT: i32 = 19;

impl Backend {
    pub(super) async fn write_batch(&self, batch: CommitBatch) -> Result<(), CommitError> {
        batch.check()?;
        let pointers = Pointers::of(&batch.updates).map_err(CommitError::Conflict)?;
        let mut values = Values::new();
        for fence in &batch.fences {
            let row = values.fences.row();
            row.int(i64::from(fence.shard.get())).int(fence.range.get());
        }
        for (index, update) in batch.updates.iter().enumerate() {
            values.update(index, update);
        }
        values.pointers(&batch.updates, &pointers);
        for progress in &batch.progress {
            values.progress(progress);
        }
        if values.all().iter().any(|rows| rows.has_zero) {
            return Err(CommitError::Refused("an id has a zero byte".to_owned()));
        }
        let [fences, guards, pointer_guards] = [
            &mut values.fences,
            &mut values.guards,
            &mut values.pointer_guards,
        ]
        .map(|rows| std::mem::replace(rows, Rows::new()).finish().0);
        let statement = if values.states.count == 0 {
            COMMIT
        } else {
            COMMIT_WITH_PROGRESS
        };
        let query = sqlx::query(statement)
            .bind(&fences)
            .bind(&guards)
            .bind(&pointer_guards);
        let query = values.bind(query, &batch);

        let mut writer = self.db.writer().await;
        writer.in_doubt = true;
        let outcome = query.execute(&mut writer.conn).await;
        let Err(error) = outcome else {
            writer.in_doubt = false;
            // With the connection still held, so that marks come in the order of commits.
            self.mark.note(&batch.lane, batch.seq);
            drop(writer);
            self.stats.committed(batch.updates.len());
            Stats::add(&self.stats.transactions, 1);
            Stats::add(&self.stats.wal_syncs, 1);
            return Ok(());
        };
        writer.roll_back().await;
        match code(&error) {
            Some(SQLITE_CONSTRAINT) => {
                Stats::add(&self.stats.commits_refused, 1);
                diagnose(
                    &mut writer.conn,
                    &batch,
                    [fences, guards, pointer_guards],
                    error,
                )
                .await
            }
            // The log may hold the transaction or not.
            Some(SQLITE_IOERR) => Err(CommitError::Unknown(error.to_string())),
            Some(SQLITE_FULL) => Err(CommitError::Full(error.to_string())),
            // ERROR, TOOBIG, MISMATCH, RANGE
            Some(1 | 18 | 20 | 25) => Err(CommitError::Refused(error.to_string())),
            Some(_) => Err(CommitError::Unavailable(error.to_string())),
            None => Err(CommitError::Unknown(error.to_string())),
        }
    }
}

/// Tells which fences or guards are broken. The writing connection is held, so nothing has changed since.
async fn diagnose(
    conn: &mut SqliteConnection,
    batch: &CommitBatch,
    [fences, guards, pointers]: [String; 3],
    error: sqlx::Error,
) -> Result<(), CommitError> {
    let unavailable = |error: sqlx::Error| CommitError::Unavailable(error.to_string());
    let lost = sqlx::query_as(LOST_FENCES)
        .bind(fences)
        .fetch_all(&mut *conn);
    let lost: Vec<(i32,)> = lost.await.map_err(unavailable)?;
    if !lost.is_empty() {
        return Err(CommitError::Fenced(
            lost.into_iter()
                .map(|(shard,)| ShardId::new(shard))
                .collect(),
        ));
    }
    let broken = sqlx::query_as(BROKEN_GUARDS)
        .bind(guards)
        .bind(pointers)
        .fetch_all(conn);
    let broken: Vec<(i64,)> = broken.await.map_err(unavailable)?;
    let key = |(index,): (i64,)| Some(batch.updates.get(usize::try_from(index).ok()?)?.key.clone());
    let keys: Vec<RunKey> = broken.into_iter().filter_map(key).collect();
    if keys.is_empty() {
        return Err(CommitError::Refused(error.to_string()));
    }
    Err(CommitError::Conflict(keys))
}

/// Rows of the batch, by statement.
struct Values {
    fences: Rows,
    guards: Rows,
    pointer_guards: Rows,
    cleared: Rows,
    deleted: Rows,
    runs: Rows,
    items_deleted: Rows,
    items: Rows,
    pointers_deleted: Rows,
    pointers: Rows,
    branches: Rows,
    nodes: Rows,
    outbox: Rows,
    timers: Rows,
    states: Rows,
    outbox_trims: Rows,
    timer_trims: Rows,
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

impl Values {
    fn new() -> Self {
        Self {
            fences: Rows::new(),
            guards: Rows::new(),
            pointer_guards: Rows::new(),
            cleared: Rows::new(),
            deleted: Rows::new(),
            runs: Rows::new(),
            items_deleted: Rows::new(),
            items: Rows::new(),
            pointers_deleted: Rows::new(),
            pointers: Rows::new(),
            branches: Rows::new(),
            nodes: Rows::new(),
            outbox: Rows::new(),
            timers: Rows::new(),
            states: Rows::new(),
            outbox_trims: Rows::new(),
            timer_trims: Rows::new(),
        }
    }

    fn all(&self) -> [&Rows; 8] {
        [
            &self.guards,
            &self.cleared,
            &self.runs,
            &self.items_deleted,
            &self.items,
            &self.pointers,
            &self.branches,
            &self.nodes,
        ]
    }

    fn update(&mut self, index: usize, update: &RunUpdate) {
        let shard = i64::from(update.shard.get());
        match update.expected {
            Expected::Absent => {
                run(&mut self.guards, shard, &update.key)
                    .null()
                    .int(index as i64);
            }
            Expected::Version(version) => {
                run(&mut self.guards, shard, &update.key)
                    .int(version)
                    .int(index as i64);
            }
            Expected::Any => {}
        }
        match &update.row {
            RowWrite::Put {
                version,
                hot,
                start,
            } => {
                let row = run(&mut self.runs, shard, &update.key);
                row.int(*version).blob(hot).optional_blob(start.as_deref());
            }
            RowWrite::Delete => {
                run(&mut self.deleted, shard, &update.key);
            }
            RowWrite::Keep => {}
        }
        if update.items_replaced || matches!(update.row, RowWrite::Delete) {
            run(&mut self.cleared, shard, &update.key);
        }
        for item in &update.items {
            let rows = if item.value.is_some() {
                &mut self.items
            } else {
                &mut self.items_deleted
            };
            let row = run(rows, shard, &update.key);
            row.int(i64::from(item.key.kind)).text(&item.key.id);
            if let Some(value) = &item.value {
                row.blob(value);
            }
        }
        for branch in &update.branches {
            let row = self.branches.row().int(shard);
            row.text(&branch.tree_id)
                .text(&branch.branch_id)
                .blob(&ancestors_encode(&branch.ancestors));
        }
        for node in &update.history {
            let row = self
                .nodes
                .row()
                .int(shard)
                .text(&node.tree_id)
                .text(&node.branch_id);
            row.int(node.node_id)
                .int(node.next_node_id)
                .blob(&node.data);
        }
        for task in &update.outbox {
            let row = self.outbox.row().int(shard);
            row.int(task.last_task_id.get())
                .int(task.first_task_id.get())
                .blob(&task.data);
        }
        for timer in &update.timers {
            let row = self.timers.row().int(shard);
            row.int(timer.fire_at.nanos())
                .int(timer.task_id.get())
                .blob(&timer.data);
        }
    }

    fn pointers(&mut self, updates: &[RunUpdate], pointers: &Pointers<'_>) {
        for (index, expected) in &pointers.guards {
            let row = pointer(&mut self.pointer_guards, &updates[*index]);
            match expected {
                Some(run) => row.text(run),
                None => row.null(),
            }
            .int(*index as i64);
        }
        for (index, record) in &pointers.writes {
            let Some(record) = record else {
                pointer(&mut self.pointers_deleted, &updates[*index]);
                continue;
            };
            let row = pointer(&mut self.pointers, &updates[*index]);
            row.text(record.run_id.as_str())
                .text(&record.request_id)
                .int(i64::from(record.status))
                .int(record.last_write_version)
                .int(record.start_time.nanos())
                .text(record.first_run_id.as_str());
        }
    }

    fn progress(&mut self, progress: &ShardProgress) {
        let shard = i64::from(progress.shard.get());
        self.states.row().int(shard).blob(&progress.state);
        if let Some(until) = progress.trim_outbox {
            self.outbox_trims.row().int(shard).int(until.get());
        }
        if let Some((at, id)) = progress.trim_timers {
            self.timer_trims
                .row()
                .int(shard)
                .int(at.nanos())
                .int(id.get());
        }
    }

    /// Binds `$4` and on.
    fn bind<'q>(self, mut query: Query<'q>, batch: &CommitBatch) -> Query<'q> {
        let with_blobs = |query: Query<'q>, rows: Rows| {
            let (json, bytes) = rows.finish();
            query.bind(json).bind(bytes)
        };
        let without = |query: Query<'q>, rows: Rows| query.bind(rows.finish().0);
        query = without(query, self.cleared);
        query = without(query, self.deleted);
        query = with_blobs(query, self.runs);
        query = without(query, self.items_deleted);
        query = with_blobs(query, self.items);
        query = without(query, self.pointers_deleted);
        query = without(query, self.pointers);
        for rows in [self.branches, self.nodes, self.outbox, self.timers] {
            query = with_blobs(query, rows);
        }
        query = query
            .bind(batch.lane.clone())
            .bind(batch.seq.rem_euclid(LANE_COMMITS_KEPT))
            .bind(batch.seq);
        if self.states.count > 0 {
            query = with_blobs(query, self.states);
            query = without(query, self.outbox_trims);
            query = without(query, self.timer_trims);
        }
        query
    }
}

/// Begins a row with the key of a run.
fn run<'a>(rows: &'a mut Rows, shard: i64, key: &RunKey) -> &'a mut Rows {
    let row = rows.row().int(shard);
    row.text(key.namespace_id.as_str())
        .text(key.workflow_id.as_str())
        .text(key.run_id.as_str())
}

/// Begins a row with the key of a current pointer.
fn pointer<'a>(rows: &'a mut Rows, update: &RunUpdate) -> &'a mut Rows {
    let row = rows.row().int(i64::from(update.shard.get()));
    row.text(update.key.namespace_id.as_str())
        .text(update.key.workflow_id.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        migrate::{SQLITE, Wish},
        sqlite::database::{Database, Tuning},
    };

    /// The tables grow without bound: a statement of the commit path that scans one would stall every shard.
    #[tokio::test]
    async fn no_statement_scans_a_table() {
        let folder = tempfile::tempdir().expect("folder");
        let tuning = Tuning {
            path: folder.path().join("plan.db"),
            readers: 1,
            checkpoint_pages: 1000,
            cache_kib: 1000,
        };
        let database = Database::open(&tuning, &Default::default())
            .await
            .expect("open");
        database
            .migrate(SQLITE, Wish::Upgrade)
            .await
            .expect("migrate");
        let mut writer = database.writer().await;
        let statements = COMMIT_WITH_PROGRESS.split(';').map(str::trim);
        let mut seen = 0;
        for statement in
            statements.filter(|text| text.starts_with("INSERT") || text.starts_with("DELETE"))
        {
            let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
            let plan = sqlx::query_as(explain).fetch_all(&mut writer.conn);
            let plan: Vec<(i64, i64, i64, String)> = plan.await.expect(statement);
            for (.., step) in plan {
                let is_scan = step.starts_with("SCAN")
                    && !step.contains("VIRTUAL TABLE")
                    && step != "SCAN broken";
                assert!(!is_scan, "{step}: {statement}");
            }
            seen += 1;
        }
        assert_eq!(seen, 18);
    }
}
