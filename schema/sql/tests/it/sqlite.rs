//! SQLite.

use std::{path::Path, sync::atomic::Ordering};

use proto_ids::{ShardId, Timestamp};
use schema_sql::{Options, SchemaStatus, schema_setup, schema_status, schema_upgrade};
use schema_store::{Store, StoreError};
use sqlx::{Connection, Row, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::{acquire, creation};

async fn open(folder: &Path) -> Store {
    schema_sql::open(Options::sqlite(folder.join("data/test.db")))
        .await
        .expect("open")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    let folder = tempfile::tempdir().expect("folder");
    let mut number = 0;
    schema_store::conformance::run(|| {
        number += 1;
        let folder = folder.path().join(number.to_string());
        async move { open(&folder).await }
    })
    .await;
}

#[tokio::test]
async fn a_second_process_is_refused_and_a_restart_goes_on() {
    let folder = tempfile::tempdir().expect("folder");
    let store = open(folder.path()).await;
    let now = Timestamp::from_millis(1);
    store
        .shard
        .shard_acquire(ShardId::new(1), "me", now)
        .await
        .expect("acquire");
    let second = schema_sql::open(Options::sqlite(folder.path().join("data/test.db"))).await;
    match second {
        Err(StoreError::Unavailable(text)) => {
            let process = format!("in use by another server (process {})", std::process::id());
            assert!(text.contains(&process), "{text}");
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("a second store opened the same file"),
    }
    drop(store);
    let store = open(folder.path()).await;
    let again = store
        .shard
        .shard_acquire(ShardId::new(1), "me", now)
        .await
        .expect("acquire");
    assert_eq!(again.range.get(), 2);
}

#[tokio::test]
async fn a_row_that_the_database_refuses_is_not_told_as_a_change_by_somebody_else() {
    let folder = tempfile::tempdir().expect("folder");
    let store = open(folder.path()).await;
    let options = SqliteConnectOptions::new().filename(folder.path().join("data/test.db"));
    let mut database = SqliteConnection::connect_with(&options)
        .await
        .expect("connect");
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON shard BEGIN SELECT RAISE(ABORT, 'not this one'); END";
    sqlx::raw_sql(refuse)
        .execute(&mut database)
        .await
        .expect("trigger");
    let refused = store
        .shard
        .shard_acquire(ShardId::new(1), "me", Timestamp::from_millis(1))
        .await;
    match refused {
        Err(StoreError::Invalid(text)) => assert!(text.contains("not this one"), "{text}"),
        other => panic!("{other:?}"),
    }
}

/// The shard's range in a database that consists of the main file alone.
async fn range_in_copy(file: &Path) -> i64 {
    let alone = tempfile::tempdir().expect("folder");
    let copy = alone.path().join("copy.db");
    std::fs::copy(file, &copy).expect("copy");
    let store = schema_sql::open(Options::sqlite(copy)).await.expect("open");
    let record = store.shard.shard_get(ShardId::new(1)).await.expect("read");
    record.map_or(0, |r| r.range.get())
}

#[tokio::test]
async fn after_a_checkpoint_the_main_file_alone_holds_everything() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("data/test.db");
    let store = open(folder.path()).await;
    acquire(&store).await;
    schema_sql::checkpoint(&Options::sqlite(&file))
        .await
        .expect("checkpoint");
    for log in ["data/test.db-wal", "data/test.db-visibility-wal"] {
        let left = std::fs::metadata(folder.path().join(log)).map_or(0, |m| m.len());
        assert_eq!(left, 0, "{log} still holds something");
    }
    assert_eq!(range_in_copy(&file).await, 1);
}

#[tokio::test]
async fn a_database_in_use_is_copied_as_it_is_at_one_moment() {
    let folder = tempfile::tempdir().expect("folder");
    let to = folder.path().join("copy");
    let options = Options::sqlite(folder.path().join("data/test.db"));
    let missing = schema_sql::backup(&options, &to)
        .await
        .expect_err("nothing is there");
    assert!(
        missing.to_string().contains("there is no database"),
        "{missing}"
    );

    let store = open(folder.path()).await;
    acquire(&store).await;
    let copied = schema_sql::backup(&options, &to).await.expect("backup");
    acquire(&store).await;
    let names: Vec<_> = copied.iter().map(|c| c.path.clone()).collect();
    assert_eq!(names, [to.join("test.db"), to.join("test.db-visibility")]);
    assert_eq!(range_in_copy(&to.join("test.db")).await, 1);

    let again = schema_sql::backup(&options, &to)
        .await
        .expect_err("it is there");
    assert!(again.to_string().contains("name a new folder"), "{again}");
}

#[tokio::test]
async fn schema_commands() {
    let folder = tempfile::tempdir().expect("folder");
    let options = Options::sqlite(folder.path().join("test.db"));
    let versions = |all: Vec<SchemaStatus>| {
        all.into_iter()
            .map(|s| (s.version, s.latest))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        versions(schema_status(&options).await.expect("status")),
        vec![(0, 4), (0, 2)]
    );
    assert_eq!(
        versions(schema_setup(&options).await.expect("setup")),
        vec![(4, 4), (2, 2)]
    );
    let again = schema_setup(&options).await;
    let again = again.expect_err("set up already").to_string();
    assert!(again.contains("has a schema already"), "{again}");
    assert_eq!(
        versions(schema_upgrade(&options).await.expect("upgrade")),
        vec![(4, 4), (2, 2)]
    );
    assert_eq!(
        versions(schema_status(&options).await.expect("status")),
        vec![(4, 4), (2, 2)]
    );
}

/// The schema as SQLite remembers it, without what differs only in layout.
async fn schema(path: &Path) -> Vec<String> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true);
    let mut conn = SqliteConnection::connect_with(&options)
        .await
        .expect("connect");
    let rows = sqlx::query(
        "SELECT type || ' ' || name || ': ' || coalesce(sql, '') FROM sqlite_master
         WHERE tbl_name <> 'schema_version' ORDER BY 1",
    );
    let rows = rows.fetch_all(&mut conn).await.expect("schema");
    rows.iter().map(|row| row.get::<String, _>(0)).collect()
}

