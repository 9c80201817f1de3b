-- Namespaces under one counter, clusters, members, and durable queues.

CREATE TABLE namespace (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL UNIQUE,
    data BYTEA NOT NULL,
    notification_version BIGINT NOT NULL
);

CREATE TABLE namespace_counter (
    -- One row: what the next namespace write gets.
    id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    version BIGINT NOT NULL
);

CREATE TABLE cluster (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    data BYTEA NOT NULL,
    version BIGINT NOT NULL
);

CREATE TABLE member (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    data BYTEA NOT NULL,
    seen_at BIGINT NOT NULL
) WITH (fillfactor = 70);

CREATE TABLE queue (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    last_id BIGINT NOT NULL
);

CREATE TABLE queue_message (
    queue TEXT COLLATE "C" NOT NULL,
    id BIGINT NOT NULL,
    data BYTEA NOT NULL,
    PRIMARY KEY (queue, id)
);

CREATE TABLE queue_ack (
    queue TEXT COLLATE "C" NOT NULL,
    consumer TEXT COLLATE "C" NOT NULL,
    id BIGINT NOT NULL,
    PRIMARY KEY (queue, consumer)
) WITH (fillfactor = 70);

INSERT INTO namespace_counter (id, version) VALUES (1, 1);
