//! Files that can be copied: the log written back into the main file when a server stops, and a copy of a
//! database that is in use.
//!
//! The invariant of a backup: what is in the copy of the main file has been asked of visibility before the copy of
//! visibility is made, so a restored cluster never misses a row that it believes to be written.

use std::{
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};

use schema_store::StoreError;
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};

use super::{databases, fail};
use crate::options::Sqlite as Options;

/// How long a checkpoint waits for readers.
const CHECKPOINT_WITHIN: Duration = Duration::from_secs(5);

/// A file of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The copy.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// Writes the logs of both files back and empties them. For when nothing else writes any more.
pub(crate) async fn checkpoint(options: &Options) -> Result<(), StoreError> {
    let (main, visibility) = databases(options);
    for path in [main.path, visibility.path] {
        let existing = SqliteConnectOptions::new()
            .filename(&path)
            .busy_timeout(CHECKPOINT_WITHIN)
            .disable_statement_logging();
        let mut conn = connect(&existing).await?;
        let (busy, _, _): (i64, i64, i64) = sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)")
            .fetch_one(&mut conn)
            .await
            .map_err(fail)?;
        conn.close().await.map_err(fail)?;
        if busy != 0 {
            return Err(StoreError::Unavailable(format!(
                "the log of {} was not written back, somebody still reads it",
                path.display()
            )));
        }
    }
    Ok(())
}

/// Copies both files into the folder, each as it was at one moment, while a server may be writing them. The
/// folder must not hold files of these names.
pub(crate) async fn backup(options: &Options, folder: &Path) -> Result<Vec<Copied>, StoreError> {
    let (main, visibility) = databases(options);
    std::fs::create_dir_all(folder).map_err(|e| broken("create", folder, e))?;
    let mut pairs = Vec::new();
    for from in [main.path, visibility.path] {
        let name = from.file_name().unwrap_or(from.as_os_str()).to_owned();
        let to = folder.join(name);
        if !from.exists() {
            return Err(StoreError::Invalid(format!(
                "there is no database {}",
                from.display()
            )));
        }
        if to.exists() {
            return Err(StoreError::Invalid(format!(
                "{} exists already: name a new folder",
                to.display()
            )));
        }
        pairs.push((from, to));
    }
    let mut copied = Vec::new();
    for (from, to) in pairs {
        copied.push(copy(&from, to).await?);
    }
    sync(folder)?;
    Ok(copied)
}

/// One file: written under another name, checked, synced, and only then given its name, so that a copy that was
/// interrupted is not taken for one.
async fn copy(from: &Path, to: PathBuf) -> Result<Copied, StoreError> {
    let mut partial = to.clone().into_os_string();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    match std::fs::remove_file(&partial) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(broken("remove", &partial, e));
        }
        _ => {}
    }
    private(&partial)?;
    let name = partial
        .to_str()
        .ok_or_else(|| StoreError::Invalid(format!("{} is not UTF-8", partial.display())))?;
    let source = SqliteConnectOptions::new()
        .filename(from)
        .busy_timeout(CHECKPOINT_WITHIN)
        .disable_statement_logging();
    let mut conn = connect(&source).await?;
    sqlx::query("VACUUM INTO $1")
        .bind(name)
        .execute(&mut conn)
        .await
        .map_err(fail)?;
    conn.close().await.map_err(fail)?;
    let written = SqliteConnectOptions::new()
        .filename(&partial)
        .read_only(true)
        .immutable(true)
        .disable_statement_logging();
    let mut conn = connect(&written).await?;
    let (found,): (String,) = sqlx::query_as("PRAGMA quick_check(1)")
        .fetch_one(&mut conn)
        .await
        .map_err(fail)?;
    conn.close().await.map_err(fail)?;
    if found != "ok" {
        return Err(StoreError::Corrupt(format!(
            "the copy of {} is damaged: {found}",
            from.display()
        )));
    }
    sync(&partial)?;
    std::fs::rename(&partial, &to).map_err(|e| broken("rename", &partial, e))?;
    let bytes = std::fs::metadata(&to).map_err(|e| broken("look at", &to, e))?;
    Ok(Copied {
        bytes: bytes.len(),
        path: to,
    })
}

/// An empty file that only its owner may read: SQLite writes into one that exists and is empty.
fn private(path: &Path) -> Result<(), StoreError> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|e| broken("create", path, e))?;
    Ok(())
}

async fn connect(options: &SqliteConnectOptions) -> Result<SqliteConnection, StoreError> {
    SqliteConnection::connect_with(options).await.map_err(fail)
}

fn sync(path: &Path) -> Result<(), StoreError> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(|e| broken("sync", path, e))
}

fn broken(step: &str, path: &Path, error: std::io::Error) -> StoreError {
    StoreError::Unavailable(format!("{step} {}: {error}", path.display()))
}
