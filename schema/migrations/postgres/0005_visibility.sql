-- Visibility: one row per run, few whole indexes, all in the order of lists.

CREATE TABLE visibility (
    namespace_id TEXT COLLATE "C" NOT NULL,
    run_id TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    workflow_id TEXT COLLATE "C" NOT NULL,
    workflow_type TEXT COLLATE "C" NOT NULL,
    task_queue TEXT COLLATE "C" NOT NULL,
    status BIGINT NOT NULL,
    start_time BIGINT NOT NULL,
    execution_time BIGINT NOT NULL,
    -- The close time; the largest number while open, so that open runs come first.
    close_key BIGINT NOT NULL,
    history_length BIGINT NOT NULL,
    history_size BIGINT NOT NULL,
    state_transition_count BIGINT NOT NULL,
    parent_workflow_id TEXT COLLATE "C" NOT NULL,
    parent_run_id TEXT COLLATE "C" NOT NULL,
    root_workflow_id TEXT COLLATE "C" NOT NULL,
    root_run_id TEXT COLLATE "C" NOT NULL,
    memo BYTEA NOT NULL,
    search_attributes BYTEA NOT NULL,
    PRIMARY KEY (namespace_id, run_id)
);

CREATE INDEX visibility_by_close ON visibility (namespace_id, close_key DESC, start_time DESC, run_id);

CREATE INDEX visibility_by_workflow ON visibility (namespace_id, workflow_id, close_key DESC, start_time DESC, run_id);

CREATE INDEX visibility_by_type ON visibility (namespace_id, workflow_type, close_key DESC, start_time DESC, run_id);

CREATE INDEX visibility_by_status ON visibility (namespace_id, status, close_key DESC, start_time DESC, run_id);
