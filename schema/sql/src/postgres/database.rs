//! Connections, transactions, schema.

use std::{io, sync::Arc, time::Duration};

use proto_ids::ShardId;
use schema_store::StoreError;
use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection, PgPool, Transaction,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions, PgSslMode},
};

use super::{code, fail, is_in_doubt};
use crate::{
    migrate::{self, Migration, SchemaStatus, Wish},
    options::{Postgres as Options, TlsMode},
    stats::Stats,
};

/// The oldest server version that has everything the statements use.
const SERVER_VERSION_MIN: i64 = 130_000;

/// The lock of migrations: any number that no other program uses on this database.
const MIGRATION_LOCK: i64 = 0x6d65_7269_6469_616e;

/// How long a connection may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// A server's database.
#[derive(Clone)]
pub(super) struct Database {
    name: String,
    /// Host and port, or the socket's folder.
    place: String,
    pool: PgPool,
    stats: Arc<Stats>,
}

/// A transaction. Dropping it undoes it.
pub(super) struct Tx<'a> {
    inner: Transaction<'static, sqlx::Postgres>,
    stats: &'a Stats,
}

/// Connections to the database, opened when needed.
fn pool(options: &Options, size: u32) -> Result<PgPool, StoreError> {
    Ok(PgPoolOptions::new()
        .max_connections(size)
        .acquire_timeout(CONNECT_WITHIN)
        // A ping would be a second round trip. A connection that died meanwhile fails once.
        .test_before_acquire(false)
        .max_lifetime(None)
        .connect_lazy_with(connect_options(options)?))
}

/// How to connect.
pub(super) fn connect_options(options: &Options) -> Result<PgConnectOptions, StoreError> {
    let mut found: PgConnectOptions = if options.url.is_empty() {
        PgConnectOptions::new()
    } else {
        options.url.parse().map_err(|error: sqlx::Error| {
            StoreError::Invalid(format!("read the PostgreSQL URL: {error}"))
        })?
    };
    if options.host.starts_with('/') {
        found = found.socket(&options.host);
    } else if !options.host.is_empty() {
        found = found.host(&options.host);
    }
    if options.port != 0 {
        found = found.port(options.port);
    }
    if !options.user.is_empty() {
        found = found.username(&options.user);
    }
    if !options.password.is_empty() {
        found = found.password(&options.password);
    }
    if !options.database.is_empty() {
        found = found.database(&options.database);
    }
    let mode = match options.tls.mode {
        TlsMode::Unset => found.get_ssl_mode(),
        TlsMode::Disabled => PgSslMode::Disable,
        TlsMode::Preferred => PgSslMode::Prefer,
        TlsMode::Required => PgSslMode::Require,
        TlsMode::VerifiedCa => PgSslMode::VerifyCa,
        TlsMode::VerifiedHost => PgSslMode::VerifyFull,
    };
    found = found.ssl_mode(mode);
    if let Some(root_ca) = &options.tls.root_ca {
        found = found.ssl_root_cert(root_ca);
    }
    if let Some((certificate, key)) = &options.tls.certificate {
        found = found.ssl_client_cert(certificate).ssl_client_key(key);
    }
    // First, so that what the statements rely on wins.
    for (name, value) in &options.settings {
        found = match name.as_str() {
            "application_name" => found.application_name(value),
            _ => found.options([(name, value)]),
        };
    }
    if !options
        .settings
        .iter()
        .any(|(n, _)| n == "application_name")
    {
        found = found.application_name("meridian");
    }
    let settings = [
        ("synchronous_commit", "on"),
        ("default_transaction_isolation", "read committed"),
        ("jit", "off"),
        // A client that hangs in the middle of a transaction must not hold a shard's row for ever.
        ("idle_in_transaction_session_timeout", "30000"),
        ("tcp_keepalives_idle", "30"),
        ("tcp_keepalives_interval", "10"),
        ("tcp_keepalives_count", "3"),
    ];
    Ok(found.options(settings).disable_statement_logging())
}