#[tokio::test]
async fn steps_equal_the_create_scripts() {
    let folder = tempfile::tempdir().expect("folder");
    let file = |name: &str| folder.path().join(name);
    schema_setup(&Options::sqlite(file("steps.db")))
        .await
        .expect("setup");
    for (dialect, steps, rows) in [
        ("sqlite", "steps.db", 20),
        ("sqlite-visibility", "steps.db-visibility", 5),
    ] {
        let script = schema_sql::latest()
            .into_iter()
            .find(|(name, _)| *name == dialect)
            .expect("script")
            .1;
        let options = SqliteConnectOptions::new()
            .filename(file(dialect))
            .create_if_missing(true);
        let mut conn = SqliteConnection::connect_with(&options)
            .await
            .expect("connect");
        sqlx::raw_sql(script)
            .execute(&mut conn)
            .await
            .expect("script");
        conn.close().await.expect("close");
        let steps = schema(&file(steps)).await;
        assert!(steps.len() >= rows, "{steps:?}");
        assert_eq!(steps, schema(&file(dialect)).await);
    }
}

#[tokio::test]
async fn commits_are_counted() {
    let folder = tempfile::tempdir().expect("folder");
    let options = Options::sqlite(folder.path().join("test.db"));
    let stats = options.stats.clone();
    let store = schema_sql::open(options).await.expect("open");
    let fence = acquire(&store).await;
    let read = || {
        let all = [
            &stats.commit_batches,
            &stats.commit_updates,
            &stats.transactions,
            &stats.wal_syncs,
        ];
        all.map(|counter| counter.load(Ordering::Relaxed))
    };
    let before = read();
    for seq in 0..3 {
        store
            .execution
            .commit(creation(fence, seq, &format!("w{seq}")))
            .await
            .expect("commit");
    }
    let grown: Vec<u64> = read()
        .iter()
        .zip(before)
        .map(|(after, before)| after - before)
        .collect();
    assert_eq!(grown, [3, 3, 3, 3]);
}

