//! Permissions of another cluster. Its certificate names it, which determines the namespaces it shares.

use cluster_rpc::guard::{AuthenticatedPeer, check_speaks_for};
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
        let own = self.clusters.current_name();
        if peer.speaks_for(own.as_str()) {
            return Ok(());
        }
        let all = self.clusters.all();
        let mut named = all
            .iter()
            .filter(|c| peer.speaks_for(c.name.as_str()))
            .peekable();
        let Some(first) = named.peek().map(|c| c.name.clone()) else {
            return Ok(());
        };
        let shares = namespace.is_global && named.any(|c| namespace.lives_in(&c.name));
        if shares {
            return Ok(());
        }
        Err(Status::permission_denied(format!(
            "the certificate is of cluster {first}, and namespace {} does not live there: a cluster may only call about \
             namespaces that it shares",
            namespace.name
        )))
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
