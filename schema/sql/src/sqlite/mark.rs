//! A mark beside the database: which database is here, and its last acknowledged commit. A file that was deleted,
//! emptied, replaced by an older copy, or lost its write-ahead log is whole in itself and would be served without a
//! word; compared with the mark it is noticed.
//!
//! The mark is written after each commit, without a sync: files are deleted by people while the machine runs. After
//! a power failure it may be older than the database, never newer, since commits are synced before it is written. That
//! there is one is synced: a database that was served and has none is a copy that was put back.

use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use schema_store::StoreError;

use super::PRIVATE;

/// The mark always has this many bytes, so that a shorter one never leaves the end of a longer one behind.
const BYTES: usize = 256;
const TITLE: &str = "meridian mark 1";

/// The content of a mark.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Noted {
    /// The database, as its `user_version` names it.
    pub(super) database: i32,
    /// The last commit: its lane and number. None since the start when empty.
    pub(super) lane: String,
    pub(super) seq: i64,
}

/// An open mark.
#[derive(Debug)]
pub(super) struct Mark {
    file: File,
    path: PathBuf,
    database: i32,
}

impl Noted {
    /// The content of this database's mark; `None` when there is none, or none that was written whole.
    pub(super) fn read(database: &Path) -> Result<Option<Self>, StoreError> {
        let path = path_of(database);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
            Err(error) => Err(failed("read", &path, &error)),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (said, sum) = text.trim_end().rsplit_once("\nsum ")?;
        if sum != checksum(said) {
            return None;
        }
        let mut lines = said.lines();
        if lines.next()? != TITLE {
            return None;
        }
        let mut value = |key: &str| lines.next()?.strip_prefix(key)?.strip_prefix(' ');
        Some(Self {
            database: value("database")?.parse().ok()?,
            seq: value("seq")?.parse().ok()?,
            lane: value("lane")?.to_owned(),
        })
    }

    fn write(&self) -> String {
        let said = format!(
            "{TITLE}\ndatabase {}\nseq {}\nlane {}",
            self.database, self.seq, self.lane
        );
        let sum = checksum(&said);
        format!("{:<BYTES$}", format!("{said}\nsum {sum}"))
    }
}

impl Mark {
    /// Begins a mark of this database: nothing was committed since the start.
    pub(super) fn begin(path: &Path, database: i32) -> Result<Self, StoreError> {
        let path = path_of(path);
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(PRIVATE)
            .open(&path)
            .map_err(|error| failed("open", &path, &error))?;
        let mark = Self {
            file,
            path,
            database,
        };
        mark.put("", 0)
            .and_then(|()| mark.file.sync_all())
            .and_then(|()| match mark.path.parent() {
                Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
                _ => File::open(".")?.sync_all(),
            })
            .map_err(|error| failed("write", &mark.path, &error))?;
        Ok(mark)
    }

    /// Notes a commit that is durable. A failure is logged only: the commit has happened.
    pub(super) fn note(&self, lane: &str, seq: i64) {
        if let Err(error) = self.put(lane, seq) {
            tracing::debug!(mark = %self.path.display(), %error, "the last commit could not be noted");
        }
    }

    fn put(&self, lane: &str, seq: i64) -> io::Result<()> {
        let noted = Noted {
            database: self.database,
            lane: lane.to_owned(),
            seq,
        };
        self.file.write_all_at(noted.write().as_bytes(), 0)
    }
}

/// The mark's file.
pub(super) fn path_of(database: &Path) -> PathBuf {
    let mut path = database.to_path_buf().into_os_string();
    path.push(".mark");
    path.into()
}

/// FNV-1a: it need only notice that a write was cut.
fn checksum(text: &str) -> String {
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", text.bytes().fold(0xcbf2_9ce4_8422_2325, fold))
}

fn failed(step: &str, path: &Path, error: &io::Error) -> StoreError {
    StoreError::Unavailable(format!("{step} {}: {error}", path.display()))
}
