-- Shards of which every run has its row. A file that begins empty beside a main file that does not, because it
-- was deleted, is filled from the runs; so is, once, one from before this table.
CREATE TABLE complete_shard (
    shard_id INTEGER NOT NULL PRIMARY KEY
);
