-- History trees: branches and their nodes. A branch reads its ancestors' nodes up to its fork.

CREATE TABLE history_branch (
    shard_id INTEGER NOT NULL,
    tree_id TEXT NOT NULL,
    branch_id TEXT NOT NULL,
    ancestors BLOB NOT NULL,
    PRIMARY KEY (shard_id, tree_id, branch_id)
) WITHOUT ROWID;

CREATE TABLE history_node (
    shard_id INTEGER NOT NULL,
    tree_id TEXT NOT NULL,
    branch_id TEXT NOT NULL,
    node_id INTEGER NOT NULL,
    next_node_id INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (shard_id, tree_id, branch_id, node_id)
) WITHOUT ROWID;
