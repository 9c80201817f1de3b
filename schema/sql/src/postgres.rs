//! PostgreSQL, 13 or newer. A commit batch is one call of one function, so one round trip and one sync
//! however many updates it holds; the function is part of the schema, see the migration `0006_commit_batch`.
//! Lanes have connections of their own, so that reads never make a commit wait for a connection.

use std::sync::Arc;

use async_trait::async_trait;
use proto_ids::{NamespaceId, RunKey, ShardId, TaskId, Timestamp, WorkflowId};
use schema_store::{
    CommitError, Store, StoreError,
    execution::{CommitBatch, CurrentRecord, ExecutionStore, OutboxRow, RunRecord, TimerRow},
};

use crate::{
    migrate::{SchemaStatus, Wish},
    options::{Options as AllOptions, Postgres as Options},
    stats::Stats,
};

mod append;
#[path = "plain/cluster.rs"]
mod cluster;
mod columns;
mod commit;
mod database;
#[path = "plain/execution.rs"]
mod execution;
#[path = "plain/history.rs"]
mod history;
mod lanes;
mod lookups;
#[path = "plain/namespace.rs"]
mod namespace;
#[path = "plain/queue.rs"]
mod queue;
#[path = "plain/shard.rs"]
mod shard;
#[path = "plain/task_queue.rs"]
mod task_queue;
#[path = "plain/visibility.rs"]
mod visibility;
mod visibility_write;

use database::Database;
use lanes::Lanes;
use lookups::Lookups;

/// The driver, under the names that the shared statements use.
type Driver = sqlx::Postgres;
type DriverRow = sqlx::postgres::PgRow;
type Connection = sqlx::PgConnection;

/// Connections kept for commit batches.
const LANES: u32 = 2;
/// Connections kept for looking up current pointers, which every start does.
const READERS: u32 = 2;

/// Everything but visibility.
struct Backend {
    db: Database,
    lanes: Lanes,
    lookups: Lookups,
    stats: Arc<Stats>,
}

/// Visibility.
struct Visibility {
    db: Database,
}

/// Connects, and checks the schema or brings it up to date.
pub(crate) async fn open(options: &Options, all: &AllOptions) -> Result<Store, StoreError> {
    let size = options.pool_size.max(LANES + READERS + 2);
    let db = Database::connect(options, size - LANES - READERS, &all.stats).await?;
    let wish = if all.auto_setup {
        Wish::Upgrade
    } else {
        Wish::Look
    };
    let status = db.migrate(wish).await?;
    if status.version < status.latest {
        let command = if status.version == 0 {
            "setup"
        } else {
            "upgrade"
        };
        return Err(StoreError::Invalid(format!(
            "the schema of {} is at version {}, this server needs {}: run `meridian schema {command}` first",
            status.database, status.version, status.latest
        )));
    }
    let mut tx = db.begin().await?;
    sqlx::query("DELETE FROM lane_commit WHERE written_at < now() - interval '1 day'")
        .execute(tx.conn())
        .await
        .map_err(fail)?;
    tx.commit().await?;
    let lanes = Lanes::new(database::connect_options(options)?, LANES);
    let lookups = Lookups::new(database::connect_options(options)?, READERS);
    let visibility = Arc::new(Visibility { db: db.clone() });
    let backend = Arc::new(Backend {
        db,
        lanes,
        lookups,
        stats: all.stats.clone(),
    });
    Ok(Store {
        execution: backend.clone(),
        history: backend.clone(),
        shard: backend.clone(),
        task_queue: backend.clone(),
        namespace: backend.clone(),
        cluster: backend.clone(),
        queue: backend,
        visibility,
    })
}

/// Looks at the schema, or upgrades it.
pub(crate) async fn schema(options: &Options, wish: Wish) -> Result<Vec<SchemaStatus>, StoreError> {
    let db = Database::connect(options, 1, &Arc::default()).await?;
    Ok(vec![db.migrate(wish).await?])
}

/// Where the server counts its log.
pub(crate) struct WalSource(Database);

impl WalSource {
    pub(crate) fn new(options: &Options) -> Result<Self, StoreError> {
        Ok(Self(Database::lazy(options, 1, &Arc::default())?))
    }

    /// Reads what the server counted. Versions differ in where they tell.
    pub(crate) async fn read(&self, stats: &Stats) -> Result<(), StoreError> {
        let version = self.0.server_version().await?;
        let sql = match version {
            ..140_000 => return Ok(()),
            140_000..180_000 => "SELECT wal_sync, wal_bytes::BIGINT FROM pg_stat_wal",
            180_000.. => {
                "SELECT (SELECT coalesce(sum(fsyncs), 0)::BIGINT FROM pg_stat_io WHERE object = 'wal'),
                    wal_bytes::BIGINT FROM pg_stat_wal"
            }
        };
        let mut conn = self.0.read().await?;
        let counters = sqlx::query_as(sql).fetch_one(&mut *conn);
        let (syncs, bytes): (i64, i64) = counters.await.map_err(fail)?;
        Stats::set(&stats.wal_syncs, syncs);
        Stats::set(&stats.wal_bytes, bytes);
        Ok(())
    }
}

impl Backend {
    /// A restored database looks like any other; its operator has to say so.
    async fn read_restored(&self) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn settle_restored(&self) -> Result<(), StoreError> {
        Ok(())
    }
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
        self.lookups.current(shard, namespace_id, workflow_id).await
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

/// The SQLSTATE.
fn code(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}

/// Whether the server may have done what was asked although this is its answer: the connection broke, or the
/// server was told to stop between the commit and the answer.
fn is_in_doubt(error: &sqlx::Error) -> bool {
    match (code(error), error) {
        (Some(code), _) => code.starts_with("57P") || code.starts_with("08"),
        (None, sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Encode(_)) => {
            false
        }
        (None, _) => true,
    }
}

/// Maps an error of the driver to an error for the caller.
fn fail(error: sqlx::Error) -> StoreError {
    let text = error.to_string();
    match (code(&error).as_deref(), &error) {
        // Somebody inserted the same key at the same time.
        (Some("23505"), _) => StoreError::Conflict(text),
        // Bad data, what the schema does not allow, what is too large for a row or an index, and bad statements or
        // a schema that is not ours.
        (Some(code), _)
            if ["22", "23", "42", "54"]
                .iter()
                .any(|class| code.starts_with(class)) =>
        {
            StoreError::Invalid(text)
        }
        (Some("XX001" | "XX002"), _) => StoreError::Corrupt(text),
        (None, sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)) => {
            StoreError::Corrupt(text)
        }
        (
            None,
            sqlx::Error::Encode(_)
            | sqlx::Error::InvalidArgument(_)
            | sqlx::Error::Configuration(_),
        ) => StoreError::Invalid(text),
        _ => StoreError::Unavailable(text),
    }
}
