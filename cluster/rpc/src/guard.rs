//! Access control of a listener. The services of peers and operators are served where the caller has
//! proved who it is, or is on this machine; elsewhere they answer PERMISSION_DENIED with the way out.
//!
//! A handler finds who called as [`AuthenticatedPeer`] among the request's extensions, when the caller showed a
//! certificate: `request.extensions().get::<AuthenticatedPeer>()`, or [`check_speaks_for`] where the request
//! claims to come from a cluster.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::Future,
    ops::Deref,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use certs::Peer;
use hyper::body::Body as HttpBody;
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use tonic::{
    Status,
    body::Body,
    service::Routes,
    transport::server::{TcpConnectInfo, TlsConnectInfo},
};
use tower::{Layer, Service};

/// Where the services of peers and operators begin.
const GUARDED: [&str; 2] = [
    "/temporal.server.api.adminservice.v1.AdminService/",
    "/meridian.replication.v1.",
];

/// Certificates whose holders are remembered. Reading one takes longer than a small call.
const PEERS_MAX: usize = 1_024;

/// Whether callers of a listener are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callers {
    /// They are on this machine, or have proved who they are by a certificate.
    Known,
    /// Any process that can reach the port.
    Anybody,
}

/// The caller, as the TLS handshake proved it. In the extensions of every request that came over a connection
/// with a client certificate.
#[derive(Clone, Debug)]
pub struct AuthenticatedPeer(Arc<Peer>);

impl AuthenticatedPeer {
    /// Whether the certificate names the cluster among its DNS names.
    pub fn speaks_for(&self, cluster: &str) -> bool {
        self.dns_names
            .iter()
            .any(|name| name.eq_ignore_ascii_case(cluster))
    }
}

impl Deref for AuthenticatedPeer {
    type Target = Peer;

    fn deref(&self) -> &Peer {
        &self.0
    }
}

impl From<Peer> for AuthenticatedPeer {
    fn from(peer: Peer) -> Self {
        Self(Arc::new(peer))
    }
}

/// Whether the request may come from the cluster that it claims to come from. Without a client certificate
/// nothing is known that could contradict it; such callers are on this machine.
pub fn check_speaks_for(extensions: &tonic::Extensions, cluster: &str) -> Result<(), Status> {
    match extensions.get::<AuthenticatedPeer>() {
        Some(peer) if !peer.speaks_for(cluster) => Err(Status::permission_denied(format!(
            "the call claims to come from cluster {cluster}, and the certificate ({}) names {}: issue one with {cluster} \
             among its DNS names",
            peer.subject,
            peer.dns_names.join(", "),
        ))),
        _ => Ok(()),
    }
}

/// Refuses a cluster that calls about a namespace which does not live there.
pub fn not_shared(cluster: &str, namespace: &str) -> Status {
    Status::permission_denied(format!(
        "the certificate is of cluster {cluster}, and namespace {namespace} does not live there: a cluster may only call \
         about namespaces that it shares"
    ))
}

/// The routes behind the guard.
pub fn guarded(routes: Routes, callers: Callers) -> Routes {
    let layer = GuardLayer {
        callers,
        peers: Arc::default(),
    };
    routes.into_axum_router().layer(layer).into()
}

#[derive(Clone)]
struct GuardLayer {
    callers: Callers,
    peers: Arc<Peers>,
}

#[derive(Clone)]
struct Guard<S> {
    inner: S,
    layer: GuardLayer,
}

