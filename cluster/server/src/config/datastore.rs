//! Which database, from the keys of Temporal's datastores.

use std::path::{Path, PathBuf};

use schema_sql::{Postgres, PostgresTls, TlsMode};

use super::{
    ConfigError,
    file::{self, DatabaseTls, Scalar},
    trust,
};

/// The database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatastoreConfig {
    /// Nothing is kept.
    Memory,
    /// One file, owned by one process.
    Sqlite {
        /// The file.
        path: PathBuf,
    },
    /// A PostgreSQL server.
    Postgres(Box<Postgres>),
}

impl DatastoreConfig {
    /// Whether no other process can be part of the cluster, since none could share the database.
    pub fn is_of_one_process(&self) -> bool {
        !matches!(self, Self::Postgres(_))
    }
}

pub(super) fn datastore(persistence: &file::Persistence) -> Result<DatastoreConfig, ConfigError> {
    let name = persistence.default_store.as_deref().unwrap_or("default");
    let store = persistence.datastores.get(name).ok_or_else(|| {
        let known: Vec<_> = persistence.datastores.keys().map(String::as_str).collect();
        ConfigError::value(
            "persistence.defaultStore",
            format!(
                "`{name}` is not among persistence.datastores ({})",
                known.join(", ")
            ),
        )
    })?;
    if let Some(visibility) = &persistence.visibility_store
        && !persistence.datastores.contains_key(visibility)
    {
        return Err(ConfigError::value(
            "persistence.visibilityStore",
            format!("`{visibility}` is not among persistence.datastores"),
        ));
    }
    let key = format!("persistence.datastores.{name}.sql");
    let sql = store
        .sql
        .as_ref()
        .ok_or_else(|| ConfigError::value(&key, "is missing; only SQL datastores are supported"))?;
    match sql.plugin_name.as_str() {
        "sqlite" => sqlite(&key, sql),
        "postgres12" | "postgres12_pgx" => {
            Ok(DatastoreConfig::Postgres(Box::new(postgres(&key, sql)?)))
        }
        other => Err(ConfigError::value(
            format!("{key}.pluginName"),
            format!("`{other}` is not supported; use sqlite, postgres12 or postgres12_pgx"),
        )),
    }
}

fn sqlite(key: &str, sql: &file::Sql) -> Result<DatastoreConfig, ConfigError> {
    let mut is_memory = sql.database_name == ":memory:";
    for (name, value) in &sql.connect_attributes {
        match (name.as_str(), value.to_string().as_str()) {
            ("mode", "memory") => is_memory = true,
            ("mode", "rwc" | "rw")
            | ("cache", "private" | "shared")
            | ("setup", "true")
            | ("journal_mode" | "_journal_mode", "wal" | "WAL" | "Wal")
            | ("synchronous" | "_synchronous", "2" | "full" | "FULL") => {}
            (_, value) => {
                return Err(ConfigError::value(
                    format!("{key}.connectAttributes.{name}"),
                    format!(
                        "`{value}` cannot be had: the file is opened for writing, with a write-ahead log and a sync per commit; remove the key"
                    ),
                ));
            }
        }
    }
    if sql.tls.as_ref().is_some_and(|tls| tls.enabled) {
        return Err(ConfigError::value(
            format!("{key}.tls.enabled"),
            "a file is not reached over a network; remove the key",
        ));
    }
    match (is_memory, sql.database_name.is_empty()) {
        (true, _) => Ok(DatastoreConfig::Memory),
        (false, false) => Ok(DatastoreConfig::Sqlite {
            path: sql.database_name.clone().into(),
        }),
        (false, true) => Err(ConfigError::value(
            format!("{key}.databaseName"),
            "has to name the database file",
        )),
    }
}

fn postgres(key: &str, sql: &file::Sql) -> Result<Postgres, ConfigError> {
    let (host, port) = place(key, sql)?;
    let mut found = Postgres {
        host,
        port,
        user: sql.user.clone(),
        password: sql.password.expose().to_owned(),
        database: sql.database_name.clone(),
        pool_size: sql.max_conns.unwrap_or(10),
        ..Default::default()
    };
    attributes(key, sql, &mut found)?;
    if let Some(tls) = &sql.tls {
        found.tls = database_tls(&format!("{key}.tls"), tls, &found)?;
    }
    Ok(found)
}

