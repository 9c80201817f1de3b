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
        vec![(0, 4), (0, 1)]
    );
    assert_eq!(
        versions(schema_setup(&options).await.expect("setup")),
        vec![(4, 4), (1, 1)]
    );
    let again = schema_setup(&options).await;
    let again = again.expect_err("set up already").to_string();
    assert!(again.contains("has a schema already"), "{again}");
    assert_eq!(
        versions(schema_upgrade(&options).await.expect("upgrade")),
        vec![(4, 4), (1, 1)]
    );
    assert_eq!(
        versions(schema_status(&options).await.expect("status")),
        vec![(4, 4), (1, 1)]
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
