//! What one client may hold of a listener: every limit at its value and one beyond.

use std::{net::SocketAddr, time::Duration};

use cluster_rpc::{ChannelOptions, Channels, Listener, Security, ServeOptions, tuned};
use cluster_runtime::{Metrics, Tasks};
use proto_messages::{
    meridian::history::v1::StartWorkflowExecutionRequest,
    temporal::api::workflowservice::v1::StartWorkflowExecutionResponse,
};
use proto_services::meridian::history::v1::{
    history_service_client::HistoryServiceClient,
    history_service_server::{HistoryService, HistoryServiceServer},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::{Code, Request, Response, Status, service::Routes};

/// What an HTTP/2 client says first: the preface and empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

struct Desk;

#[tonic::async_trait]
impl HistoryService for Desk {
    async fn start_workflow_execution(
        &self,
        _: Request<StartWorkflowExecutionRequest>,
    ) -> Result<Response<StartWorkflowExecutionResponse>, Status> {
        Ok(Response::new(Default::default()))
    }
}

struct Served {
    at: SocketAddr,
    metrics: Metrics,
    _tasks: Tasks,
}

async fn serve(options: ServeOptions) -> Served {
    let any = ([127, 0, 0, 1], 0).into();
    let metrics = Metrics::new();
    let listener = Listener::bind(any, None, options).await.unwrap();
    let listener = listener.counted(&metrics);
    let (at, tasks) = (listener.address(), Tasks::new("test"));
    let server = tuned!(HistoryServiceServer::new(Desk), 1 << 20);
    listener.serve(&tasks, "test", Routes::new(server));
    Served {
        at,
        metrics,
        _tasks: tasks,
    }
}

/// One frame's type and content; `None` when the server has closed the connection.
async fn frame(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    let mut content = vec![0; length];
    stream.read_exact(&mut content).await.ok()?;
    Some((head[3], content))
}

async fn greet(at: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(at).await.unwrap();
    // A server that refuses may have closed already.
    let _ = stream.write_all(PREFACE).await;
    stream
}

async fn all_frames(mut stream: TcpStream) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let Some((kind, _)) = frame(&mut stream).await {
        kinds.push(kind);
    }
    kinds
}

#[tokio::test]
async fn a_client_that_says_nothing_is_disconnected() {
    let served = serve(ServeOptions {
        handshake_timeout: Duration::from_millis(50),
        ..ServeOptions::public()
    })
    .await;
    let mut silent = TcpStream::connect(served.at).await.unwrap();
    let mut greeted = greet(served.at).await;
    assert_eq!(frame(&mut greeted).await.unwrap().0, SETTINGS);
    assert_eq!(silent.read(&mut [0; 1]).await.unwrap(), 0, "closed");
    let told = served.metrics.text();
    assert!(
        told.contains(r#"meridian_connections_ended_total{listener="test",reason="silent"} 1"#),
        "{told}"
    );
    assert!(told.contains(r#"meridian_connections{listener="test"} 1"#));
}

#[tokio::test]
async fn a_connection_without_calls_and_an_old_one_are_asked_to_go() {
    let short = Duration::from_millis(50);
    let idle = ServeOptions {
        idle_max: Some(short),
        age_grace: short,
        ..ServeOptions::public()
    };
    let old = ServeOptions {
        idle_max: None,
        age_max: Some(short),
        age_grace: short,
        ..ServeOptions::public()
    };
    for (options, reason) in [(idle, "idle"), (old, "old")] {
        let served = serve(options).await;
        let frames = all_frames(greet(served.at).await).await;
        assert!(frames.contains(&GOAWAY), "{reason}: {frames:?}");
        let line =
            format!(r#"meridian_connections_ended_total{{listener="test",reason="{reason}"}} 1"#);
        while !served.metrics.text().contains(&line) {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_and_places_come_back() {
    let served = serve(ServeOptions {
        connections_max: 2,
        ..ServeOptions::public()
    })
    .await;
    let (mut first, mut second) = (greet(served.at).await, greet(served.at).await);
    assert_eq!(frame(&mut first).await.unwrap().0, SETTINGS);
    assert_eq!(frame(&mut second).await.unwrap().0, SETTINGS);
    let mut third = greet(served.at).await;
    assert!(frame(&mut third).await.is_none());
    assert!(served.metrics.text().contains(r#"reason="too_many"} 1"#));
    drop(first);
    // The server sees a little later that the place is free.
    while frame(&mut greet(served.at).await).await.is_none() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn clients_are_told_how_many_calls_one_connection_takes() {
    let served = serve(ServeOptions {
        streams_max: 7,
        ..ServeOptions::public()
    })
    .await;
    let (kind, settings) = frame(&mut greet(served.at).await).await.unwrap();
    assert_eq!(kind, SETTINGS);
    // MAX_CONCURRENT_STREAMS is setting 3.
    let told = settings.chunks(6).any(|s| s == [0, 3, 0, 0, 0, 7]);
    assert!(told, "{settings:?}");
}

#[tokio::test]
async fn a_request_beyond_the_bytes_of_its_connection_is_refused() {
    let request = |bytes: usize| StartWorkflowExecutionRequest {
        namespace_id: "n".repeat(bytes),
        ..Default::default()
    };
    // Five bytes of gRPC's, four of the field's.
    let served = serve(ServeOptions {
        receiving_bytes_max: 100_009,
        ..ServeOptions::public()
    })
    .await;
    let channels = Channels::new(Security::Plain, ChannelOptions::within_cluster());
    let mut client = HistoryServiceClient::new(channels.get(served.at).unwrap());
    for _ in 0..3 {
        let served = client.start_workflow_execution(request(100_000)).await;
        served.unwrap();
    }
    let refused = client.start_workflow_execution(request(100_001)).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
}