/// The host, or the folder of the socket, and the port; 0 for the default one.
fn place(key: &str, sql: &file::Sql) -> Result<(String, u16), ConfigError> {
    let address = &sql.connect_addr;
    let wrong = |problem: String| ConfigError::value(format!("{key}.connectAddr"), problem);
    let is_socket = match sql.connect_protocol.as_deref() {
        None | Some("" | "tcp") => address.starts_with('/'),
        Some("unix") => true,
        Some(other) => {
            return Err(ConfigError::value(
                format!("{key}.connectProtocol"),
                format!("`{other}` is neither `tcp` nor `unix`"),
            ));
        }
    };
    if is_socket && !address.starts_with('/') {
        return Err(wrong(format!(
            "`{address}` is not the folder of a unix socket, like /run/postgresql"
        )));
    }
    let (host, port) = match address.rsplit_once(':') {
        // Without a port, the last colon of an IPv6 address is not the port's.
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            let number = port.parse();
            (
                host,
                number.map_err(|_| wrong(format!("`{port}` is not a port")))?,
            )
        }
        _ => (address.as_str(), 0),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Err(wrong("has to be host:port of the database server".into()));
    }
    Ok((host.to_owned(), port))
}

fn attributes(key: &str, sql: &file::Sql, found: &mut Postgres) -> Result<(), ConfigError> {
    let tls = &mut found.tls;
    let mut certificate = (None, None);
    for (name, value) in &sql.connect_attributes {
        let key = format!("{key}.connectAttributes.{name}");
        let text = value.to_string();
        match name.as_str() {
            "sslmode" => tls.mode = ssl_mode(&key, &text)?,
            "sslrootcert" => tls.root_ca = Some(text.into()),
            "sslcert" => certificate.0 = Some(text.into()),
            "sslkey" => certificate.1 = Some(text.into()),
            "user" | "password" | "host" | "hostaddr" | "port" | "dbname" | "passfile"
            | "service" | "sslpassword" | "connect_timeout" => {
                return Err(ConfigError::value(
                    key,
                    "is not taken from here; user, password, connectAddr and databaseName have keys of their own",
                ));
            }
            // As libpq does: what is no word of the protocol is a setting of the session.
            _ => found.settings.push((name.clone(), setting(value))),
        }
    }
    tls.certificate = match certificate {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => {
            return Err(ConfigError::value(
                format!("{key}.connectAttributes"),
                "sslcert and sslkey go together",
            ));
        }
    };
    Ok(())
}

fn setting(value: &Scalar) -> String {
    match value {
        Scalar::Bool(true) => "on".into(),
        Scalar::Bool(false) => "off".into(),
        other => other.to_string(),
    }
}

fn ssl_mode(key: &str, text: &str) -> Result<TlsMode, ConfigError> {
    Ok(match text {
        "disable" => TlsMode::Disabled,
        "prefer" => TlsMode::Preferred,
        "require" => TlsMode::Required,
        "verify-ca" => TlsMode::VerifiedCa,
        "verify-full" => TlsMode::VerifiedHost,
        other => {
            return Err(ConfigError::value(
                key,
                format!(
                    "`{other}` is not supported; use disable, prefer, require, verify-ca or verify-full"
                ),
            ));
        }
    })
}

fn database_tls(
    key: &str,
    tls: &DatabaseTls,
    found: &Postgres,
) -> Result<PostgresTls, ConfigError> {
    let value =
        |name: &str, problem: &str| Err(ConfigError::value(format!("{key}.{name}"), problem));
    let given = |path: &Path| !path.as_os_str().is_empty();
    trust::refuse_inline(
        key,
        &[
            ("caData", tls.ca_data),
            ("certData", tls.cert_data),
            ("keyData", tls.key_data),
        ],
    )?;
    let names_files = given(&tls.ca_file) || given(&tls.cert_file) || given(&tls.key_file);
    if !tls.enabled {
        if names_files {
            return value(
                "enabled",
                "is false although certificates are named; set it to true",
            );
        }
        return Ok(found.tls.clone());
    }
    if found.host.starts_with('/') {
        return value(
            "enabled",
            "a unix socket cannot be encrypted; remove the key",
        );
    }
    if given(&tls.cert_file) != given(&tls.key_file) {
        return value("certFile", "certFile and keyFile go together");
    }
    if !tls.server_name.is_empty() && tls.server_name != found.host {
        return value(
            "serverName",
            "has to be the host of connectAddr, whose name the certificate is compared with; call the database by that name, or set enableHostVerification to false",
        );
    }
    let mode = match (tls.enable_host_verification, given(&tls.ca_file)) {
        (true, _) => TlsMode::VerifiedHost,
        (false, true) => TlsMode::VerifiedCa,
        (false, false) => TlsMode::Required,
    };
    Ok(PostgresTls {
        mode,
        root_ca: Some(tls.ca_file.clone()).filter(|f| given(f)),
        certificate: given(&tls.cert_file).then(|| (tls.cert_file.clone(), tls.key_file.clone())),
    })
}
