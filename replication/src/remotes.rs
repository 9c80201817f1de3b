//! How other clusters are called: the frontend's address from the cluster directory, a channel from the
//! pool for remote clusters. Whether a cluster may be called at all is the directory's word.

use std::{sync::Arc, time::Duration};

use cluster_rpc::{Channels, INTERNAL_MESSAGE_BYTES_MAX};
use cluster_runtime::{Key, Settings};
use namespaces::{ClusterInfo, Clusters};
use proto_ids::ClusterName;
use proto_services::{
    meridian::replication::v1::replication_extension_service_client::ReplicationExtensionServiceClient,
    temporal::server::api::adminservice::v1::admin_service_client::AdminServiceClient,
};
use tonic::{Request, Status, metadata::AsciiMetadataValue, transport::Channel};

/// Whether histories go over connections of which the directory says that replication is disabled, as Temporal
/// Server has it by default.
pub static SEPARATE_FLAG: Key<bool> = Key::new(
    "history.enableSeparateReplicationEnableFlag",
    true,
    "Whether replication with a connected cluster can be disabled by its own flag.",
);

/// Header with the cluster id (UUID) of the client's store.
pub const CLIENT_STORE: &str = "meridian-client-cluster-uuid";

/// Whether histories go to and from a cluster.
pub fn may_replicate(cluster: &ClusterInfo, settings: &Settings) -> bool {
    cluster.connection_enabled && (cluster.replication_enabled || !settings.get(&SEPARATE_FLAG))
}

/// How long a call to another cluster may take, streams apart.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Clients of other clusters. Cheap to clone.
#[derive(Clone)]
pub struct Remotes {
    clusters: Clusters,
    channels: Arc<dyn Fn(&str) -> Channels + Send + Sync>,
}

impl Remotes {
    /// Over the directory and one pool for all remote clusters.
    pub fn new(clusters: Clusters, channels: Channels) -> Self {
        Self::by_address(clusters, move |_| channels.clone())
    }

    /// Over the directory and a pool chosen by the remote's address, where trust differs between clusters.
    pub fn by_address(
        clusters: Clusters,
        channels: impl Fn(&str) -> Channels + Send + Sync + 'static,
    ) -> Self {
        Self {
            clusters,
            channels: Arc::new(channels),
        }
    }

    /// The directory.
    pub fn clusters(&self) -> &Clusters {
        &self.clusters
    }

    /// The admin service of a cluster.
    pub fn admin(&self, cluster: &ClusterName) -> Result<AdminServiceClient, Status> {
        Ok(AdminServiceClient::new(self.channel_to(cluster)?)
            .max_decoding_message_size(INTERNAL_MESSAGE_BYTES_MAX))
    }

    /// The extension service of a cluster; one of Temporal Server answers UNIMPLEMENTED.
    pub fn extension(
        &self,
        cluster: &ClusterName,
    ) -> Result<ReplicationExtensionServiceClient, Status> {
        Ok(
            ReplicationExtensionServiceClient::new(self.channel_to(cluster)?)
                .max_decoding_message_size(INTERNAL_MESSAGE_BYTES_MAX),
        )
    }

    /// A connection to a cluster's frontend.
    pub fn channel_to(&self, cluster: &ClusterName) -> Result<Channel, Status> {
        let known = self.clusters.get(cluster).filter(|c| c.connection_enabled);
        let known = known.ok_or_else(|| {
            Status::unavailable(format!("there is no connection to a cluster {cluster}"))
        })?;
        (self.channels)(&known.address).get(known.address.as_str())
    }
}

/// A request as servers make them of each other: with the client version headers that a Temporal Server
/// checks, and a deadline.
pub fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    add_version_headers(&mut request);
    request
}

/// Tells with a request the cluster id of this cluster's store, with which what it acknowledges is kept.
pub fn add_store<T>(request: &mut Request<T>, clusters: &Clusters) {
    // An id that is no header value is told by nobody; the peer then asks for it.
    if let Ok(id) = AsciiMetadataValue::try_from(clusters.current().cluster_id.as_str()) {
        request.metadata_mut().insert(CLIENT_STORE, id);
    }
}

/// The version headers alone, for streams.
pub fn add_version_headers<T>(request: &mut Request<T>) {
    let headers = request.metadata_mut();
    headers.insert(
        "client-name",
        AsciiMetadataValue::from_static("temporal-server"),
    );
    headers.insert("client-version", AsciiMetadataValue::from_static("1.30.0"));
    headers.insert(
        "supported-server-versions",
        AsciiMetadataValue::from_static(">=1.0.0 <2.0.0"),
    );
}
