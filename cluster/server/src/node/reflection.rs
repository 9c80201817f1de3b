//! Server reflection, built by the first call for it: the index of every name in the API takes megabytes
//! and milliseconds that a node without such a caller need not spend.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use cluster_rpc::serve::Gzip;
use tonic::{Status, body::Body, server::NamedService};
use tower::{Service, ServiceExt, util::BoxCloneSyncService};

type Built = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, Infallible>;

/// The reflection service of all listeners. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Reflection(Arc<OnceLock<Option<Built>>>);

impl NamedService for Reflection {
    const NAME: &'static str = "grpc.reflection.v1.ServerReflection";
}

impl Service<http::Request<Body>> for Reflection {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let built = self.0.get_or_init(build).clone();
        Box::pin(async move {
            match built {
                Some(service) => service.oneshot(request).await,
                None => Ok(Status::unimplemented("reflection is not served").into_http()),
            }
        })
    }
}

/// A descriptor set that cannot be read is a build defect: it is logged, not served.
fn build() -> Option<Built> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto_messages::DESCRIPTORS)
        .build_v1()
        .map_err(|error| tracing::error!(%error, "reflection is not served"))
        .map(|service| service.accept_compressed(Gzip).send_compressed(Gzip))
        .map(BoxCloneSyncService::new)
        .ok()
}
