//! cluster-shard
