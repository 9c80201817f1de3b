//! PostgreSQL. One test, since starting a server costs seconds.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use proto_ids::RunKey;
use schema_sql::{Options, WalCounters, schema_setup, schema_status, schema_upgrade};
use schema_store::{CommitError, Store};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use crate::{
    acquire, creation,
    cutter::{Cut, Cutter},
    deletion,
    server::Server,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres() {
    let Some(server) = Server::start().await else {
        return;
    };
    schema_commands(&server).await;
    steps_equal_the_create_script(&server).await;
    conforms(&server).await;
    an_acquisition_waits_for_a_commit_under_way(&server).await;
    cut_during_commit(&server, Cut::Answer).await;
    cut_during_commit(&server, Cut::Request).await;
    hot_statements_use_keys(&server).await;
    the_log_is_counted(&server).await;
}

async fn open(server: &Server, database: &str) -> Store {
    schema_sql::open(server.options(database))
        .await
        .expect("open")
}

/// Leaves a database that is set up, for copies.
async fn schema_commands(server: &Server) {
    server.run("postgres", "CREATE DATABASE ready").await;
    let options = server.options("ready");
    let refused = schema_sql::open(options.clone())
        .await
        .err()
        .map(|error| error.to_string());
    let refused = refused.expect("an empty database is refused");
    assert!(refused.contains("`meridian schema setup`"), "{refused}");
    let before = schema_status(&options).await.expect("status");
    assert_eq!((before[0].version, before.len()), (0, 1));
    let both = futures::join!(schema_setup(&options), schema_upgrade(&options));
    assert!(both.1.is_ok(), "{both:?}");
    let again = schema_setup(&options).await;
    let again = again.expect_err("set up already").to_string();
    assert!(again.contains("has a schema already"), "{again}");
    let after = schema_status(&options).await.expect("status");
    assert_eq!(after[0].version, after[0].latest);
    drop(schema_sql::open(options).await.expect("open"));
    wait_for_no_connection(server, "ready").await;
    let mut setup = server.options("postgres");
    setup.auto_setup = true;
    drop(
        schema_sql::open(setup)
            .await
            .expect("open sets up when told to"),
    );
}

async fn wait_for_no_connection(server: &Server, database: &str) {
    let mut conn = PgConnection::connect(&server.url("postgres"))
        .await
        .expect("connect");
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let count =
            sqlx::query("SELECT count(*) FROM pg_stat_activity WHERE datname = $1").bind(database);
        if count
            .fetch_one(&mut conn)
            .await
            .expect("count")
            .get::<i64, _>(0)
            == 0
        {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "connections to {database} stay open"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn schema(server: &Server, database: &str) -> Vec<String> {
    let mut conn = PgConnection::connect(&server.url(database))
        .await
        .expect("connect");
    let sql = "SELECT format('column %s.%s %s %s %s %s', table_name, column_name, data_type, is_nullable,
            collation_name, column_default) AS what
            FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'schema_version'
        UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'schema_version'
        UNION ALL SELECT format('options %s %s', relname, reloptions) FROM pg_class
            WHERE relnamespace = 'public'::regnamespace AND relname NOT LIKE 'schema_version%'
        UNION ALL SELECT format('constraint %s %s', conrelid::regclass, pg_get_constraintdef(oid)) FROM pg_constraint
            WHERE connamespace = 'public'::regnamespace AND conrelid <> to_regclass('schema_version')
        UNION ALL SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
        UNION ALL SELECT format('counter %s', version) FROM namespace_counter
        ORDER BY 1";
    let rows = sqlx::query(sql).fetch_all(&mut conn).await.expect("schema");
    rows.iter()
        .filter_map(|row| row.get::<Option<String>, _>(0))
        .collect()
}

async fn steps_equal_the_create_script(server: &Server) {
    server.run("postgres", "CREATE DATABASE script").await;
    let (_, script) = schema_sql::latest()
        .into_iter()
        .find(|(dialect, _)| *dialect == "postgres")
        .expect("script");
    // The other road leaves the version table out; the statement that reads the schema wants one to skip.
    server
        .run("script", "CREATE TABLE schema_version (version BIGINT)")
        .await;
    server.run("script", script).await;
    let (steps, script) = (
        schema(server, "ready").await,
        schema(server, "script").await,
    );
    assert!(steps.len() > 100, "{steps:?}");
    assert_eq!(steps, script);
}

async fn fresh(server: &Server, database: &str) {
    wait_for_no_connection(server, "ready").await;
    server
        .run(
            "postgres",
            &format!("CREATE DATABASE {database} TEMPLATE ready"),
        )
        .await;
}

async fn conforms(server: &Server) {
    let mut number = 0;
    schema_store::conformance::run(|| {
        number += 1;
        let database = format!("case_{number}");
        async move {
            fresh(server, &database).await;
            open(server, &database).await
        }
    })
    .await;
}

/// A commit that has checked its fence holds the shard's row; whoever acquires the shard waits for its end.
async fn an_acquisition_waits_for_a_commit_under_way(server: &Server) {
    fresh(server, "waiting").await;
    let store = open(server, "waiting").await;
    let fence = acquire(&store).await;
    let mut commit = PgConnection::connect(&server.url("waiting"))
        .await
        .expect("connect");
    let under_way = "BEGIN; SELECT * FROM shard WHERE shard_id = 1 FOR NO KEY UPDATE;
        INSERT INTO lane_commit (lane, slot, seq) VALUES ('lane', 7, 7)";
    sqlx::raw_sql(under_way)
        .execute(&mut commit)
        .await
        .expect("begin");
    let taken = acquire(&store);
    let ended = async {
        let mut watch = PgConnection::connect(&server.url("waiting"))
            .await
            .expect("connect");
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let waits = "SELECT count(*) FROM pg_stat_activity
                WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT INTO shard%'";
            if sqlx::query(waits)
                .fetch_one(&mut watch)
                .await
                .expect("watch")
                .get::<i64, _>(0)
                == 1
            {
                break;
            }
            assert!(Instant::now() < deadline, "the acquisition does not wait");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        sqlx::raw_sql("COMMIT")
            .execute(&mut commit)
            .await
            .expect("commit");
    };
    let (taken, ()) = futures::join!(taken, ended);
    assert_eq!(taken.range, fence.range.next());
    assert!(
        store
            .execution
            .commit_happened("lane", 7)
            .await
            .expect("happened")
    );
}

/// The connection breaks during COMMIT: the outcome is unknown, and is settled by acquiring and asking.
async fn cut_during_commit(server: &Server, cut: Cut) {
    let database = format!("cut_{}", cut as u8);
    fresh(server, &database).await;
    let direct = open(server, &database).await;
    let cutter = Cutter::start(server.port);
    let url = format!(
        "postgres://meridian@127.0.0.1:{}/{database}?sslmode=disable",
        cutter.port
    );
    let store = schema_sql::open(Options::postgres(url))
        .await
        .expect("open");
    let fence = acquire(&direct).await;
    store
        .execution
        .commit(creation(fence, 1, "before"))
        .await
        .expect("commit");
    cutter.arm(cut);
    let outcome = store.execution.commit(creation(fence, 2, "cut")).await;
    assert!(
        matches!(outcome, Err(CommitError::Unknown(_))),
        "{cut:?}: {outcome:?}"
    );
    let next = acquire(&direct).await;
    let happened = direct
        .execution
        .commit_happened("lane", 2)
        .await
        .expect("happened");
    assert_eq!(happened, cut == Cut::Answer);
    let key = RunKey::new("ns", "cut", "run");
    let run = direct
        .execution
        .run_load(fence.shard, &key)
        .await
        .expect("load");
    assert_eq!(
        run.is_some(),
        happened,
        "the run is there exactly if the batch is"
    );
    let late = store.execution.commit(creation(fence, 3, "late")).await;
    assert!(matches!(late, Err(CommitError::Fenced(_))), "{late:?}");
    let after = store.execution.commit(creation(next, 3, "after")).await;
    after.expect("the store goes on with a new connection");
}

/// Plans are made while the tables are empty and kept while they grow: none may scan one.
async fn hot_statements_use_keys(server: &Server) {
    let store = open(server, "waiting").await;
    let fence = acquire(&store).await;
    let before = scans(server).await;
    for seq in 0..20 {
        let workflow = format!("w{seq}");
        store
            .execution
            .commit(creation(fence, seq * 2, &workflow))
            .await
            .expect("commit");
        store
            .execution
            .commit(deletion(fence, seq * 2 + 1, &workflow))
            .await
            .expect("commit");
    }
    drop(store);
    wait_for_no_connection(server, "waiting").await;
    assert_eq!(
        scans(server).await,
        before,
        "sequential scans by 40 commits"
    );
}

async fn scans(server: &Server) -> Vec<(String, i64)> {
    let mut conn = PgConnection::connect(&server.url("waiting"))
        .await
        .expect("connect");
    let sql = "SELECT relname::TEXT, seq_scan FROM pg_stat_user_tables
        WHERE relname IN ('run', 'run_item', 'current_run', 'history_node', 'outbox', 'timer') ORDER BY 1";
    let rows = sqlx::query(AssertSqlSafe(sql.to_owned()))
        .fetch_all(&mut conn)
        .await
        .expect("scans");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

async fn the_log_is_counted(server: &Server) {
    let options = server.options("waiting");
    let counters = WalCounters::new(&options).expect("counters");
    let deadline = Instant::now() + Duration::from_secs(20);
    // Servers before version 14 tell nothing; later ones tell a little late.
    let mut conn = PgConnection::connect(&server.url("waiting"))
        .await
        .expect("connect");
    let version =
        sqlx::query("SELECT current_setting('server_version_num')::INT").fetch_one(&mut conn);
    if version.await.expect("version").get::<i32, _>(0) < 140_000 {
        return;
    }
    while options.stats.wal_bytes.load(Ordering::Relaxed) == 0 {
        counters.read().await.expect("read");
        assert!(Instant::now() < deadline, "the server counts no log");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
