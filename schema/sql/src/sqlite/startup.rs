//! Checks before a database file is served: that it is the one that was here, with all that was
//! acknowledged, and after an unclean stop that it is whole.

use std::{
    path::{Path, PathBuf},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use schema_store::StoreError;
use sqlx::SqliteConnection;

use super::{
    database::Database,
    fail,
    lock::Stopped,
    mark::{Mark, Noted, path_of},
};

/// In the header (`application_id`) of a database that is a copy which was put back, until conclusions were drawn.
const COPY: i32 = 0x636f_7079;

/// Looks at the files before SQLite makes a new one where one is missing.
pub(super) fn check_files(
    main: &Path,
    beside: &Path,
    noted: Option<&Noted>,
) -> Result<(), StoreError> {
    if has_content(main) {
        if noted.is_some() && !has_content(beside) {
            tracing::error!(
                file = %beside.display(),
                "the visibility file is gone and is made anew: lists lack the workflows of before until they change"
            );
        }
        return Ok(());
    }
    let log = with_suffix(main, "-wal");
    let witness = if noted.is_some() {
        path_of(main)
    } else if has_content(beside) {
        beside.to_path_buf()
    } else if has_content(&log) {
        log
    } else {
        return Ok(());
    };
    Err(lost(
        main,
        &format!(
            "is {}, although {} says that there was data",
            if main.exists() { "empty" } else { "missing" },
            witness.display()
        ),
        &format!(
            "to begin with nothing, remove {} as well",
            witness.display()
        ),
    ))
}

/// Compares the open database with the mark, and begins a new one.
pub(super) async fn check_mark(
    db: &Database,
    main: &Path,
    noted: Option<&Noted>,
) -> Result<Mark, StoreError> {
    let mut writer = db.writer().await;
    let id = sqlx::query_as("PRAGMA user_version").fetch_one(&mut writer.conn);
    let (mut id,): (i32,) = id.await.map_err(fail)?;
    let go_on = format!(
        "to go on with what is here, and without the rest, remove {}: the cluster then counts as one that was restored",
        path_of(main).display()
    );
    if let Some(noted) = noted {
        if id != noted.database {
            return Err(lost(
                main,
                "is not the database that was here: it was replaced, or the log beside it (-wal) was removed",
                &go_on,
            ));
        }
        if !noted.lane.is_empty() {
            let last = sqlx::query_as("SELECT max(seq) FROM lane_commit WHERE lane = $1")
                .bind(&noted.lane)
                .fetch_one(&mut writer.conn);
            let (last,): (Option<i64>,) = last.await.map_err(fail)?;
            if last.is_none_or(|last| last < noted.seq) {
                return Err(lost(
                    main,
                    "lacks commits that were acknowledged: the log beside it (-wal) was removed or damaged, or the file is an \
                     older copy",
                    &go_on,
                ));
            }
        }
    }
    if id != 0 && !path_of(main).exists() {
        // It was served before, and not here: what it lacks others may have. Stays true until that was dealt with.
        note_copy(&mut writer.conn, COPY).await?;
    }
    if id == 0 {
        id = some_number();
        // Takes no parameters.
        let text = format!("PRAGMA user_version = {id}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(text))
            .execute(&mut writer.conn)
            .await
            .map_err(fail)?;
    }
    Mark::begin(main, id)
}

/// Whether the database is a copy that was put back, and nobody has drawn conclusions from it.
pub(super) async fn is_copy(db: &Database) -> Result<bool, StoreError> {
    let mut writer = db.writer().await;
    let noted = sqlx::query_as("PRAGMA application_id").fetch_one(&mut writer.conn);
    let (noted,): (i32,) = noted.await.map_err(fail)?;
    Ok(noted == COPY)
}

/// Conclusions were drawn.
pub(super) async fn settle_copy(db: &Database) -> Result<(), StoreError> {
    note_copy(&mut db.writer().await.conn, 0).await
}

async fn note_copy(conn: &mut SqliteConnection, number: i32) -> Result<(), StoreError> {
    // Takes no parameters.
    let text = format!("PRAGMA application_id = {number}");
    let noted = sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(conn).await;
    noted.map(|_| ()).map_err(fail)
}

/// After a process that died: reads every page, once.
pub(super) async fn check_pages(
    db: &Database,
    file: &Path,
    stopped: Stopped,
) -> Result<(), StoreError> {
    if stopped == Stopped::Cleanly {
        return Ok(());
    }
    let begun = Instant::now();
    let mut writer = db.writer().await;
    let found = sqlx::query_as("PRAGMA quick_check(3)").fetch_all(&mut writer.conn);
    let found: Vec<(String,)> = found
        .await
        .map_err(|error| damaged(file, &error.to_string()))?;
    match found.as_slice() {
        [(only,)] if only == "ok" => {
            tracing::info!(file = %file.display(), took_ms = begun.elapsed().as_millis() as u64,
                "checked after an unclean stop");
            Ok(())
        }
        problems => {
            let problems: Vec<_> = problems.iter().map(|(text,)| text.as_str()).collect();
            Err(damaged(file, &problems.join("; ")))
        }
    }
}

/// The file is not what SQLite wrote.
pub(super) fn damaged(file: &Path, problem: &str) -> StoreError {
    StoreError::Corrupt(format!(
        "the database file {} is damaged ({problem}): keep a copy, then put back a backup of it",
        file.display()
    ))
}

fn lost(file: &Path, what: &str, go_on: &str) -> StoreError {
    StoreError::Invalid(format!(
        "the database file {} {what}. Nothing was changed. Put it back with the files beside it; {go_on}",
        file.display()
    ))
}

fn has_content(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|m| m.len() > 0)
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.to_path_buf().into_os_string();
    path.push(suffix);
    path.into()
}

/// Tells this database from others; positive.
fn some_number() -> i32 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mixed = now.as_nanos() as u64 ^ (u64::from(std::process::id()) << 32);
    let mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    ((mixed >> 33) as i32).max(1)
}
