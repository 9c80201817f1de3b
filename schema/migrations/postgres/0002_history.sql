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
