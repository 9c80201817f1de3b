-- The whole schema, as all steps together make it.

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

-- History trees: branches and their nodes. A branch reads its ancestors' nodes up to its fork.

CREATE TABLE history_branch (
    shard_id BIGINT NOT NULL,
    tree_id TEXT COLLATE "C" NOT NULL,
    branch_id TEXT COLLATE "C" NOT NULL,
    ancestors BYTEA NOT NULL,
    PRIMARY KEY (shard_id, tree_id, branch_id)
);

CREATE TABLE history_node (
    shard_id BIGINT NOT NULL,
    tree_id TEXT COLLATE "C" NOT NULL,
    branch_id TEXT COLLATE "C" NOT NULL,
    node_id BIGINT NOT NULL,
    next_node_id BIGINT NOT NULL,
    data BYTEA NOT NULL,
    PRIMARY KEY (shard_id, tree_id, branch_id, node_id)
);

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

-- Commits a batch in one round trip: locks and checks the fences, checks the guards, writes. A broken fence
-- raises MD001 and tells the shards, a broken guard raises MD002 and tells the updates; either undoes all.
-- The row locks on the shards conflict with each other and with an acquisition's update, so that commits of
-- one shard follow each other and an old owner can never write. Plans are kept and may use only keys: the
-- tables grow from nothing, and a plan chosen while they are empty would scan them later.
CREATE FUNCTION commit_batch(
    lane_name TEXT,
    lane_seq BIGINT,
    lane_slot BIGINT,
    fence_shard BIGINT[],
    fence_range BIGINT[],
    guard_shard BIGINT[], guard_namespace TEXT[], guard_workflow TEXT[], guard_run TEXT[],
    guard_version BIGINT[],
    guard_update BIGINT[],
    pointer_shard BIGINT[], pointer_namespace TEXT[], pointer_workflow TEXT[], pointer_run TEXT[], pointer_update BIGINT[],
    clear_shard BIGINT[], clear_namespace TEXT[], clear_workflow TEXT[], clear_run TEXT[],
    gone_shard BIGINT[], gone_namespace TEXT[], gone_workflow TEXT[], gone_run TEXT[],
    put_shard BIGINT[], put_namespace TEXT[], put_workflow TEXT[], put_run TEXT[],
    put_version BIGINT[], put_hot BYTEA[], put_start BYTEA[],
    item_shard BIGINT[], item_namespace TEXT[], item_workflow TEXT[], item_run TEXT[],
    item_kind BIGINT[], item_id TEXT[], item_value BYTEA[],
    current_shard BIGINT[], current_namespace TEXT[], current_workflow TEXT[], current_run_id TEXT[],
    current_request TEXT[], current_status BIGINT[], current_version BIGINT[], current_start BIGINT[], current_first TEXT[],
    branch_shard BIGINT[], branch_tree TEXT[], branch_branch TEXT[], branch_ancestors BYTEA[],
    node_shard BIGINT[], node_tree TEXT[], node_branch TEXT[], node_node BIGINT[], node_next BIGINT[], node_data BYTEA[],
    outbox_shard BIGINT[], outbox_last BIGINT[], outbox_first BIGINT[], outbox_data BYTEA[],
    timer_shard BIGINT[], timer_at BIGINT[], timer_task BIGINT[], timer_data BYTEA[],
    progress_shard BIGINT[], progress_state BYTEA[], progress_outbox BIGINT[], progress_timer_at BIGINT[], progress_timer_task BIGINT[]
) RETURNS VOID
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan
AS $function$
#variable_conflict use_column
DECLARE
    broken TEXT;