/// Opens, commits some batches, and ends as told: cleanly or as if killed, by leaving its name in the lock.
async fn written(path: &Path, batches: i64, how: &str) {
    let store = schema_sql::open(Options::sqlite(path)).await.expect("open");
    let fence = acquire(&store).await;
    for seq in 1..=batches {
        let mut batch = creation(fence, seq, &format!("w-{}-{seq}", fence.range.get()));
        batch.lane = format!("lane of start {}", fence.range.get());
        store.execution.commit(batch).await.expect("commit");
    }
    drop(store);
    // The driver closes files on threads of its own. The last connection removes the log, unless two close at the same
    // time and each takes the other for the last; then one that comes and goes alone does.
    let begun = std::time::Instant::now();
    while beside(path, "-wal").exists() {
        assert!(begun.elapsed().as_secs() < 30, "the files stay open");
        let options = SqliteConnectOptions::new().filename(path);
        let alone = SqliteConnection::connect_with(&options).await;
        let mut alone = alone.expect("connect");
        let looked = sqlx::query("PRAGMA schema_version").execute(&mut alone);
        looked.await.expect("look");
        alone.close().await.expect("close");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    if how == "killed" {
        std::fs::write(beside(path, ".lock"), "1\n").expect("write");
    }
}

fn beside(path: &Path, suffix: &str) -> std::path::PathBuf {
    let mut path = path.to_path_buf().into_os_string();
    path.push(suffix);
    path.into()
}

async fn refused(path: &Path) -> String {
    match schema_sql::open(Options::sqlite(path)).await {
        Ok(_) => panic!("{} is served", path.display()),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn a_database_file_that_lost_what_was_acknowledged_is_noticed_with_its_name() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("west.db");
    let mark = beside(&path, ".mark");
    written(&path, 3, "cleanly").await;
    let older = std::fs::read(&path).expect("read");
    written(&path, 3, "killed").await;
    let whole = std::fs::read(&path).expect("read");

    type Damage<'a> = Box<dyn Fn() + 'a>;
    let cases: [(&str, Damage, &str); 4] = [
        (
            "emptied",
            Box::new(|| std::fs::write(&path, "").expect("write")),
            "is empty, although",
        ),
        (
            "deleted",
            Box::new(|| std::fs::remove_file(&path).expect("remove")),
            "is missing, although",
        ),
        (
            "an older copy",
            Box::new(|| std::fs::write(&path, &older).expect("write")),
            "lacks commits that were acknowledged",
        ),
        (
            "another database",
            Box::new(|| {
                let mut other = whole.clone();
                // The number that tells databases apart, in the header.
                other[60..64].copy_from_slice(&7_u32.to_be_bytes());
                std::fs::write(&path, other).expect("write");
            }),
            "is not the database that was here",
        ),
    ];
    for (what, spoil, expected) in &cases {
        for suffix in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(beside(&path, suffix));
        }
        spoil();
        let told = refused(&path).await;
        assert!(told.contains(expected), "{what}: {told}");
        assert!(told.contains(&path.display().to_string()), "{what}: {told}");
        assert!(told.contains(&mark.display().to_string()), "{what}: {told}");
        // Nothing was made or changed by the look.
        assert!(*what != "deleted" || !path.exists());
        std::fs::write(&path, &whole).expect("put back");
    }
    // What was put back is served, and so is an older copy once the operator says so.
    written(&path, 1, "cleanly").await;
    std::fs::write(&path, &older).expect("write");
    refused(&path).await;
    std::fs::remove_file(&mark).expect("remove");
    written(&path, 1, "cleanly").await;
    // Without the mark, the visibility file is witness enough.
    std::fs::remove_file(&mark).expect("remove");
    std::fs::remove_file(&path).expect("remove");
    assert!(
        refused(&path)
            .await
            .contains("west.db-visibility says that there was data")
    );
}

/// A process that dies between a commit and its note leaves a mark that is older than the database: nothing is missing.
#[tokio::test]
async fn a_mark_that_is_older_than_the_last_commit_is_no_loss() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("west.db");
    let store = schema_sql::open(Options::sqlite(&path))
        .await
        .expect("open");
    let fence = acquire(&store).await;
    let mut marks = Vec::new();
    for seq in 1..=3 {
        marks.push(std::fs::read(beside(&path, ".mark")).expect("read"));
        let batch = creation(fence, seq, &format!("w{seq}"));
        store.execution.commit(batch).await.expect("commit");
    }
    drop(store);
    // The driver closes files on threads of its own; the last one removes the log.
    let begun = std::time::Instant::now();
    while beside(&path, "-wal").exists() {
        assert!(begun.elapsed().as_secs() < 30, "the files stay open");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    for (n, older) in marks.iter().enumerate() {
        let died = folder.path().join(format!("died-{n}.db"));
        std::fs::copy(&path, &died).expect("copy");
        let lists = (beside(&path, "-visibility"), beside(&died, "-visibility"));
        std::fs::copy(lists.0, lists.1).expect("copy");
        std::fs::write(beside(&died, ".mark"), older).expect("write");
        let store = schema_sql::open(Options::sqlite(&died)).await;
        let store = store.unwrap_or_else(|e| panic!("mark {n}: {e}"));
        let runs = store.execution.run_list(fence.shard, None, 10).await;
        assert_eq!(runs.expect("read").len(), 3);
        assert!(!store.cluster.cluster_restored().await.expect("read"));
    }
}

/// A file that was served and lies without its mark is a copy that was put back. That stays known until somebody has
/// dealt with it, whoever dies meanwhile; a new file, a restart and a mark that was cut are none.
#[tokio::test]
async fn a_file_that_was_put_back_is_known_until_that_was_dealt_with() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("west.db");
    let mark = beside(&path, ".mark");
    let open = || schema_sql::open(Options::sqlite(&path));
    let is_copy = async || {
        let store = open().await.expect("open");
        store.cluster.cluster_restored().await.expect("read")
    };
    written(&path, 2, "cleanly").await;
    assert!(!is_copy().await, "a restart");
    std::fs::write(&mark, "cut").expect("write");
    assert!(!is_copy().await, "a power failure may cut the mark");
    std::fs::remove_file(&mark).expect("remove");
    assert!(is_copy().await);
    assert!(
        is_copy().await,
        "the mark that is there again changes nothing"
    );
    let store = open().await.expect("open");
    store
        .cluster
        .cluster_restored_settle()
        .await
        .expect("settle");
    drop(store);
    assert!(!is_copy().await);
}

#[tokio::test]
async fn damage_is_looked_for_after_an_unclean_stop() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("west.db");
    written(&path, 200, "killed").await;
    let mut bytes = std::fs::read(&path).expect("read");
    // All pages but the first two, which hold the schema.
    for page in bytes.chunks_mut(4096).skip(3) {
        page[..64].fill(0xa5);
    }
    std::fs::write(&path, bytes).expect("write");
    let told = refused(&path).await;
    assert!(
        told.contains("is damaged") && told.contains("west.db"),
        "{told}"
    );
}

#[tokio::test]
async fn files_are_readable_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("west.db");
    let store = schema_sql::open(Options::sqlite(&path))
        .await
        .expect("open");
    acquire(&store).await;
    let mut seen = 0;
    for entry in std::fs::read_dir(folder.path()).expect("list").flatten() {
        let mode = entry.metadata().expect("metadata").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.path());
        seen += 1;
    }
    assert!(seen >= 4, "{seen} files");
}
