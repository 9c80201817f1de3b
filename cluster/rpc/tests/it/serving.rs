//! What a client sees of a listener.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use certs::{Leaf, Store, issue};
use cluster_rpc::{
    ChannelOptions, Channels, INTERNAL_MESSAGE_BYTES_MAX, Listener, PUBLIC_MESSAGE_BYTES_MAX,
    Security, ServeOptions, serve::peer_of, tuned,
};
use cluster_runtime::Tasks;
use proto_messages::{
    meridian::history::v1::{
        Empty, ResetStickyTaskQueueRequest, SignalWorkflowExecutionRequest,
        StartWorkflowExecutionRequest, TerminateWorkflowExecutionRequest,
    },
    temporal::api::workflowservice::v1::StartWorkflowExecutionResponse,
};
use proto_services::meridian::history::v1::{
    history_service_client::HistoryServiceClient,
    history_service_server::{HistoryService, HistoryServiceServer},
};
use tokio::sync::Notify;
use tonic::{Code, Request, Response, Status, codec::CompressionEncoding, service::Routes};

/// Answers with the caller's name, or panics, or waits.
#[derive(Default)]
struct Desk {
    begun: Notify,
    go_on: Notify,
}

#[tonic::async_trait]
impl HistoryService for Desk {
    async fn start_workflow_execution(
        &self,
        request: Request<StartWorkflowExecutionRequest>,
    ) -> Result<Response<StartWorkflowExecutionResponse>, Status> {
        let run_id = peer_of(&request)
            .and_then(|p| p.common_name)
            .unwrap_or_default();
        Ok(Response::new(StartWorkflowExecutionResponse {
            run_id,
            ..Default::default()
        }))
    }

    async fn signal_workflow_execution(
        &self,
        _: Request<SignalWorkflowExecutionRequest>,
    ) -> Result<Response<Empty>, Status> {
        panic!("a bug")
    }

    async fn terminate_workflow_execution(
        &self,
        _: Request<TerminateWorkflowExecutionRequest>,
    ) -> Result<Response<Empty>, Status> {
        self.begun.notify_one();
        self.go_on.notified().await;
        Ok(Response::new(Empty {}))
    }
}

async fn open(tasks: &Tasks, desk: Arc<Desk>, tls: Option<certs::ServerTls>) -> SocketAddr {
    let at = ([127, 0, 0, 1], 0).into();
    let listener = Listener::bind(at, tls, ServeOptions::public())
        .await
        .unwrap();
    let at = listener.address();
    let server = tuned!(
        HistoryServiceServer::from_arc(desk),
        PUBLIC_MESSAGE_BYTES_MAX
    );
    listener.serve(tasks, "test", Routes::new(server));
    at
}

fn client(channels: &Channels, at: SocketAddr) -> HistoryServiceClient {
    HistoryServiceClient::new(channels.get(at).unwrap())
        .max_encoding_message_size(INTERNAL_MESSAGE_BYTES_MAX)
}

fn plain() -> Channels {
    Channels::new(Security::Plain, ChannelOptions::within_cluster())
}

async fn secured(dir: &Path, name: &str) -> (Store, Channels) {
    let files = issue::issue(dir, &Leaf::new(name)).unwrap();
    let store = Store::open(files.mutual()).await.unwrap();
    let security = Security::Tls {
        tls: store.client(),
        server_name: None,
    };
    (
        store,
        Channels::new(security, ChannelOptions::between_clusters()),
    )
}

fn of_size(bytes: usize) -> StartWorkflowExecutionRequest {
    // The field's tag and length take five bytes.
    StartWorkflowExecutionRequest {
        namespace_id: "n".repeat(bytes - 5),
        ..Default::default()
    }
}

#[tokio::test]
async fn refusals_of_the_transport_use_the_words_that_sdks_know() {
    let tasks = Tasks::new("test");
    let at = open(&tasks, Arc::default(), None).await;
    let mut client = client(&plain(), at);
    client
        .start_workflow_execution(of_size(PUBLIC_MESSAGE_BYTES_MAX))
        .await
        .unwrap();
    let refused = client
        .start_workflow_execution(of_size(PUBLIC_MESSAGE_BYTES_MAX + 1))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(
        refused.message(),
        "grpc: received message larger than max (4194305 vs. 4194304)"
    );
    let mut packed = client.clone().send_compressed(CompressionEncoding::Gzip);
    packed
        .start_workflow_execution(of_size(1_000_000))
        .await
        .unwrap();
    let refused = packed
        .start_workflow_execution(of_size(PUBLIC_MESSAGE_BYTES_MAX * 2))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(
        refused
            .message()
            .starts_with("grpc: received message after decompression larger than max"),
        "{refused}"
    );
    let broken = client
        .signal_workflow_execution(SignalWorkflowExecutionRequest::default())
        .await;
    assert_eq!(broken.unwrap_err().code(), Code::Internal);
    let unbuilt = client
        .reset_sticky_task_queue(ResetStickyTaskQueueRequest::default())
        .await;
    assert_eq!(unbuilt.unwrap_err().code(), Code::Unimplemented);
    drop(client);
    assert!(tasks.shutdown(Duration::from_secs(10)).await);
}

#[tokio::test]
async fn stopping_lets_calls_end_and_then_the_port_is_closed() {
    let tasks = Tasks::new("test");
    let desk = Arc::new(Desk::default());
    let at = open(&tasks, desk.clone(), None).await;
    let mut client = client(&plain(), at);
    let call = tokio::spawn(async move {
        client
            .terminate_workflow_execution(TerminateWorkflowExecutionRequest::default())
            .await
    });
    desk.begun.notified().await;
    let stopping = tokio::spawn({
        let tasks = tasks.clone();
        async move { tasks.shutdown(Duration::from_secs(10)).await }
    });
    while tokio::net::TcpStream::connect(at).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!stopping.is_finished());
    desk.go_on.notify_one();
    call.await.unwrap().unwrap();
    assert!(stopping.await.unwrap());
}

#[tokio::test]
async fn each_connection_uses_the_certificates_of_the_moment() {
    let dir = tempfile::tempdir().unwrap();
    let (east, _) = secured(dir.path(), "east").await;
    let (west, channels) = secured(dir.path(), "west").await;
    let tasks = Tasks::new("test");
    let at = open(&tasks, Arc::default(), Some(east.server())).await;
    let mut call = client(&channels, at);
    let seen = call
        .start_workflow_execution(of_size(10))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(seen.run_id, "west");

    // A new authority on one side: what is open goes on, what is new is refused, until the other follows.
    issue::renew_authority(dir.path()).unwrap();
    issue::issue(dir.path(), &Leaf::new("east")).unwrap();
    east.reload_now().await.unwrap();
    call.start_workflow_execution(of_size(10)).await.unwrap();
    channels.forget(at);
    let mut again = client(&channels, at);
    let refused = again
        .start_workflow_execution(of_size(10))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    issue::issue(dir.path(), &Leaf::new("west")).unwrap();
    west.reload_now().await.unwrap();
    // The same channel connects anew with the new certificate.
    again.start_workflow_execution(of_size(10)).await.unwrap();
    // Who speaks no TLS gets nowhere.
    client(&plain(), at)
        .start_workflow_execution(of_size(10))
        .await
        .unwrap_err();
}