BEGIN
    PERFORM 1 FROM shard WHERE shard_id = ANY (fence_shard) ORDER BY shard_id FOR NO KEY UPDATE;
    SELECT string_agg(f.shard_id::TEXT, ',') INTO broken
        FROM unnest(fence_shard, fence_range) AS f (shard_id, range_id)
        LEFT JOIN shard AS s ON s.shard_id = f.shard_id
        WHERE s.range_id IS DISTINCT FROM f.range_id;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'MD001', MESSAGE = broken;
    END IF;

    SELECT string_agg(g.position::TEXT, ',') INTO broken FROM (
        SELECT g.position
            FROM unnest(guard_shard, guard_namespace, guard_workflow, guard_run, guard_version, guard_update)
                AS g (shard_id, namespace_id, workflow_id, run_id, version, position)
            LEFT JOIN run AS r ON r.shard_id = g.shard_id AND r.namespace_id = g.namespace_id
                AND r.workflow_id = g.workflow_id AND r.run_id = g.run_id
            WHERE r.version IS DISTINCT FROM g.version
        UNION
        SELECT g.position
            FROM unnest(pointer_shard, pointer_namespace, pointer_workflow, pointer_run, pointer_update)
                AS g (shard_id, namespace_id, workflow_id, run_id, position)
            LEFT JOIN current_run AS c ON c.shard_id = g.shard_id AND c.namespace_id = g.namespace_id
                AND c.workflow_id = g.workflow_id
            WHERE c.run_id IS DISTINCT FROM g.run_id
    ) AS g;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'MD002', MESSAGE = broken;
    END IF;

    IF cardinality(clear_shard) > 0 THEN
        DELETE FROM run_item AS i
            USING unnest(clear_shard, clear_namespace, clear_workflow, clear_run)
                AS d (shard_id, namespace_id, workflow_id, run_id)
            WHERE i.shard_id = d.shard_id AND i.namespace_id = d.namespace_id
                AND i.workflow_id = d.workflow_id AND i.run_id = d.run_id;
    END IF;
    IF cardinality(gone_shard) > 0 THEN
        DELETE FROM run AS r
            USING unnest(gone_shard, gone_namespace, gone_workflow, gone_run)
                AS d (shard_id, namespace_id, workflow_id, run_id)
            WHERE r.shard_id = d.shard_id AND r.namespace_id = d.namespace_id
                AND r.workflow_id = d.workflow_id AND r.run_id = d.run_id;
    END IF;
    IF cardinality(put_shard) > 0 THEN
        INSERT INTO run AS r (shard_id, namespace_id, workflow_id, run_id, version, hot, start)
            SELECT * FROM unnest(put_shard, put_namespace, put_workflow, put_run, put_version, put_hot, put_start)
            ON CONFLICT (shard_id, namespace_id, workflow_id, run_id) DO UPDATE
                SET version = excluded.version, hot = excluded.hot, start = coalesce(excluded.start, r.start);
    END IF;
    IF cardinality(item_shard) > 0 THEN
        -- A null value deletes.
        DELETE FROM run_item AS i
            USING unnest(item_shard, item_namespace, item_workflow, item_run, item_kind, item_id, item_value)
                AS d (shard_id, namespace_id, workflow_id, run_id, kind, id, value)
            WHERE d.value IS NULL AND i.shard_id = d.shard_id AND i.namespace_id = d.namespace_id
                AND i.workflow_id = d.workflow_id AND i.run_id = d.run_id AND i.kind = d.kind AND i.id = d.id;
        INSERT INTO run_item (shard_id, namespace_id, workflow_id, run_id, kind, id, value)
            SELECT * FROM unnest(item_shard, item_namespace, item_workflow, item_run, item_kind, item_id, item_value)
                AS p (shard_id, namespace_id, workflow_id, run_id, kind, id, value)
            WHERE p.value IS NOT NULL
            ON CONFLICT (shard_id, namespace_id, workflow_id, run_id, kind, id) DO UPDATE
                SET value = excluded.value;
    END IF;
    IF cardinality(current_shard) > 0 THEN
        -- A null run removes the pointer.
        DELETE FROM current_run AS c
            USING unnest(current_shard, current_namespace, current_workflow, current_run_id)
                AS d (shard_id, namespace_id, workflow_id, run_id)
            WHERE d.run_id IS NULL AND c.shard_id = d.shard_id AND c.namespace_id = d.namespace_id
                AND c.workflow_id = d.workflow_id;
        INSERT INTO current_run (shard_id, namespace_id, workflow_id, run_id, request_id, status,
                last_write_version, start_time, first_run_id)
            SELECT * FROM unnest(current_shard, current_namespace, current_workflow, current_run_id,
                    current_request, current_status, current_version, current_start, current_first)
                AS p (shard_id, namespace_id, workflow_id, run_id, request_id, status,
                    last_write_version, start_time, first_run_id)
            WHERE p.run_id IS NOT NULL
            ON CONFLICT (shard_id, namespace_id, workflow_id) DO UPDATE
                SET run_id = excluded.run_id, request_id = excluded.request_id, status = excluded.status,
                    last_write_version = excluded.last_write_version, start_time = excluded.start_time,
                    first_run_id = excluded.first_run_id;
    END IF;
    IF cardinality(branch_shard) > 0 THEN
        INSERT INTO history_branch (shard_id, tree_id, branch_id, ancestors)
            SELECT * FROM unnest(branch_shard, branch_tree, branch_branch, branch_ancestors)
            ON CONFLICT (shard_id, tree_id, branch_id) DO UPDATE SET ancestors = excluded.ancestors;
    END IF;
    IF cardinality(node_shard) > 0 THEN
        INSERT INTO history_node (shard_id, tree_id, branch_id, node_id, next_node_id, data)
            SELECT * FROM unnest(node_shard, node_tree, node_branch, node_node, node_next, node_data)
            ON CONFLICT (shard_id, tree_id, branch_id, node_id) DO UPDATE
                SET next_node_id = excluded.next_node_id, data = excluded.data;
    END IF;
    IF cardinality(outbox_shard) > 0 THEN
        INSERT INTO outbox (shard_id, last_task_id, first_task_id, data)
            SELECT * FROM unnest(outbox_shard, outbox_last, outbox_first, outbox_data)
            ON CONFLICT (shard_id, last_task_id) DO UPDATE
                SET first_task_id = excluded.first_task_id, data = excluded.data;
    END IF;
    IF cardinality(timer_shard) > 0 THEN
        INSERT INTO timer (shard_id, fire_at, task_id, data)
            SELECT * FROM unnest(timer_shard, timer_at, timer_task, timer_data)
            ON CONFLICT (shard_id, fire_at, task_id) DO UPDATE SET data = excluded.data;
    END IF;
    IF cardinality(progress_shard) > 0 THEN
        UPDATE shard AS s SET state = p.state
            FROM unnest(progress_shard, progress_state) AS p (shard_id, state)
            WHERE s.shard_id = p.shard_id;
        DELETE FROM outbox AS o
            USING unnest(progress_shard, progress_outbox) AS p (shard_id, last_task_id)
            WHERE o.shard_id = p.shard_id AND o.last_task_id <= p.last_task_id;
        DELETE FROM timer AS t
            USING unnest(progress_shard, progress_timer_at, progress_timer_task) AS p (shard_id, fire_at, task_id)
            WHERE t.shard_id = p.shard_id AND (t.fire_at, t.task_id) <= (p.fire_at, p.task_id);
    END IF;
    INSERT INTO lane_commit AS l (lane, slot, seq) VALUES (lane_name, lane_slot, lane_seq)
        ON CONFLICT (lane, slot) DO UPDATE SET seq = excluded.seq, written_at = excluded.written_at;
END
$function$;