/// Connects once and says why not, with the place and what to do: a pool only tells that it waited.
async fn reach(options: &PgConnectOptions, place: &str) -> Result<(), StoreError> {
    let answer = tokio::time::timeout(CONNECT_WITHIN, options.connect()).await;
    match answer {
        Ok(Ok(conn)) => {
            // It was only to see whether it can be had.
            let _ = conn.close().await;
            Ok(())
        }
        Ok(Err(error)) => Err(unreachable(options, place, &error)),
        Err(_) => Err(StoreError::Unavailable(format!(
            "PostgreSQL at {place} did not answer within {} s: see whether it runs there and whether a firewall is in between",
            CONNECT_WITHIN.as_secs()
        ))),
    }
}

fn unreachable(options: &PgConnectOptions, place: &str, error: &sqlx::Error) -> StoreError {
    let (user, database) = (
        options.get_username(),
        options.get_database().unwrap_or(options.get_username()),
    );
    match (code(error).as_deref(), error) {
        (Some("28P01" | "28000"), _) => StoreError::Invalid(format!(
            "PostgreSQL at {place} refuses user {user} ({error}): correct user and password, or let pg_hba.conf admit them"
        )),
        (Some("3D000"), _) => StoreError::Invalid(format!(
            "PostgreSQL at {place} has no database {database}: create it (createdb {database}), then run `meridian schema setup`"
        )),
        (_, sqlx::Error::Tls(_) | sqlx::Error::Configuration(_)) => StoreError::Invalid(format!(
            "TLS with PostgreSQL at {place} fails ({}): correct the database's tls keys, or let the server offer TLS",
            chain(error)
        )),
        (_, sqlx::Error::Io(cause)) if cause.kind() == io::ErrorKind::InvalidData => {
            StoreError::Invalid(format!(
                "TLS with PostgreSQL at {place} fails ({cause}): name the CAs of its certificate and a host that it is for"
            ))
        }
        (_, sqlx::Error::Io(cause)) => StoreError::Unavailable(format!(
            "PostgreSQL at {place} cannot be reached ({cause}): see whether it runs and whether the address is right"
        )),
        _ => fail_at(place, error),
    }
}

fn fail_at(place: &str, error: &sqlx::Error) -> StoreError {
    StoreError::Unavailable(format!("PostgreSQL at {place}: {}", chain(error)))
}

/// The error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_text = next.to_string();
        if !text.contains(&next_text) {
            text = format!("{text}: {next_text}");
        }
        cause = next.source();
    }
    text
}

impl Database {
    /// Connects for the first time, and says why it cannot.
    pub(super) async fn connect(
        options: &Options,
        size: u32,
        stats: &Arc<Stats>,
    ) -> Result<Self, StoreError> {
        let database = Self::lazy(options, size, stats)?;
        reach(&connect_options(options)?, &database.place).await?;
        Ok(database)
    }

