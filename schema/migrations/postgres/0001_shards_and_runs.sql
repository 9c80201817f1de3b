-- Shards, runs and everything the commit batch writes with them. Every key begins with the
-- shard; keys of runs go on with the run id, which begins with the time, so that runs of one time are
-- neighbours and a batch touches few pages.

CREATE TABLE shard (
    shard_id BIGINT NOT NULL PRIMARY KEY,
    range_id BIGINT NOT NULL,
    owner TEXT COLLATE "C" NOT NULL,
    state BYTEA NOT NULL,
    acquired_at BIGINT NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE run (
    shard_id BIGINT NOT NULL,
    run_id TEXT COLLATE "C" NOT NULL,
    namespace_id TEXT COLLATE "C" NOT NULL,
    workflow_id TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    hot BYTEA NOT NULL,
    -- Null when the run was never written with one.
    start BYTEA,
    PRIMARY KEY (shard_id, run_id, namespace_id, workflow_id)
) WITH (fillfactor = 70);

CREATE TABLE run_item (
    shard_id BIGINT NOT NULL,
    run_id TEXT COLLATE "C" NOT NULL,
    namespace_id TEXT COLLATE "C" NOT NULL,
    workflow_id TEXT COLLATE "C" NOT NULL,
    kind BIGINT NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    value BYTEA NOT NULL,
    PRIMARY KEY (shard_id, run_id, namespace_id, workflow_id, kind, id)
) WITH (fillfactor = 80);

CREATE TABLE current_run (
    shard_id BIGINT NOT NULL,
    namespace_id TEXT COLLATE "C" NOT NULL,
    workflow_id TEXT COLLATE "C" NOT NULL,
    run_id TEXT COLLATE "C" NOT NULL,
    request_id TEXT COLLATE "C" NOT NULL,
    status BIGINT NOT NULL,
    last_write_version BIGINT NOT NULL,
    start_time BIGINT NOT NULL,
    first_run_id TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (shard_id, namespace_id, workflow_id)
) WITH (fillfactor = 80);

CREATE TABLE outbox (
    shard_id BIGINT NOT NULL,
    last_task_id BIGINT NOT NULL,
    first_task_id BIGINT NOT NULL,
    data BYTEA NOT NULL,
    PRIMARY KEY (shard_id, last_task_id)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);

CREATE TABLE timer (
    shard_id BIGINT NOT NULL,
    fire_at BIGINT NOT NULL,
    task_id BIGINT NOT NULL,
    data BYTEA NOT NULL,
    PRIMARY KEY (shard_id, fire_at, task_id)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);

CREATE TABLE lane_commit (
    lane TEXT COLLATE "C" NOT NULL,
    -- The sequence number modulo the number of commits that are remembered.
    slot BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    written_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (lane, slot)
) WITH (fillfactor = 50);
