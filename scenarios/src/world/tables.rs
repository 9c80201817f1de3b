//! The files of an embedded store, changed behind the server's back as a failing disk or a careless hand would.
//! The one place of the drills that knows what the server's tables are called: a row cannot be spoilt without
//! naming it.

use std::{path::Path, time::Duration};

use anyhow::Context;
use sqlx::{
    ConnectOptions as _, Connection as _, SqliteConnection,
    sqlite::{SqliteArguments, SqliteConnectOptions},
};

/// How long to wait for the server, which writes to the same file.
const BUSY_MAX: Duration = Duration::from_secs(10);

/// What no record of the server begins with.
const GARBAGE: [u8; 9] = [0xff; 9];

/// Where bytes lie, for a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Tasks of a run that are done in order.
    Outbox,
    /// Timers of a run.
    Timer,
    /// The state of a run.
    Run,
}

/// A stored value and where it lies.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    place: Place,
    /// The row: shard, and what tells it from others of the shard.
    key: (i64, i64, i64, String),
    bytes: Vec<u8>,
}

/// An open file.
pub(crate) struct Tables(SqliteConnection);

type Row = (i64, i64, i64, String, Vec<u8>);

impl Tables {
    /// The file must exist; whether its server runs does not matter.
    pub(crate) async fn open(file: &Path) -> anyhow::Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .busy_timeout(BUSY_MAX)
            .disable_statement_logging();
        let opened = SqliteConnection::connect_with(&options).await;
        let opened = opened.with_context(|| format!("open {}", file.display()))?;
        Ok(Self(opened))
    }

    /// The rows of a run.
    pub(crate) async fn of_run(&mut self, place: Place, run: &str) -> anyhow::Result<Vec<Value>> {
        let text = match place {
            Place::Outbox => {
                "SELECT shard_id, last_task_id, 0, '', data FROM outbox WHERE instr(data, CAST($1 AS BLOB)) > 0"
            }
            Place::Timer => {
                "SELECT shard_id, fire_at, task_id, '', data FROM timer WHERE instr(data, CAST($1 AS BLOB)) > 0"
            }
            Place::Run => "SELECT shard_id, 0, 0, run_id, hot FROM run WHERE run_id = $1",
        };
        let rows: Vec<Row> = sqlx::query_as(text)
            .bind(run)
            .fetch_all(&mut self.0)
            .await
            .with_context(|| format!("look for rows of run {run}"))?;
        let values = rows
            .into_iter()
            .map(|(shard, first, second, name, bytes)| Value {
                place,
                key: (shard, first, second, name),
                bytes,
            });
        Ok(values.collect())
    }

    /// Whether the row is there.
    pub(crate) async fn has(&mut self, value: &Value) -> anyhow::Result<bool> {
        let text = match value.place {
            Place::Outbox => {
                "SELECT count(*) FROM outbox WHERE (shard_id, last_task_id, 0, '') = ($1, $2, $3, $4)"
            }
            Place::Timer => {
                "SELECT count(*) FROM timer WHERE (shard_id, fire_at, task_id, '') = ($1, $2, $3, $4)"
            }
            Place::Run => {
                "SELECT count(*) FROM run WHERE (shard_id, 0, 0, run_id) = ($1, $2, $3, $4)"
            }
        };
        let (shard, first, second, name) = &value.key;
        let found = sqlx::query_as(text)
            .bind(shard)
            .bind(first)
            .bind(second)
            .bind(name)
            .fetch_one(&mut self.0);
        let (found,): (i64,) = found.await.context("look for a row")?;
        Ok(found > 0)
    }

    /// Makes a value unreadable as a whole.
    pub(crate) async fn spoil(&mut self, value: &Value) -> anyhow::Result<()> {
        self.put(value, &GARBAGE).await
    }

    /// Takes the end of a value away, as a write that was cut: who it belongs to can still be read.
    pub(crate) async fn cut(&mut self, value: &Value) -> anyhow::Result<()> {
        let kept = value.bytes.len().saturating_sub(3);
        self.put(value, &value.bytes[..kept]).await
    }

    /// Puts the value back as it was.
    pub(crate) async fn mend(&mut self, value: &Value) -> anyhow::Result<()> {
        self.put(value, &value.bytes).await
    }

    async fn put(&mut self, value: &Value, bytes: &[u8]) -> anyhow::Result<()> {
        let text = match value.place {
            Place::Outbox => {
                "UPDATE outbox SET data = $5 WHERE (shard_id, last_task_id, 0, '') = ($1, $2, $3, $4)"
            }
            Place::Timer => {
                "UPDATE timer SET data = $5 WHERE (shard_id, fire_at, task_id, '') = ($1, $2, $3, $4)"
            }
            Place::Run => {
                "UPDATE run SET hot = $5 WHERE (shard_id, 0, 0, run_id) = ($1, $2, $3, $4)"
            }
        };
        let (shard, first, second, name) = &value.key;
        let query: sqlx::query::Query<'_, sqlx::Sqlite, SqliteArguments> = sqlx::query(text);
        let changed = query
            .bind(shard)
            .bind(first)
            .bind(second)
            .bind(name)
            .bind(bytes)
            .execute(&mut self.0)
            .await
            .context("write over a row")?;
        anyhow::ensure!(
            changed.rows_affected() == 1,
            "there is no such row in {:?}: {:?}",
            value.place,
            value.key
        );
        Ok(())
    }

    /// From now on the file of lists refuses every row of a workflow id that begins so.
    pub(crate) async fn refuse_lists(&mut self, prefix: &str) -> anyhow::Result<()> {
        // A trigger takes no parameters; the prefix is the drill's own.
        let text = format!(
            "CREATE TRIGGER spoilt BEFORE INSERT ON visibility WHEN NEW.workflow_id LIKE '{prefix}%'
             BEGIN SELECT RAISE(ABORT, 'the drill refuses this row'); END"
        );
        let made = sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(&mut self.0);
        made.await.context("have rows of lists refused")?;
        Ok(())
    }

    /// Lists take every row again.
    pub(crate) async fn accept_lists(&mut self) -> anyhow::Result<()> {
        let dropped = sqlx::raw_sql("DROP TRIGGER spoilt").execute(&mut self.0);
        dropped.await.context("have rows of lists accepted")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn tables() -> (tempfile::TempDir, Tables) {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("some.db");
        std::fs::write(&path, b"").expect("file");
        let mut tables = Tables::open(&path).await.expect("open");
        let made = sqlx::raw_sql(
            "CREATE TABLE outbox (shard_id INTEGER, last_task_id INTEGER, data BLOB);
             CREATE TABLE visibility (workflow_id TEXT);
             INSERT INTO outbox VALUES (1, 7, CAST('..run-a......' AS BLOB)), (1, 8, CAST('..run-b..' AS BLOB))",
        );
        made.execute(&mut tables.0).await.expect("tables");
        (folder, tables)
    }

    #[tokio::test]
    async fn a_row_is_spoilt_cut_and_mended() {
        let (_folder, mut tables) = tables().await;
        let found = tables.of_run(Place::Outbox, "run-a").await.expect("found");
        assert_eq!(found.len(), 1);
        assert!(tables.has(&found[0]).await.expect("looked"));
        tables.spoil(&found[0]).await.expect("spoilt");
        let again = tables.of_run(Place::Outbox, "run-a").await.expect("looked");
        assert!(again.is_empty());
        tables.mend(&found[0]).await.expect("mended");
        tables.cut(&found[0]).await.expect("cut");
        let cut = tables.of_run(Place::Outbox, "run-a").await.expect("looked");
        assert_eq!(cut[0].bytes, b"..run-a...");
    }

    #[tokio::test]
    async fn lists_refuse_the_rows_they_are_told_to() {
        let (_folder, mut tables) = tables().await;
        tables.refuse_lists("poison-").await.expect("trigger");
        let mut put = async |id: &str| {
            let put = sqlx::query("INSERT INTO visibility VALUES ($1)").bind(id.to_owned());
            put.execute(&mut tables.0).await.is_ok()
        };
        assert!(put("order-1").await);
        assert!(!put("poison-1").await);
    }
}
