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