    /// Connects when first used.
    pub(super) fn lazy(
        options: &Options,
        size: u32,
        stats: &Arc<Stats>,
    ) -> Result<Self, StoreError> {
        let found = connect_options(options)?;
        let place = match found.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", found.get_host(), found.get_port()),
        };
        Ok(Self {
            name: format!(
                "{} at {place}",
                found.get_database().unwrap_or(found.get_username())
            ),
            place,
            pool: pool(options, size)?,
            stats: stats.clone(),
        })
    }

    pub(super) async fn read(&self) -> Result<PoolConnection<sqlx::Postgres>, StoreError> {
        self.pool.acquire().await.map_err(|e| self.refused(e))
    }

    pub(super) async fn begin(&self) -> Result<Tx<'_>, StoreError> {
        Ok(Tx {
            inner: self.pool.begin().await.map_err(|e| self.refused(e))?,
            stats: &self.stats,
        })
    }

    /// Why no connection could be had.
    fn refused(&self, error: sqlx::Error) -> StoreError {
        match error {
            sqlx::Error::PoolTimedOut => StoreError::Unavailable(format!(
                "no connection to PostgreSQL at {} within {} s: it cannot be reached, or all connections (maxConns) are in use",
                self.place,
                CONNECT_WITHIN.as_secs()
            )),
            error => fail(error),
        }
    }

    pub(super) fn stats(&self) -> &Stats {
        &self.stats
    }

    pub(super) async fn server_version(&self) -> Result<i64, StoreError> {
        let mut conn = self.read().await?;
        let version = sqlx::query_as("SELECT current_setting('server_version_num')::BIGINT")
            .fetch_one(&mut *conn);
        let (version,): (i64,) = version.await.map_err(fail)?;
        Ok(version)
    }

    /// Looks at the schema, or upgrades it. Processes that start together wait for each other.
    pub(super) async fn migrate(&self, wish: Wish) -> Result<SchemaStatus, StoreError> {
        let version = self.server_version().await?;
        if version < SERVER_VERSION_MIN {
            return Err(StoreError::Invalid(format!(
                "{} runs PostgreSQL {}, older than 13, the oldest that works",
                self.name,
                version / 10_000
            )));
        }
        loop {
            let mut tx = self.begin().await?;
            if wish == Wish::Upgrade {
                sqlx::query("SELECT pg_advisory_xact_lock($1)")
                    .bind(MIGRATION_LOCK)
                    .execute(tx.conn())
                    .await
                    .map_err(fail)?;
            }
            let applied = applied(tx.conn()).await?;
            let pending = migrate::pending(&self.name, migrate::POSTGRES, &applied)?;
            match pending.first() {
                Some(step) if wish == Wish::Upgrade => {
                    apply(tx.conn(), step).await?;
                    tx.commit().await?;
                    tracing::info!(
                        database = self.name,
                        version = step.version,
                        step = step.name,
                        "schema step applied"
                    );
                }
                _ => {
                    return Ok(SchemaStatus {
                        database: self.name.clone(),
                        version: applied.last().map_or(0, |(version, _)| *version),
                        latest: migrate::newest(migrate::POSTGRES),
                    });
                }
            }
        }
    }
}

async fn applied(conn: &mut PgConnection) -> Result<Vec<(i64, String)>, StoreError> {
    let table =
        sqlx::query_as("SELECT to_regclass('schema_version') IS NOT NULL").fetch_one(&mut *conn);
    let (is_there,): (bool,) = table.await.map_err(fail)?;
    if !is_there {
        return Ok(Vec::new());
    }
    sqlx::query_as(migrate::APPLIED)
        .fetch_all(conn)
        .await
        .map_err(fail)
}

async fn apply(conn: &mut PgConnection, step: &Migration) -> Result<(), StoreError> {
    sqlx::raw_sql(migrate::VERSION_TABLE)
        .execute(&mut *conn)
        .await
        .map_err(fail)?;
    sqlx::raw_sql(step.sql)
        .execute(&mut *conn)
        .await
        .map_err(fail)?;
    sqlx::query(migrate::NOTE)
        .bind(step.version)
        .bind(step.name)
        .bind(step.checksum())
        .execute(conn)
        .await
        .map_err(fail)?;
    Ok(())
}

impl Tx<'_> {
    pub(super) fn conn(&mut self) -> &mut PgConnection {
        &mut self.inner
    }

    /// Commits, durably.
    pub(super) async fn commit(self) -> Result<(), StoreError> {
        if let Err(error) = self.inner.commit().await {
            let text = error.to_string();
            return Err(if is_in_doubt(&error) {
                StoreError::Unknown(text)
            } else {
                fail(error)
            });
        }
        Stats::add(&self.stats.transactions, 1);
        Ok(())
    }

    /// Makes commits and acquisitions of the shard wait for the end of this transaction.
    pub(super) async fn lock_shard(&mut self, shard: ShardId) -> Result<(), StoreError> {
        sqlx::query("SELECT 1 FROM shard WHERE shard_id = $1 FOR NO KEY UPDATE")
            .bind(i64::from(shard.get()))
            .execute(self.conn())
            .await
            .map_err(fail)?;
        Ok(())
    }
}
