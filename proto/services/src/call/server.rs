//! Serving. The generated servers choose the method by its path and hand over here.

use std::future::ready;
pub(crate) use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_core::future::BoxFuture;
use proto_messages::Wire;
pub(crate) use tonic::{
    Request, Response, Status, Streaming, async_trait,
    body::Body,
    codec::CompressionEncoding,
    codegen::{BoxStream, Service},
    server::NamedService,
};
use tonic::{
    codec::EnabledCompressionEncodings,
    server::{Grpc, ServerStreamingService, StreamingService, UnaryService},
};

use super::{Raw, Streamed, unreadable_request};

/// The HTTP answer to come.
pub(crate) type Answer = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

type Called<A> = BoxFuture<'static, Result<Response<A>, Status>>;

/// The options of a server.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    pub(crate) accept: EnabledCompressionEncodings,
    pub(crate) send: EnabledCompressionEncodings,
    pub(crate) decoded: Option<usize>,
}

impl Limits {
    fn grpc<C: tonic::codec::Codec>(self, codec: C) -> Grpc<C> {
        Grpc::new(codec)
            .apply_compression_config(self.accept, self.send)
            .apply_max_message_size_config(self.decoded, None)
    }
}

/// The answer of a method that is not implemented.
pub(crate) fn unimplemented() -> Status {
    Status::unimplemented("Not yet implemented")
}

/// A path that no method has. The words are those of grpc-go.
pub(crate) fn no_such_method(path: &str) -> Answer {
    let (service, method) = path
        .trim_start_matches('/')
        .split_once('/')
        .unwrap_or_default();
    let status = Status::unimplemented(format!("unknown method {method} for service {service}"));
    Box::pin(ready(Ok(status.into_http())))
}

/// A handler of one request, used once.
struct Once<H>(Option<H>);

impl<H> Once<H> {
    fn new(handler: H) -> Self {
        Self(Some(handler))
    }

    fn run<R, A>(&mut self, request: R) -> Called<A>
    where
        H: FnOnce(R) -> Called<A>,
        A: Send + 'static,
    {
        match self.0.take() {
            Some(handler) => handler(request),
            None => Box::pin(ready(Err(Status::internal(
                "one request was handed over twice",
            )))),
        }
    }
}

/// One message in, one out.
pub(crate) fn unary<Q: Wire, A: Wire>(
    limits: Limits,
    request: http::Request<Body>,
    handler: impl FnOnce(Request<Q>) -> Called<A> + Send + 'static,
) -> Answer {
    let handler = move |request: Request<Bytes>| -> Called<Bytes> {
        let (metadata, extensions, message) = request.into_parts();
        let called = match Q::from_wire(message) {
            Ok(message) => handler(Request::from_parts(metadata, extensions, message)),
            Err(error) => return Box::pin(ready(Err(unreadable_request(error)))),
        };
        Box::pin(async move { Ok(called.await?.map(|answer| answer.to_wire())) })
    };
    raw(limits, request, RawHandler(Once::new(Box::new(handler))))
}

/// A handler of bytes. A type of its own, so that all methods share what follows.
struct RawHandler(Once<Box<dyn FnOnce(Request<Bytes>) -> Called<Bytes> + Send>>);

impl UnaryService<Bytes> for RawHandler {
    type Response = Bytes;
    type Future = Called<Bytes>;

    fn call(&mut self, request: Request<Bytes>) -> Called<Bytes> {
        self.0.run(request)
    }
}

fn raw(limits: Limits, request: http::Request<Body>, handler: RawHandler) -> Answer {
    Box::pin(async move {
        let mut grpc = limits.grpc(Raw);
        Ok(grpc.unary(handler, request).await)
    })
}

/// One message in, many out.
pub(crate) fn server_streaming<Q, A, H>(
    limits: Limits,
    request: http::Request<Body>,
    handler: H,
) -> Answer
where
    Q: Wire,
    A: Wire,
    H: FnOnce(Request<Q>) -> Called<BoxStream<A>> + Send + 'static,
{
    struct Served<H>(Once<H>);
    impl<Q, A, H> ServerStreamingService<Q> for Served<H>
    where
        A: Wire,
        H: FnOnce(Request<Q>) -> Called<BoxStream<A>>,
    {
        type Response = A;
        type ResponseStream = BoxStream<A>;
        type Future = Called<BoxStream<A>>;

        fn call(&mut self, request: Request<Q>) -> Self::Future {
            self.0.run(request)
        }
    }
    Box::pin(async move {
        let mut grpc = limits.grpc(Streamed::<A, Q>::default());
        let served = Served(Once::new(handler));
        Ok(grpc.server_streaming(served, request).await)
    })
}

