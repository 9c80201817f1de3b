//! Which database, and where.

use std::{fmt, path::PathBuf, sync::Arc};

use crate::stats::Stats;

/// The database to open.
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
#[derive(Clone, PartialEq, Eq)]
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
    /// Encryption.
    pub tls: PostgresTls,
    /// Settings of every session, by name.
    pub settings: Vec<(String, String)>,
}

/// How connections to a PostgreSQL server are encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PostgresTls {
    /// The TLS mode.
    pub mode: TlsMode,
    /// CAs that its certificate must come from, PEM; by default those of the web.
    pub root_ca: Option<PathBuf>,
    /// The client's certificate and its key, PEM.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// The TLS mode: what is verified of a server before it is trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// As the URL or the environment says; otherwise encryption where the server offers it.
    #[default]
    Unset,
    /// Plaintext.
    Disabled,
    /// Encryption where the server offers it.
    Preferred,
    /// Encryption, without verifying the server.
    Required,
    /// A certificate from the CAs, whatever name it has.
    VerifiedCa,
    /// A certificate from the CAs that names the host.
    VerifiedHost,
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
            tls: PostgresTls::default(),
            settings: Vec::new(),
        }
    }
}

/// Without the password, and without the URL, which may hold one.
impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("user", &self.user)
            .field("database", &self.database)
            .field("pool_size", &self.pool_size)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}