/// Holders by certificate.
#[derive(Default)]
struct Peers(Mutex<HashMap<CertificateDer<'static>, AuthenticatedPeer>>);

impl Peers {
    fn of(&self, extensions: &http::Extensions) -> Option<AuthenticatedPeer> {
        let info = extensions.get::<TlsConnectInfo<TcpConnectInfo>>()?;
        let certificates = info.peer_certs()?;
        let certificate = certificates.first()?;
        let mut known = self.0.lock();
        if let Some(peer) = known.get(certificate) {
            return Some(peer.clone());
        }
        let peer = AuthenticatedPeer::from(Peer::of(certificate).ok()?);
        if known.len() >= PEERS_MAX {
            known.clear();
        }
        known.insert(certificate.clone(), peer.clone());
        Some(peer)
    }
}

impl<S> Layer<S> for GuardLayer {
    type Service = Guard<S>;

    fn layer(&self, inner: S) -> Guard<S> {
        Guard {
            inner,
            layer: self.clone(),
        }
    }
}

impl<S, B, R> Service<http::Request<B>> for Guard<S>
where
    S: Service<http::Request<B>, Response = http::Response<R>, Error = Infallible>,
    S::Future: Send + 'static,
    R: HttpBody<Data = bytes::Bytes> + Send + 'static,
    R::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        let path = request.uri().path();
        let is_guarded = GUARDED.iter().any(|prefix| path.starts_with(prefix));
        if is_guarded && self.layer.callers == Callers::Anybody {
            let refused = Status::permission_denied(
                "this port can be reached by other machines and does not ask them who they are: the services of peers and \
                 operators are not served here. Call the port that services.frontend.rpc.peerPort names, or set \
                 global.tls.frontend.server.requireClientAuth",
            );
            return Box::pin(async move { Ok(refused.into_http()) });
        }
        if let Some(peer) = self.layer.peers.of(request.extensions()) {
            request.extensions_mut().insert(peer);
        }
        let answer = self.inner.call(request);
        Box::pin(async move { Ok(answer.await?.map(Body::new)) })
    }
}

#[cfg(test)]
mod tests {
    use tower::Service;

    use super::*;

    const ADMIN: &str =
        "/temporal.server.api.adminservice.v1.AdminService/AddOrUpdateRemoteCluster";
    const EXTENSION: &str = "/meridian.replication.v1.ReplicationExtensionService/Switchover";
    const CLIENT: &str = "/temporal.api.workflowservice.v1.WorkflowService/StartWorkflowExecution";

    async fn answer(callers: Callers, path: &str) -> Status {
        let mut routes = guarded(Routes::default(), callers);
        let request = http::Request::builder().uri(path);
        let request = request.body(Body::empty()).expect("a request");
        let response = routes.call(request).await.expect("never fails");
        Status::from_header_map(response.headers()).expect("a status")
    }

    #[tokio::test]
    async fn where_anybody_may_call_peers_and_operators_are_not_served() {
        for path in [ADMIN, EXTENSION] {
            let refused = answer(Callers::Anybody, path).await;
            assert_eq!(refused.code(), tonic::Code::PermissionDenied);
            for remedy in ["peerPort", "requireClientAuth"] {
                assert!(refused.message().contains(remedy), "{refused}");
            }
            let served = answer(Callers::Known, path).await;
            assert_eq!(
                served.code(),
                tonic::Code::Unimplemented,
                "nothing is mounted"
            );
        }
        let client = answer(Callers::Anybody, CLIENT).await;
        assert_eq!(client.code(), tonic::Code::Unimplemented);
    }

    #[test]
    fn a_certificate_speaks_for_the_clusters_it_names() {
        let peer = Peer {
            subject: "CN=east".into(),
            dns_names: vec!["east.example".into(), "East".into()],
            ..Default::default()
        };
        let mut extensions = tonic::Extensions::new();
        assert!(
            check_speaks_for(&extensions, "west").is_ok(),
            "on this machine"
        );
        extensions.insert(AuthenticatedPeer::from(peer));
        assert!(check_speaks_for(&extensions, "east").is_ok());
        for claimed in ["west", "", "example", "CN=east"] {
            let refused = check_speaks_for(&extensions, claimed).expect_err(claimed);
            assert_eq!(refused.code(), tonic::Code::PermissionDenied);
            assert!(refused.message().contains("CN=east"), "{refused}");
        }
    }
}