/// Many in, many out.
pub(crate) fn streaming<Q, A, H>(limits: Limits, request: http::Request<Body>, handler: H) -> Answer
where
    Q: Wire,
    A: Wire,
    H: FnOnce(Request<Streaming<Q>>) -> Called<BoxStream<A>> + Send + 'static,
{
    struct Served<H>(Once<H>);
    impl<Q, A, H> StreamingService<Q> for Served<H>
    where
        A: Wire,
        H: FnOnce(Request<Streaming<Q>>) -> Called<BoxStream<A>>,
    {
        type Response = A;
        type ResponseStream = BoxStream<A>;
        type Future = Called<BoxStream<A>>;

        fn call(&mut self, request: Request<Streaming<Q>>) -> Self::Future {
            self.0.run(request)
        }
    }
    Box::pin(async move {
        let mut grpc = limits.grpc(Streamed::<A, Q>::default());
        let served = Served(Once::new(handler));
        Ok(grpc.streaming(served, request).await)
    })
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::temporal::api::operatorservice::v1::operator_service_server::{
        OperatorService, OperatorServiceServer,
    };

    struct Idle;

    impl OperatorService for Idle {}

    /// A frame of gRPC around these bytes, as they are.
    fn frame(message: &[u8]) -> Body {
        let mut frame = vec![0];
        frame.extend((message.len() as u32).to_be_bytes());
        frame.extend(message);
        Body::new(http_body_util::Full::<Bytes>::from(frame))
    }

    #[test]
    fn a_request_that_cannot_be_read_is_its_senders_fault() {
        let path = "/temporal.api.operatorservice.v1.OperatorService/AddOrUpdateRemoteCluster";
        // Field 1 is an address.
        let not_text = [0x0a, 1, 0xff];
        let garbage = [0xff; 20];
        for (message, said) in [
            (
                &not_text[..],
                "AddOrUpdateRemoteClusterRequest.frontend_address",
            ),
            (&garbage[..], "request cannot be read"),
        ] {
            let mut request = http::Request::new(frame(message));
            *request.uri_mut() = path.parse().expect("a path");
            let answer = OperatorServiceServer::new(Idle).call(request);
            let Some(Ok(answer)) = answer.now_or_never() else {
                panic!("answers at once")
            };
            let status = Status::from_header_map(answer.headers()).expect("a status");
            assert_eq!(status.code(), tonic::Code::InvalidArgument);
            assert!(status.message().contains(said), "{status}");
        }
    }

    /// Every level of a deep message is named on the way to the fault; clients do not take a status of that size.
    #[test]
    fn a_long_path_to_a_fault_is_shortened_and_the_fault_is_still_named() {
        use crate::temporal::api::workflowservice::v1::workflow_service_server::{
            WorkflowService, WorkflowServiceServer,
        };
        struct Idle;
        impl WorkflowService for Idle {}
        let nested = |tag: u8, inner: Vec<u8>| {
            let mut out = vec![tag];
            let mut length = inner.len();
            while length > 0x7f {
                out.push((length & 0x7f) as u8 | 0x80);
                length >>= 7;
            }
            out.push(length as u8);
            out.extend(inner);
            out
        };
        // Failure.cause is field 4, RespondActivityTaskFailedRequest.failure field 2.
        let mut failure = vec![];
        for _ in 0..200 {
            failure = nested(0x22, failure);
        }
        let path = "/temporal.api.workflowservice.v1.WorkflowService/RespondActivityTaskFailed";
        let mut request = http::Request::new(frame(&nested(0x12, failure)));
        *request.uri_mut() = path.parse().expect("a path");
        let answer = WorkflowServiceServer::new(Idle).call(request);
        let Some(Ok(answer)) = answer.now_or_never() else {
            panic!("answers at once")
        };
        let status = Status::from_header_map(answer.headers()).expect("a status");
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert!(
            status.message().len() <= 1_024,
            "{}",
            status.message().len()
        );
        assert!(
            status.message().ends_with("recursion limit reached"),
            "{}",
            status.message()
        );
    }

    #[test]
    fn a_method_that_is_not_served_says_so() {
        let path = "/temporal.api.operatorservice.v1.OperatorService/ListNexusEndpoints";
        let mut request = http::Request::new(Body::empty());
        *request.uri_mut() = path.parse().expect("a path");
        let answer = OperatorServiceServer::new(Idle).call(request);
        let Some(Ok(answer)) = answer.now_or_never() else {
            panic!("answers at once")
        };
        let status = Status::from_header_map(answer.headers()).expect("a status");
        assert_eq!(status.code(), tonic::Code::Unimplemented);
        assert_eq!(
            status.message(),
            "unknown method ListNexusEndpoints for service temporal.api.operatorservice.v1.OperatorService"
        );
    }
}
