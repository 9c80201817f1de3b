//! The stored messages of a shard's queues: tasks, positions, and what was set aside. Fields are only ever added;
//! numbers are never reused.

/// The tasks of one update.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct Tasks {
    #[prost(string, tag = "1")]
    pub(crate) namespace_id: String,
    #[prost(string, tag = "2")]
    pub(crate) workflow_id: String,
    #[prost(string, tag = "3")]
    pub(crate) run_id: String,
    #[prost(message, repeated, tag = "4")]
    pub(crate) tasks: Vec<Task>,
}

/// A task. What `event`, `number` and `text` mean depends on the kind.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct Task {
    #[prost(int64, tag = "1")]
    pub(crate) id: i64,
    #[prost(int64, tag = "2")]
    pub(crate) version: i64,
    #[prost(int64, tag = "3")]
    pub(crate) at: i64,
    #[prost(int64, optional, tag = "4")]
    pub(crate) fire_at: Option<i64>,
    #[prost(uint32, tag = "5")]
    pub(crate) kind: u32,
    #[prost(int64, tag = "6")]
    pub(crate) event: i64,
    #[prost(int64, tag = "7")]
    pub(crate) number: i64,
    #[prost(uint32, tag = "8")]
    pub(crate) timeout: u32,
    #[prost(string, optional, tag = "9")]
    pub(crate) text: Option<String>,
}

/// Where a shard's queues stand.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct AckLevels {
    #[prost(int64, tag = "1")]
    pub(crate) transfer: i64,
    #[prost(int64, tag = "2")]
    pub(crate) timer: i64,
    #[prost(int64, tag = "3")]
    pub(crate) visibility: i64,
    #[prost(int64, tag = "4")]
    pub(crate) replication: i64,
    // 5 and 6 held how far timer rows had fired.
    /// Written before readers had more than a position; read once, then in `stands`.
    #[prost(btree_map = "string, int64", tag = "7")]
    pub(crate) readers: std::collections::BTreeMap<String, i64>,
    #[prost(btree_map = "string, message", tag = "8")]
    pub(crate) stands: std::collections::BTreeMap<String, Reader>,
    #[prost(int64, optional, tag = "9")]
    pub(crate) dropped: Option<i64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Reader {
    #[prost(string, tag = "1")]
    pub(crate) incarnation: String,
    #[prost(int64, tag = "2")]
    pub(crate) acked: i64,
    #[prost(int64, tag = "3")]
    pub(crate) complete_since: i64,
    #[prost(bool, tag = "4")]
    pub(crate) came_back_empty: bool,
    #[prost(bool, tag = "5")]
    pub(crate) connected: bool,
}

/// Tasks that were set aside.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct DlqEntry {
    #[prost(int32, tag = "1")]
    pub(crate) shard: i32,
    #[prost(int32, tag = "2")]
    pub(crate) category: i32,
    #[prost(string, tag = "3")]
    pub(crate) kind: String,
    #[prost(string, tag = "4")]
    pub(crate) namespace_id: String,
    #[prost(string, tag = "5")]
    pub(crate) workflow_id: String,
    #[prost(string, tag = "6")]
    pub(crate) run_id: String,
    #[prost(string, tag = "7")]
    pub(crate) cause: String,
    #[prost(int64, tag = "8")]
    pub(crate) time: i64,
    #[prost(uint32, tag = "9")]
    pub(crate) attempts: u32,
    #[prost(bytes = "bytes", tag = "10")]
    pub(crate) row: bytes::Bytes,
}
