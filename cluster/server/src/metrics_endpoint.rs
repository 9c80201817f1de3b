//! `/metrics` for Prometheus, `/health/live` and `/health/ready` for orchestrators and load balancers, over
//! HTTP/1.1.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use crate::node::Health;
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
    health: Health,
    tasks: &Tasks,
) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(at)
        .await
        .with_context(|| format!("listen on {at} for metrics; is the port taken?"))?;
    let bound = listener.local_addr()?;
    let (group, listener) = (tasks.clone(), Arc::new(listener));
    tasks.spawn_restarting(TaskKind::Background, "metrics", move || {
        let (listener, group) = (listener.clone(), group.clone());
        let (metrics, health) = (metrics.clone(), health.clone());
        async move { accept(&listener, &metrics, &health, &group).await }
    });
    Ok(bound)
}

async fn accept(listener: &TcpListener, metrics: &Metrics, health: &Health, group: &Tasks) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        let (metrics, health) = (metrics.clone(), health.clone());
        group.spawn(TaskKind::Background, "metrics-connection", async move {
            let service = service_fn(|request: http::Request<hyper::body::Incoming>| {
                let response = answer(request.uri().path(), &metrics, &health);
                async move { Ok::<_, Infallible>(response) }
            });
            // A scraper that hangs up concerns nobody.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

fn answer(path: &str, metrics: &Metrics, health: &Health) -> Response<Full<Bytes>> {
    const TEXT: &str = "text/plain";
    let state = health.state();
    let (status, kind, body) = match path {
        "/health/live" if state.is_live => (StatusCode::OK, TEXT, "live\n".to_owned()),
        "/health/live" => (
            StatusCode::SERVICE_UNAVAILABLE,
            TEXT,
            "starting or stopping\n".to_owned(),
        ),
        "/health/ready" if state.is_ready() => (StatusCode::OK, TEXT, "ready\n".to_owned()),
        "/health/ready" => {
            let mut reasons = state.faults;
            if !state.is_live {
                reasons.push("the ports are not served".into());
            }
            (
                StatusCode::SERVICE_UNAVAILABLE,
                TEXT,
                format!("{}\n", reasons.join("\n")),
            )
        }
        "/metrics" => (StatusCode::OK, Metrics::CONTENT_TYPE, metrics.text()),
        _ => (
            StatusCode::NOT_FOUND,
            TEXT,
            "metrics are at /metrics, health at /health/live and /health/ready\n".to_owned(),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}
