//! The embedded store: one file for the commit lane, one beside it for visibility, so that a list being
//! written never stalls a commit. Each file has one writing connection (SQLite allows one writer anyway, and
//! waiting for it here is fair) and a few reading ones. Every commit is synced (`synchronous = FULL`).
//!
//! sqlx hands each call to the connection's thread, and on an idle machine that hand-over costs more than the
//! statements: a commit batch is therefore one call of one text that never changes, see [`commit`].

use std::sync::Arc;

use async_trait::async_trait;
use proto_ids::{NamespaceId, RunKey, ShardId, TaskId, Timestamp, WorkflowId};
use schema_store::{
    CommitError, Store, StoreError,
    execution::{CommitBatch, CurrentRecord, ExecutionStore, OutboxRow, RunRecord, TimerRow},
};

use crate::{
    migrate::{self, SchemaStatus, Wish},
    options::Sqlite as Options,
    stats::Stats,
};

mod append;
mod backup;
#[path = "plain/cluster.rs"]
mod cluster;
mod commit;
mod database;
#[path = "plain/execution.rs"]
mod execution;
#[path = "plain/history.rs"]
mod history;
mod lock;
mod mark;
#[path = "plain/namespace.rs"]
mod namespace;
#[path = "plain/queue.rs"]
mod queue;
mod rows;
#[path = "plain/shard.rs"]
mod shard;
mod startup;
#[path = "plain/task_queue.rs"]
mod task_queue;
#[path = "plain/visibility.rs"]
mod visibility;
mod visibility_write;

pub use backup::Copied;
pub(crate) use backup::{backup, checkpoint};
use database::{Database, Tuning};
use lock::FileLock;
use mark::{Mark, Noted};

/// The driver, under the names that the shared statements use.
type Driver = sqlx::Sqlite;
type DriverRow = sqlx::sqlite::SqliteRow;
type Connection = sqlx::SqliteConnection;

/// Rights of every file: its owner reads and writes, no other user.
const PRIVATE: u32 = 0o600;

/// Everything but visibility.
struct Backend {
    db: Database,
    stats: Arc<Stats>,
    mark: Mark,
    /// Held as long as anything uses the files.
    _lock: Arc<FileLock>,
}

/// Visibility.
struct Visibility {
    db: Database,
    _lock: Arc<FileLock>,
}

/// Opens both files, bringing their schemas up to date.
pub(crate) async fn open(options: &Options, stats: Arc<Stats>) -> Result<Store, StoreError> {
    let (lock, stopped) = FileLock::take(&options.path)?;
    let lock = Arc::new(lock);
    let (main, beside) = databases(options);
    let noted = Noted::read(&main.path)?;
    startup::check_files(&main.path, &beside.path, noted.as_ref())?;
    let db = Database::open(&main, &stats).await?;
    startup::check_pages(&db, &main.path, stopped).await?;
    db.migrate(migrate::SQLITE, Wish::Upgrade).await?;
    let mark = startup::check_mark(&db, &main.path, noted.as_ref()).await?;
    let visibility = Database::open(&beside, &stats).await?;
    startup::check_pages(&visibility, &beside.path, stopped).await?;
    visibility
        .migrate(migrate::SQLITE_VISIBILITY, Wish::Upgrade)
        .await?;
    // Lanes are named per process start, and no other process has the file: nobody asks for these any more. The new
    // mark names none of them.
    let mut tx = db.begin().await?;
    sqlx::query("DELETE FROM lane_commit")
        .execute(tx.conn())
        .await
        .map_err(fail)?;
    tx.commit().await?;
    let backend = Arc::new(Backend {
        db,
        stats,
        mark,
        _lock: lock.clone(),
    });
    Ok(Store {
        execution: backend.clone(),
        history: backend.clone(),
        shard: backend.clone(),
        task_queue: backend.clone(),
        namespace: backend.clone(),
        cluster: backend.clone(),
        queue: backend,
        visibility: Arc::new(Visibility {
            db: visibility,
            _lock: lock,
        }),
    })
}

/// Looks at the schemas, or upgrades them.
pub(crate) async fn schema(options: &Options, wish: Wish) -> Result<Vec<SchemaStatus>, StoreError> {
    let (main, beside) = databases(options);
    let mut found = Vec::new();
    let _lock = match wish {
        Wish::Upgrade => Some(FileLock::take(&options.path)?.0),
        Wish::Look => None,
    };
    for (tuning, known) in [
        (main, migrate::SQLITE),
        (beside, migrate::SQLITE_VISIBILITY),
    ] {
        if wish == Wish::Look && !tuning.path.exists() {
            found.push(SchemaStatus {
                database: tuning.path.display().to_string(),
                version: 0,
                latest: migrate::newest(known),
            });
            continue;
        }
        let database = Database::open(&tuning, &Arc::default()).await?;
        found.push(database.migrate(known, wish).await?);
    }
    Ok(found)
}

