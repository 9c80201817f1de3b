-- Matching's backlog: one fenced row per task queue, tasks that found no poller.

CREATE TABLE task_queue (
    namespace_id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    kind BIGINT NOT NULL,
    range_id BIGINT NOT NULL,
    ack BIGINT NOT NULL,
    PRIMARY KEY (namespace_id, name, kind)
) WITH (fillfactor = 70);

CREATE TABLE backlog_task (
    namespace_id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    kind BIGINT NOT NULL,
    task_id BIGINT NOT NULL,
    data BYTEA NOT NULL,
    PRIMARY KEY (namespace_id, name, kind, task_id)
);
