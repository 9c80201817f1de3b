//! Permissions of another cluster. Its certificate names it, which determines the namespaces it shares.

use cluster_rpc::guard::{AuthenticatedPeer, check_speaks_for, not_shared};
use namespaces::Namespace;
use tonic::{Request, Status};

use crate::frontend::Host;

/// Names the cluster, by its number, that a stream's requests come from.
const CLIENT_CLUSTER: &str = "temporal-client-cluster-id";

impl Host {
    /// Whether the holder of a certificate may call about the namespace: a remote cluster only about those
    /// that live in it. Other holders are clients.
    pub(crate) fn check_peer(
        &self,
        peer: Option<&AuthenticatedPeer>,
        namespace: &Namespace,
    ) -> Result<(), Status> {
        let Some(peer) = peer else { return Ok(()) };
        match self.clusters.stranger_to(namespace, |c| peer.speaks_for(c)) {
            Some(stranger) => Err(not_shared(stranger.as_str(), namespace.name.as_str())),
            None => Ok(()),
        }
    }

    /// Whether a stream comes from the cluster whose number it has in its headers. An unknown number is refused by
    /// whoever serves the stream.
    pub(crate) fn check_stream_peer<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let number = request.metadata().get(CLIENT_CLUSTER);
        let number = number.and_then(|v| v.to_str().ok()?.parse().ok());
        match number.and_then(|number| self.clusters.by_id(number)) {
            Some(cluster) => check_speaks_for(request.extensions(), cluster.name.as_str()),
            None => Ok(()),
        }
    }
}
