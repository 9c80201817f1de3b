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