fn databases(options: &Options) -> (Tuning, Tuning) {
    let mut beside = options.path.clone().into_os_string();
    beside.push("-visibility");
    let main = Tuning {
        path: options.path.clone(),
        readers: options.readers.max(1),
        checkpoint_pages: 8000,
        cache_kib: 8192,
    };
    let visibility = Tuning {
        path: beside.into(),
        readers: options.readers.max(1),
        checkpoint_pages: 2000,
        cache_kib: 2048,
    };
    (main, visibility)
}

#[async_trait]
impl ExecutionStore for Backend {
    async fn commit(&self, batch: CommitBatch) -> Result<(), CommitError> {
        self.write_batch(batch).await
    }

    async fn commit_happened(&self, lane: &str, seq: i64) -> Result<bool, StoreError> {
        self.read_commit_happened(lane, seq).await
    }

    async fn run_load(
        &self,
        shard: ShardId,
        key: &RunKey,
    ) -> Result<Option<RunRecord>, StoreError> {
        self.read_run(shard, key).await
    }

    async fn current_load(
        &self,
        shard: ShardId,
        namespace_id: &NamespaceId,
        workflow_id: &WorkflowId,
    ) -> Result<Option<CurrentRecord>, StoreError> {
        let mut conn = self.db.read().await?;
        let row = sqlx::query_as(
            "SELECT run_id, request_id, status, last_write_version, start_time, first_run_id
             FROM current_run WHERE shard_id = $1 AND namespace_id = $2 AND workflow_id = $3",
        )
        .bind(i64::from(shard.get()))
        .bind(namespace_id.as_str())
        .bind(workflow_id.as_str())
        .fetch_optional(&mut *conn);
        let row: Option<execution::PointerRow> = row.await.map_err(fail)?;
        row.map(execution::pointer_of).transpose()
    }

    async fn outbox_read(
        &self,
        shard: ShardId,
        after: TaskId,
        limit: usize,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        self.read_outbox(shard, after, limit).await
    }

    async fn timer_read(
        &self,
        shard: ShardId,
        after: (Timestamp, TaskId),
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<TimerRow>, StoreError> {
        self.read_timers(shard, after, until, limit).await
    }

    async fn run_list(
        &self,
        shard: ShardId,
        after: Option<RunKey>,
        limit: usize,
    ) -> Result<Vec<RunKey>, StoreError> {
        self.read_runs(shard, after, limit).await
    }
}

impl Backend {
    async fn read_restored(&self) -> Result<bool, StoreError> {
        startup::is_copy(&self.db).await
    }

    async fn settle_restored(&self) -> Result<(), StoreError> {
        startup::settle_copy(&self.db).await
    }
}

/// The primary result code, without SQLite's extension.
fn code(error: &sqlx::Error) -> Option<i32> {
    extended_code(error).map(|code| code & 0xff)
}

fn extended_code(error: &sqlx::Error) -> Option<i32> {
    let code = error.as_database_error()?.code()?;
    code.parse().ok()
}

/// Whether a row with the same key is there: PRIMARYKEY, UNIQUE, ROWID.
fn is_taken(error: &sqlx::Error) -> bool {
    matches!(extended_code(error), Some(1555 | 2067 | 2579))
}

const SQLITE_IOERR: i32 = 10;
const SQLITE_FULL: i32 = 13;

/// Maps an error of the driver to an error for the caller.
fn fail(error: sqlx::Error) -> StoreError {
    let text = error.to_string();
    match (code(&error), &error) {
        // CORRUPT, NOTADB
        (Some(11 | 26), _) => StoreError::Corrupt(format!(
            "{text}: a database file of this server is damaged; stop it, and start it again to have the files checked"
        )),
        (Some(19), error) if is_taken(error) => StoreError::Conflict(text),
        // ERROR (as in a bad statement), TOOBIG, CONSTRAINT of another kind, MISMATCH, RANGE
        (Some(1 | 18 | 19 | 20 | 25), _) => StoreError::Invalid(text),
        (None, sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)) => {
            StoreError::Corrupt(text)
        }
        (None, sqlx::Error::Encode(_) | sqlx::Error::InvalidArgument(_)) => {
            StoreError::Invalid(text)
        }
        _ => StoreError::Unavailable(text),
    }
}
