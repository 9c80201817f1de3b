//! One process per file. SQLite would let two in, and each would believe in its own caches; the lock refuses
//! the second one with a text that tells whom it meets. The system drops the lock when the process ends,
//! however it ends.

use std::{
    fs::{File, TryLockError},
    io::{Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use schema_store::StoreError;

/// A lock on `FILE.lock`, held until dropped.
#[derive(Debug)]
pub(super) struct FileLock {
    file: File,
}

/// How the last process that had the database ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    /// It closed the database, or there was none.
    Cleanly,
    /// It died.
    Uncleanly,
}

impl FileLock {
    /// Takes the lock of the database file, creating its folder on the way.
    pub(super) fn take(database: &Path) -> Result<(Self, Stopped), StoreError> {
        let path = lock_path(database);
        let broken = |step: &str, error: std::io::Error| {
            StoreError::Unavailable(format!("{step} {}: {error}", path.display()))
        };
        if let Some(folder) = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            std::fs::create_dir_all(folder)
                .map_err(|error| broken("create the folder of", error))?;
        }
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(super::PRIVATE)
            .open(&path)
            .map_err(|error| broken("open", error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                let _ = file.read_to_string(&mut owner);
                return Err(StoreError::Unavailable(format!(
                    "the database {} is in use by another server (process {}): stop that one first, or give this \
                     one a data folder of its own",
                    database.display(),
                    if owner.trim().is_empty() {
                        "unknown"
                    } else {
                        owner.trim()
                    },
                )));
            }
            Err(TryLockError::Error(error)) => return Err(broken("lock", error)),
        }
        let mut before = String::new();
        // What cannot be read as text was cut.
        let stopped = match file.read_to_string(&mut before) {
            Ok(0) => Stopped::Cleanly,
            _ => Stopped::Uncleanly,
        };
        let note = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        note.map_err(|error| broken("write", error))?;
        Ok((Self { file }, stopped))
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // An empty file says that all was closed in good order; if it stays, the next start checks more.
        let _ = self.file.set_len(0);
    }
}

fn lock_path(database: &Path) -> PathBuf {
    let mut path = database.to_path_buf().into_os_string();
    path.push(".lock");
    path.into()
}
