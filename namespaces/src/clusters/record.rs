//! How a cluster is stored.

use std::collections::HashMap;

use bytes::Bytes;
use prost::Message;
use schema_store::cluster::ClusterRecord;

use super::ClusterInfo;

#[derive(Clone, PartialEq, Message)]
struct Row {
    #[prost(string, tag = "1")]
    cluster_id: String,
    #[prost(int64, tag = "2")]
    initial_failover_version: i64,
    #[prost(int64, tag = "3")]
    failover_version_increment: i64,
    #[prost(int32, tag = "4")]
    shard_count: i32,
    #[prost(string, tag = "5")]
    address: String,
    #[prost(string, tag = "6")]
    http_address: String,
    #[prost(bool, tag = "7")]
    connection_enabled: bool,
    #[prost(bool, tag = "8")]
    replication_enabled: bool,
    #[prost(bool, tag = "9")]
    is_global_namespace_enabled: bool,
    #[prost(map = "string, string", tag = "10")]
    tags: HashMap<String, String>,
    /// Only in the row of the cluster whose database this is.
    #[prost(bytes = "bytes", tag = "11")]
    own_secret: Bytes,
}

/// The row; `own_secret` is empty but for the cluster whose database this is.
pub(super) fn encode(info: &ClusterInfo, own_secret: Bytes) -> ClusterRecord {
    let row = Row {
        cluster_id: info.cluster_id.clone(),
        initial_failover_version: info.initial_failover_version,
        failover_version_increment: info.failover_version_increment,
        shard_count: info.shard_count,
        address: info.address.clone(),
        http_address: info.http_address.clone(),
        connection_enabled: info.connection_enabled,
        replication_enabled: info.replication_enabled,
        is_global_namespace_enabled: info.is_global_namespace_enabled,
        tags: info.tags.clone(),
        own_secret,
    };
    ClusterRecord {
        name: info.name.clone(),
        data: Bytes::from(row.encode_to_vec()),
        version: info.row_version,
    }
}

/// The cluster, and the secret if the database is its own.
pub(super) fn decode(record: &ClusterRecord) -> Result<(ClusterInfo, Bytes), prost::DecodeError> {
    let row = Row::decode(record.data.clone())?;
    let info = ClusterInfo {
        name: record.name.clone(),
        cluster_id: row.cluster_id,
        initial_failover_version: row.initial_failover_version,
        failover_version_increment: row.failover_version_increment,
        shard_count: row.shard_count,
        address: row.address,
        http_address: row.http_address,
        connection_enabled: row.connection_enabled,
        replication_enabled: row.replication_enabled,
        is_global_namespace_enabled: row.is_global_namespace_enabled,
        tags: row.tags,
        row_version: record.version,
    };
    Ok((info, row.own_secret))
}
