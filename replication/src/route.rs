//! Which shard of one cluster answers to which of another, and the four headers that name both ends of a
//! stream. Shard counts are equal or one is a multiple of the other; shards are numbered from 1.

use proto_ids::ShardId;
use tonic::{
    Status,
    metadata::{AsciiMetadataValue, MetadataMap},
};

/// Header with the client cluster's number.
pub const CLIENT_CLUSTER: &str = "temporal-client-cluster-id";
/// Header with the client's shard.
pub const CLIENT_SHARD: &str = "temporal-client-shard-id";
/// Header with the server cluster's number.
pub const SERVER_CLUSTER: &str = "temporal-server-cluster-id";
/// Header with the server's shard.
pub const SERVER_SHARD: &str = "temporal-server-shard-id";

/// One end of a stream. On the wire a cluster is its initial failover version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct End {
    /// The cluster's number.
    pub cluster: i32,
    /// The shard.
    pub shard: ShardId,
}

/// Both ends of a stream. The receiver of tasks is always the gRPC client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamKey {
    /// The cluster that receives tasks.
    pub client: End,
    /// The cluster that sends them.
    pub server: End,
}

impl StreamKey {
    /// Reads the headers of a call.
    pub fn from_headers(headers: &MetadataMap) -> Result<Self, Status> {
        let number = |name: &str| -> Result<i32, Status> {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| {
                    Status::invalid_argument(format!("the header {name} has to be a number"))
                })
        };
        Ok(Self {
            client: End {
                cluster: number(CLIENT_CLUSTER)?,
                shard: number(CLIENT_SHARD)?.into(),
            },
            server: End {
                cluster: number(SERVER_CLUSTER)?,
                shard: number(SERVER_SHARD)?.into(),
            },
        })
    }

    /// Writes the headers of a call.
    pub fn to_headers(&self, headers: &mut MetadataMap) {
        headers.insert(
            CLIENT_CLUSTER,
            AsciiMetadataValue::from(self.client.cluster),
        );
        headers.insert(
            CLIENT_SHARD,
            AsciiMetadataValue::from(self.client.shard.get()),
        );
        headers.insert(
            SERVER_CLUSTER,
            AsciiMetadataValue::from(self.server.cluster),
        );
        headers.insert(
            SERVER_SHARD,
            AsciiMetadataValue::from(self.server.shard.get()),
        );
    }

    /// The name under which the server keeps how far this client has got: its cluster's number in the high
    /// half, its shard in the low one, as Temporal's tools print it.
    pub fn reader_id(&self) -> i64 {
        (i64::from(self.client.cluster) << 32) | i64::from(self.client.shard.get())
    }
}

/// Shards of a cluster that is replicated with. Each costs streams and memory here, whatever it holds.
pub const SHARDS_MAX: i32 = 16_384;

/// Whether two clusters with these shard counts can replicate.
pub fn counts_fit(a: i32, b: i32) -> bool {
    let known = 1..=SHARDS_MAX;
    known.contains(&a) && known.contains(&b) && (a % b == 0 || b % a == 0)
}

/// The shards of a cluster with `target` shards that hold what shard `shard` of one with `source` holds.
pub fn mapped_shards(shard: ShardId, source: i32, target: i32) -> Vec<ShardId> {
    shard.mapped(source, target)
}

/// Whether a stream may join these two shards.
pub fn is_joined(a: ShardId, a_count: i32, b: ShardId, b_count: i32) -> bool {
    let known = |shard: ShardId, count: i32| (1..=count).contains(&shard.get());
    counts_fit(a_count, b_count)
        && known(a, a_count)
        && known(b, b_count)
        && (a.get() - b.get()) % a_count.min(b_count) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_map_both_ways() {
        let ids = |shards: Vec<ShardId>| shards.iter().map(|s| s.get()).collect::<Vec<_>>();
        assert_eq!(ids(mapped_shards(3.into(), 4, 4)), [3]);
        assert_eq!(ids(mapped_shards(1.into(), 1, 4)), [1, 2, 3, 4]);
        assert_eq!(ids(mapped_shards(3.into(), 4, 16)), [3, 7, 11, 15]);
        assert_eq!(ids(mapped_shards(15.into(), 16, 4)), [3]);
        for own in 1..=16 {
            for remote in mapped_shards(own.into(), 16, 4) {
                assert!(is_joined(own.into(), 16, remote, 4));
                assert!(mapped_shards(remote, 4, 16).contains(&own.into()));
            }
        }
        assert!(!is_joined(1.into(), 4, 2.into(), 4));
        assert!(!is_joined(17.into(), 16, 1.into(), 4));
        assert!(!is_joined(1.into(), 4, 1.into(), 6));
        assert!(counts_fit(4, SHARDS_MAX) && !counts_fit(4, SHARDS_MAX + 4));
    }

    #[test]
    fn headers_name_both_ends() {
        let key = StreamKey {
            client: End {
                cluster: 2,
                shard: 7.into(),
            },
            server: End {
                cluster: 1,
                shard: 3.into(),
            },
        };
        let mut headers = MetadataMap::new();
        key.to_headers(&mut headers);
        assert_eq!(StreamKey::from_headers(&headers).unwrap(), key);
        assert_eq!(key.reader_id(), (2 << 32) + 7);
        headers.insert(SERVER_SHARD, AsciiMetadataValue::from_static("x"));
        let refused = StreamKey::from_headers(&headers).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    }
}
