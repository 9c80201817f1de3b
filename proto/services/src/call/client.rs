//! Calling. The generated clients are thin names over [`Caller`].

use bytes::Bytes;
use futures_core::future::BoxFuture;
use http::uri::PathAndQuery;
use proto_messages::Wire;
pub(crate) use tonic::{
    IntoRequest, IntoStreamingRequest, Response, Status, Streaming, codec::CompressionEncoding,
    transport::Channel,
};
use tonic::{Request, client::Grpc};

use super::{Raw, Streamed, unreadable};

/// Calls any method over a channel.
#[derive(Clone, Debug)]
pub(crate) struct Caller(Grpc<Channel>);

impl Caller {
    pub(crate) fn new(channel: Channel) -> Self {
        Self(Grpc::new(channel))
    }

    pub(crate) fn send_compressed(self, encoding: CompressionEncoding) -> Self {
        Self(self.0.send_compressed(encoding))
    }

    pub(crate) fn accept_compressed(self, encoding: CompressionEncoding) -> Self {
        Self(self.0.accept_compressed(encoding))
    }

    pub(crate) fn max_decoding_message_size(self, limit: usize) -> Self {
        Self(self.0.max_decoding_message_size(limit))
    }

    pub(crate) fn max_encoding_message_size(self, limit: usize) -> Self {
        Self(self.0.max_encoding_message_size(limit))
    }

    pub(crate) async fn unary<Q: Wire, A: Wire>(
        &mut self,
        path: &'static str,
        request: Request<Q>,
    ) -> Result<Response<A>, Status> {
        let request = request.map(|message| message.to_wire());
        let (metadata, answer, extensions) = self.send(path, request).await?.into_parts();
        let answer = A::from_wire(answer).map_err(unreadable)?;
        Ok(Response::from_parts(metadata, answer, extensions))
    }

    pub(crate) async fn server_streaming<Q: Wire, A: Wire>(
        &mut self,
        path: &'static str,
        request: Request<Q>,
    ) -> Result<Response<Streaming<A>>, Status> {
        self.ready().await?;
        let (path, codec) = (PathAndQuery::from_static(path), Streamed::default());
        self.0.server_streaming(request, path, codec).await
    }

    pub(crate) async fn streaming<Q: Wire, A: Wire>(
        &mut self,
        path: &'static str,
        request: Request<impl futures_core::Stream<Item = Q> + Send + 'static>,
    ) -> Result<Response<Streaming<A>>, Status> {
        self.ready().await?;
        let (path, codec) = (PathAndQuery::from_static(path), Streamed::default());
        self.0.streaming(request, path, codec).await
    }

    /// Boxed, so that it is compiled here and once.
    fn send(
        &mut self,
        path: &'static str,
        request: Request<Bytes>,
    ) -> BoxFuture<'_, Result<Response<Bytes>, Status>> {
        Box::pin(async move {
            self.ready().await?;
            let path = PathAndQuery::from_static(path);
            self.0.unary(request, path, Raw).await
        })
    }

    async fn ready(&mut self) -> Result<(), Status> {
        let ready = self.0.ready().await;
        ready.map_err(|error| Status::unknown(format!("Service was not ready: {error}")))
    }
}
