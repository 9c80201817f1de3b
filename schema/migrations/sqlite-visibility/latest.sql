-- The whole schema of a visibility file, as all steps together make it.

-- Visibility: one row per run, few whole indexes, all in the order of lists.

CREATE TABLE visibility (
    namespace_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    workflow_id TEXT NOT NULL,
    workflow_type TEXT NOT NULL,
    task_queue TEXT NOT NULL,
    status INTEGER NOT NULL,
    start_time INTEGER NOT NULL,
    execution_time INTEGER NOT NULL,
    -- The close time; the largest number while open, so that open runs come first.
    close_key INTEGER NOT NULL,
    history_length INTEGER NOT NULL,
    history_size INTEGER NOT NULL,
    state_transition_count INTEGER NOT NULL,
    parent_workflow_id TEXT NOT NULL,
    parent_run_id TEXT NOT NULL,
    root_workflow_id TEXT NOT NULL,
    root_run_id TEXT NOT NULL,
    memo BLOB NOT NULL,
    search_attributes BLOB NOT NULL,
    PRIMARY KEY (namespace_id, run_id)
) WITHOUT ROWID;

CREATE INDEX visibility_by_close ON visibility (namespace_id, close_key DESC, start_time DESC, run_id);

CREATE INDEX visibility_by_workflow ON visibility (namespace_id, workflow_id, close_key DESC, start_time DESC, run_id);

CREATE INDEX visibility_by_type ON visibility (namespace_id, workflow_type, close_key DESC, start_time DESC, run_id);

CREATE INDEX visibility_by_status ON visibility (namespace_id, status, close_key DESC, start_time DESC, run_id);

-- Shards of which every run has its row. A file that begins empty beside a main file that does not, because it
-- was deleted, is filled from the runs; so is, once, one from before this table.
CREATE TABLE complete_shard (
    shard_id INTEGER NOT NULL PRIMARY KEY
);
