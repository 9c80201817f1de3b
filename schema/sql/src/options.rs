//! Which database, and where.

use std::{path::PathBuf, sync::Arc};

use crate::stats::Stats;

/// What to open.
#[derive(Clone, Debug)]
pub struct Options {
    /// The database.
    pub plugin: Plugin,
    /// Whether opening a PostgreSQL database may create or upgrade its schema. An embedded one always may.
    pub auto_setup: bool,
    /// Counts what the store does; keep a clone to read it.
    pub stats: Arc<Stats>,
}

/// The databases.
#[derive(Clone, Debug)]
pub enum Plugin {
    /// Embedded.
    Sqlite(Sqlite),
    /// A server.
    Postgres(Postgres),
}

/// An embedded database.
#[derive(Clone, Debug)]
pub struct Sqlite {
    /// The file. Beside it are `FILE-visibility`, `FILE.lock` and what SQLite itself adds.
    pub path: PathBuf,
    /// Nothing is written to disk and all is gone at the end: `path` is not used.
    pub ephemeral: bool,
    /// Connections for reads, per file.
    pub readers: u32,
}

/// A PostgreSQL server. An empty `url` means the other fields, an empty field its usual default.
#[derive(Clone, Debug)]
pub struct Postgres {
    /// `postgres://user:password@host:port/database?...`
    pub url: String,
    /// Host name, or the folder of a Unix socket.
    pub host: String,
    /// Port; 0 for the default.
    pub port: u16,
    /// User.
    pub user: String,
    /// Password.
    pub password: String,
    /// Database.
    pub database: String,
    /// Most connections.
    pub pool_size: u32,
}

impl Options {
    /// The plugin with everything else at its default.
    pub fn new(plugin: Plugin) -> Self {
        Self {
            plugin,
            auto_setup: false,
            stats: Arc::default(),
        }
    }

    /// An embedded database in this file.
    pub fn sqlite(path: impl Into<PathBuf>) -> Self {
        Self::new(Plugin::Sqlite(Sqlite {
            path: path.into(),
            ..Sqlite::default()
        }))
    }

    /// A store that lives as long as the process.
    pub fn ephemeral() -> Self {
        Self::new(Plugin::Sqlite(Sqlite {
            ephemeral: true,
            ..Sqlite::default()
        }))
    }

    /// The PostgreSQL database that the URL names.
    pub fn postgres(url: impl Into<String>) -> Self {
        Self::new(Plugin::Postgres(Postgres {
            url: url.into(),
            ..Postgres::default()
        }))
    }
}

impl Default for Sqlite {
    fn default() -> Self {
        Self {
            path: PathBuf::from("meridian.db"),
            ephemeral: false,
            readers: 2,
        }
    }
}

impl Default for Postgres {
    fn default() -> Self {
        Self {
            url: String::new(),
            host: String::new(),
            port: 0,
            user: String::new(),
            password: String::new(),
            database: String::new(),
            pool_size: 10,
        }
    }
}
