//! The last layer of every response: refusals of the transport library are put in the words
//! that SDKs know, and a handler that panics answers INTERNAL instead of breaking the stream.

use std::{
    any::Any,
    convert::Infallible,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    task::{Context, Poll},
};

use futures::FutureExt;
use http::{HeaderMap, HeaderValue, Response};
use tonic::{Code, Status, body::Body};
use tower::Service;

const TOO_LARGE: &str = "Error, decoded message length too large: found ";
const TOO_LARGE_UNPACKED: &str = "Error decompressing: size limit, of ";

/// A service behind the edge.
#[derive(Clone, Debug)]
pub(super) struct Edge<S>(S);

impl<S> Edge<S> {
    pub(super) fn new(inner: S) -> Self {
        Self(inner)
    }
}

impl<S, B> Service<http::Request<B>> for Edge<S>
where
    S: Service<http::Request<B>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        // Answers are packed only for those who pack their requests: most who could unpack are near, and
        // packing small answers costs more than sending them.
        if !request.headers().contains_key("grpc-encoding") {
            request.headers_mut().remove("grpc-accept-encoding");
        }
        let path = request.uri().path().to_owned();
        let answer = AssertUnwindSafe(self.0.call(request)).catch_unwind();
        Box::pin(async move {
            let mut response = match answer.await {
                Ok(Ok(response)) => response,
                Ok(Err(never)) => match never {},
                Err(panic) => return Ok(broken(&path, &*panic)),
            };
            // A call that fails before it has an answer carries its status in the headers.
            if let Some(text) = too_large(response.headers()) {
                let mut headers = HeaderMap::new();
                if Status::new(Code::ResourceExhausted, text)
                    .add_header(&mut headers)
                    .is_ok()
                {
                    response.headers_mut().extend(headers);
                }
            }
            Ok(response)
        })
    }
}

fn broken(path: &str, panic: &(dyn Any + Send)) -> Response<Body> {
    let reason = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without text");
    tracing::error!(path, reason, "a handler panicked");
    let mut response = Status::internal("the handler failed").into_http();
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    response
}

/// The text for a message over the limit, which SDKs compare, if that is what the status says.
fn too_large(headers: &HeaderMap) -> Option<String> {
    let status = headers.get("grpc-status")?;
    if status != "11" && status != "8" {
        return None;
    }
    let status = Status::from_header_map(headers)?;
    if let Some(sizes) = status.message().strip_prefix(TOO_LARGE) {
        let mut numbers = sizes
            .split(|c: char| !c.is_ascii_digit())
            .filter(|n| !n.is_empty());
        let (found, limit) = (numbers.next().unwrap_or("?"), numbers.next().unwrap_or("?"));
        return Some(format!(
            "grpc: received message larger than max ({found} vs. {limit})"
        ));
    }
    let limit = status.message().strip_prefix(TOO_LARGE_UNPACKED)?;
    let limit = limit.split(' ').next().unwrap_or("?");
    Some(format!(
        "grpc: received message after decompression larger than max {limit}"
    ))
}
