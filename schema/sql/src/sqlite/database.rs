//! One file: its writing connection, its readers, its schema.

use std::{
    fs::File,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use schema_store::StoreError;
use sqlx::{
    ConnectOptions as _, Connection as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::sync::{Mutex, MutexGuard};

use super::{PRIVATE, fail, startup::damaged};
use crate::{
    migrate::{self, Migration, SchemaStatus, Wish},
    stats::Stats,
};

/// Where the file is, and what differs between the files.
pub(super) struct Tuning {
    pub(super) path: PathBuf,
    pub(super) readers: u32,
    /// Pages in the log before it is written back. A large log is rarely written back, and its file is reused
    /// from the start afterwards instead of growing, which is what makes a sync cheap.
    pub(super) checkpoint_pages: u32,
    pub(super) cache_kib: u32,
}

/// An open file.
pub(super) struct Database {
    name: String,
    writer: Mutex<Writer>,
    /// Not a driver's pool: that one sends a ping after each use, which costs as much as the read.
    readers: Vec<Mutex<SqliteConnection>>,
    next_reader: AtomicUsize,
    stats: Arc<Stats>,
}

/// The writing connection.
pub(super) struct Writer {
    pub(super) conn: SqliteConnection,
    /// Set while a transaction may be open: a caller that was dropped in the middle of one leaves it set, and the
    /// next writer rolls back first.
    pub(super) in_doubt: bool,
}

/// A transaction. Dropping it undoes it, at the latest before the next one.
pub(super) struct Tx<'a> {
    writer: MutexGuard<'a, Writer>,
    stats: &'a Stats,
}

impl Database {
    pub(super) async fn open(tuning: &Tuning, stats: &Arc<Stats>) -> Result<Self, StoreError> {
        private(&tuning.path)?;
        let options = SqliteConnectOptions::new()
            .filename(&tuning.path)
            .create_if_missing(true)
            // Measured: pages of 8192 wrote 1.7 times the bytes, since current pointers are random.
            .page_size(4096)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(10))
            .pragma("wal_autocheckpoint", tuning.checkpoint_pages.to_string())
            .pragma("cache_size", format!("-{}", tuning.cache_kib))
            .pragma("temp_store", "MEMORY")
            .disable_statement_logging();
        let unusable = |error| match fail(error) {
            StoreError::Corrupt(text) => damaged(&tuning.path, &text),
            StoreError::Unavailable(text) => {
                StoreError::Unavailable(format!("open {}: {text}", tuning.path.display()))
            }
            other => other,
        };
        let conn = SqliteConnection::connect_with(&options)
            .await
            .map_err(unusable)?;
        let reading = options
            .pragma("query_only", "ON")
            .pragma("cache_size", "-2048");
        let mut readers = Vec::new();
        for _ in 0..tuning.readers {
            readers.push(Mutex::new(
                SqliteConnection::connect_with(&reading)
                    .await
                    .map_err(fail)?,
            ));
        }
        Ok(Self {
            name: tuning.path.display().to_string(),
            writer: Mutex::new(Writer {
                conn,
                in_doubt: false,
            }),
            readers,
            next_reader: AtomicUsize::new(0),
            stats: stats.clone(),
        })
    }

    /// A connection for reads. It sees everything committed before.
    pub(super) async fn read(&self) -> Result<MutexGuard<'_, SqliteConnection>, StoreError> {
        if let Some(idle) = self
            .readers
            .iter()
            .find_map(|reader| reader.try_lock().ok())
        {
            return Ok(idle);
        }
        let next = self.next_reader.fetch_add(1, Ordering::Relaxed) % self.readers.len();
        Ok(self.readers[next].lock().await)
    }

    pub(super) fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The writing connection, with no transaction open.
    pub(super) async fn writer(&self) -> MutexGuard<'_, Writer> {
        let mut writer = self.writer.lock().await;
        if writer.in_doubt {
            writer.roll_back().await;
        }
        writer
    }

    /// Begins a transaction; it has the write lock from the start.
    pub(super) async fn begin(&self) -> Result<Tx<'_>, StoreError> {
        let mut writer = self.writer().await;
        writer.in_doubt = true;
        sqlx::query("BEGIN IMMEDIATE")
            .execute(&mut writer.conn)
            .await
            .map_err(fail)?;
        Ok(Tx {
            writer,
            stats: &self.stats,
        })
    }

    /// Looks at the schema, or upgrades it.
    pub(super) async fn migrate(
        &self,
        known: &'static [Migration],
        wish: Wish,
    ) -> Result<SchemaStatus, StoreError> {
        let mut writer = self.writer().await;
        let tables =
            sqlx::query_as("SELECT count(*) FROM sqlite_master WHERE name = 'schema_version'");
        let (tables,): (i64,) = tables.fetch_one(&mut writer.conn).await.map_err(fail)?;
        let applied: Vec<(i64, String)> = match tables {
            0 => Vec::new(),
            _ => sqlx::query_as(migrate::APPLIED)
                .fetch_all(&mut writer.conn)
                .await
                .map_err(fail)?,
        };
        drop(writer);
        let mut version = applied.last().map_or(0, |(version, _)| *version);
        let pending = migrate::pending(&self.name, known, &applied)?;
        if wish == Wish::Upgrade {
            for step in pending {
                self.step(step).await?;
                tracing::info!(
                    database = self.name,
                    version = step.version,
                    step = step.name,
                    "schema step applied"
                );
                version = step.version;
            }
        }
        Ok(SchemaStatus {
            database: self.name.clone(),
            version,
            latest: migrate::newest(known),
        })
    }

    async fn step(&self, step: &Migration) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::raw_sql(migrate::VERSION_TABLE)
            .execute(tx.conn())
            .await
            .map_err(fail)?;
        sqlx::raw_sql(step.sql)
            .execute(tx.conn())
            .await
            .map_err(fail)?;
        sqlx::query(migrate::NOTE)
            .bind(step.version)
            .bind(step.name)
            .bind(step.checksum())
            .execute(tx.conn())
            .await
            .map_err(fail)?;
        tx.commit().await
    }
}

/// Makes the file, if it is not there, so that only its owner can read what workflows carry. The files that
/// SQLite puts beside it get the same rights.
fn private(path: &Path) -> Result<(), StoreError> {
    let made = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(PRIVATE)
        .open(path);
    made.map(drop)
        .map_err(|error| StoreError::Unavailable(format!("open {}: {error}", path.display())))
}

impl Writer {
    /// Ends whatever is open. An error says that nothing was.
    pub(super) async fn roll_back(&mut self) {
        let _ = sqlx::query("ROLLBACK").execute(&mut self.conn).await;
        self.in_doubt = false;
    }
}

impl Tx<'_> {
    pub(super) fn conn(&mut self) -> &mut SqliteConnection {
        &mut self.writer.conn
    }

    /// Commits, durably.
    pub(super) async fn commit(mut self) -> Result<(), StoreError> {
        sqlx::query("COMMIT")
            .execute(&mut self.writer.conn)
            .await
            .map_err(fail)?;
        self.writer.in_doubt = false;
        Stats::add(&self.stats.transactions, 1);
        Stats::add(&self.stats.wal_syncs, 1);
        Ok(())
    }

    /// The one writer of the file needs no further lock.
    pub(super) async fn lock_shard(
        &mut self,
        _shard: proto_ids::ShardId,
    ) -> Result<(), StoreError> {
        Ok(())
    }
}
