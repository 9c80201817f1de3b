-- The whole schema, as all steps together make it.

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

-- History trees: branches and their nodes. A branch reads its ancestors' nodes up to its fork.

CREATE TABLE history_branch (
    shard_id INTEGER NOT NULL,
    tree_id TEXT NOT NULL,
    branch_id TEXT NOT NULL,
    ancestors BLOB NOT NULL,
    PRIMARY KEY (shard_id, tree_id, branch_id)
) WITHOUT ROWID;

CREATE TABLE history_node (
    shard_id INTEGER NOT NULL,
    tree_id TEXT NOT NULL,
    branch_id TEXT NOT NULL,
    node_id INTEGER NOT NULL,
    next_node_id INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (shard_id, tree_id, branch_id, node_id)
) WITHOUT ROWID;

-- Matching's backlog: one fenced row per task queue, tasks that found no poller.

CREATE TABLE task_queue (
    namespace_id TEXT NOT NULL,
    name TEXT NOT NULL,
    kind INTEGER NOT NULL,
    range_id INTEGER NOT NULL,
    ack INTEGER NOT NULL,
    PRIMARY KEY (namespace_id, name, kind)
) WITHOUT ROWID;

CREATE TABLE backlog_task (
    namespace_id TEXT NOT NULL,
    name TEXT NOT NULL,
    kind INTEGER NOT NULL,
    task_id INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (namespace_id, name, kind, task_id)
) WITHOUT ROWID;

-- Namespaces under one counter, clusters, members, and durable queues.

CREATE TABLE namespace (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    data BLOB NOT NULL,
    notification_version INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE namespace_counter (
    -- One row: what the next namespace write gets.
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    version INTEGER NOT NULL
);

CREATE TABLE cluster (
    name TEXT NOT NULL PRIMARY KEY,
    data BLOB NOT NULL,
    version INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE member (
    id TEXT NOT NULL PRIMARY KEY,
    data BLOB NOT NULL,
    seen_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE queue (
    name TEXT NOT NULL PRIMARY KEY,
    last_id INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE queue_message (
    queue TEXT NOT NULL,
    id INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (queue, id)
) WITHOUT ROWID;

CREATE TABLE queue_ack (
    queue TEXT NOT NULL,
    consumer TEXT NOT NULL,
    id INTEGER NOT NULL,
    PRIMARY KEY (queue, consumer)
) WITHOUT ROWID;

INSERT INTO namespace_counter (id, version) VALUES (1, 1);
