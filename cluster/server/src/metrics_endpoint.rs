//! `/metrics` for Prometheus, over HTTP/1.1.

use std::{convert::Infallible, net::SocketAddr};

use anyhow::Context;
use bytes::Bytes;
use cluster_runtime::{
    task::{TaskKind, Tasks},
    telemetry::Metrics,
};
use http::{Response, StatusCode, header};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// Opens the port and serves until the group stops; returns the address that was bound.
pub(crate) async fn serve(
    at: SocketAddr,
    metrics: Metrics,
    tasks: &Tasks,
) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(at)
        .await
        .with_context(|| format!("listen on {at} for metrics; is the port taken?"))?;
    let bound = listener.local_addr()?;
    let group = tasks.clone();
    tasks.spawn(TaskKind::Background, "metrics", async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            };
            let metrics = metrics.clone();
            group.spawn(TaskKind::Background, "metrics-connection", async move {
                let service = service_fn(|request: http::Request<hyper::body::Incoming>| {
                    let response = answer(request.uri().path(), &metrics);
                    async move { Ok::<_, Infallible>(response) }
                });
                // A scraper that hangs up concerns nobody.
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    Ok(bound)
}

fn answer(path: &str, metrics: &Metrics) -> Response<Full<Bytes>> {
    let (status, kind, body) = match path {
        "/metrics" => (StatusCode::OK, Metrics::CONTENT_TYPE, metrics.text()),
        _ => (
            StatusCode::NOT_FOUND,
            "text/plain",
            "metrics are at /metrics\n".to_owned(),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}
