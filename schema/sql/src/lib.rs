//! The stores over SQL databases: SQLite (embedded, the default) and PostgreSQL 13 or newer, with their
//! migrations. The one crate that knows sqlx. What a store means is said by `schema-store` and its conformance
//! suite; here is only how each database is made to do it fast: a commit batch is one call on both.
//!
//! Statements that both databases read alike are written once, in `plain`, and compiled once per driver;
//! everything that is hot or locks is written out per database.

#![expect(
    clippy::duplicate_mod,
    reason = "statements that both databases read alike are compiled once per driver"
)]

mod migrate;
mod options;
mod place;
mod pointers;
mod postgres;
mod sqlite;
mod stats;
mod visibility_sql;

use schema_store::{Store, StoreError, memory::MemoryStore};

pub use migrate::{SchemaStatus, latest};
pub use options::{Options, Plugin, Postgres, PostgresTls, Sqlite, TlsMode};
pub use sqlite::Copied;
pub use stats::Stats;

/// Opens the store. An embedded database is set up or upgraded on the way; a PostgreSQL one only if
/// `auto_setup` says so, and is otherwise refused unless its schema is the one this program knows.
pub async fn open(options: Options) -> Result<Store, StoreError> {
    match &options.plugin {
        Plugin::Sqlite(sqlite) if sqlite.ephemeral => Ok(MemoryStore::new().store()),
        Plugin::Sqlite(sqlite) => sqlite::open(sqlite, options.stats.clone()).await,
        Plugin::Postgres(postgres) => postgres::open(postgres, &options).await,
    }
}

/// Creates the schema in an empty database. `Invalid` when there is one already.
pub async fn schema_setup(options: &Options) -> Result<Vec<SchemaStatus>, StoreError> {
    let before = schema_status(options).await?;
    if let Some(set_up) = before.iter().find(|status| status.version > 0) {
        return Err(StoreError::Invalid(format!(
            "{} has a schema already, version {} of {}; `meridian schema upgrade` brings it to the newest, and setting it up is not needed",
            set_up.database, set_up.version, set_up.latest
        )));
    }
    schema_upgrade(options).await
}

/// Brings the schema, or an empty database, to the newest version. Does nothing when it is there.
pub async fn schema_upgrade(options: &Options) -> Result<Vec<SchemaStatus>, StoreError> {
    match &options.plugin {
        Plugin::Sqlite(sqlite) => sqlite::schema(sqlite, migrate::Wish::Upgrade).await,
        Plugin::Postgres(postgres) => postgres::schema(postgres, migrate::Wish::Upgrade).await,
    }
}

/// Which version the schema has, for each database of the store. Changes nothing; a missing file is an
/// empty database.
pub async fn schema_status(options: &Options) -> Result<Vec<SchemaStatus>, StoreError> {
    match &options.plugin {
        Plugin::Sqlite(sqlite) => sqlite::schema(sqlite, migrate::Wish::Look).await,
        Plugin::Postgres(postgres) => postgres::schema(postgres, migrate::Wish::Look).await,
    }
}

/// Writes what an embedded database keeps in its log into its main file, which then holds everything. For when nothing
/// writes any more: the end of a server. Other databases do this by themselves.
pub async fn checkpoint(options: &Options) -> Result<(), StoreError> {
    match &options.plugin {
        Plugin::Sqlite(sqlite) if !sqlite.ephemeral => sqlite::checkpoint(sqlite).await,
        _ => Ok(()),
    }
}

/// Copies an embedded database into a folder while it is in use, checks the copies, and names them. `Invalid` for other
/// databases, which have tools of their own.
pub async fn backup(
    options: &Options,
    folder: &std::path::Path,
) -> Result<Vec<Copied>, StoreError> {
    match &options.plugin {
        Plugin::Sqlite(sqlite) if !sqlite.ephemeral => sqlite::backup(sqlite, folder).await,
        Plugin::Sqlite(_) => Err(StoreError::Invalid(
            "a store in memory cannot be copied".to_owned(),
        )),
        Plugin::Postgres(_) => Err(StoreError::Invalid(
            "PostgreSQL is backed up by its own tools: pg_dump for a copy of one moment, or base backups with archived \
             logs"
                .to_owned(),
        )),
    }
}

/// Reads the database's own counters of its write-ahead log into the stats. Keeps a connection.
pub struct WalCounters {
    source: Option<postgres::WalSource>,
    stats: std::sync::Arc<Stats>,
}

impl WalCounters {
    /// For the store that these options open. Connects when first read.
    pub fn new(options: &Options) -> Result<Self, StoreError> {
        let source = match &options.plugin {
            Plugin::Sqlite(_) => None,
            Plugin::Postgres(postgres) => Some(postgres::WalSource::new(postgres)?),
        };
        Ok(Self {
            source,
            stats: options.stats.clone(),
        })
    }

    /// Reads them now. SQLite has none: its syncs are counted as they happen.
    pub async fn read(&self) -> Result<(), StoreError> {
        match &self.source {
            Some(source) => source.read(&self.stats).await,
            None => Ok(()),
        }
    }
}
