-- Shards, runs and everything the commit batch writes with them. Every key begins with the
-- shard; keys of runs go on with the run id, which begins with the time, so that runs of one time are
-- neighbours and a batch touches few pages.

CREATE TABLE shard (
    shard_id INTEGER NOT NULL PRIMARY KEY,
    range_id INTEGER NOT NULL,
    owner TEXT NOT NULL,
    state BLOB NOT NULL,
    acquired_at INTEGER NOT NULL
);

CREATE TABLE run (
    shard_id INTEGER NOT NULL,
    run_id TEXT NOT NULL,
    namespace_id TEXT NOT NULL,
    workflow_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    hot BLOB NOT NULL,
    -- Null when the run was never written with one.
    start BLOB,
    PRIMARY KEY (shard_id, run_id, namespace_id, workflow_id)
) WITHOUT ROWID;

CREATE TABLE run_item (
    shard_id INTEGER NOT NULL,
    run_id TEXT NOT NULL,
    namespace_id TEXT NOT NULL,
    workflow_id TEXT NOT NULL,
    kind INTEGER NOT NULL,
    id TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (shard_id, run_id, namespace_id, workflow_id, kind, id)
) WITHOUT ROWID;

CREATE TABLE current_run (
    shard_id INTEGER NOT NULL,
    namespace_id TEXT NOT NULL,
    workflow_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    request_id TEXT NOT NULL,
    status INTEGER NOT NULL,
    last_write_version INTEGER NOT NULL,
    start_time INTEGER NOT NULL,
    first_run_id TEXT NOT NULL,
    PRIMARY KEY (shard_id, namespace_id, workflow_id)
) WITHOUT ROWID;

CREATE TABLE outbox (
    shard_id INTEGER NOT NULL,
    last_task_id INTEGER NOT NULL,
    first_task_id INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (shard_id, last_task_id)
) WITHOUT ROWID;

CREATE TABLE timer (
    shard_id INTEGER NOT NULL,
    fire_at INTEGER NOT NULL,
    task_id INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (shard_id, fire_at, task_id)
) WITHOUT ROWID;

CREATE TABLE lane_commit (
    lane TEXT NOT NULL,
    -- The sequence number modulo the number of commits that are remembered.
    slot INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (lane, slot)
) WITHOUT ROWID;

-- Inserting into this view ends the transaction; a commit batch does so when a fence or a guard is broken.
CREATE VIEW broken AS SELECT '' AS what;

CREATE TRIGGER broken_raises INSTEAD OF INSERT ON broken
BEGIN
    SELECT RAISE(ROLLBACK, 'broken fence or guard');
END;
