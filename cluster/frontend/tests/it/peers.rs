//! Who may call what over mutual TLS: a certificate is asked for, and the cluster it names may call about what that
//! cluster shares.

use std::path::Path;

use certs::{
    Store,
    issue::{Leaf, issue},
};
use cluster_rpc::{ChannelOptions, Channels, Security};
use proto_messages::temporal::{
    api::workflowservice::v1 as api,
    server::api::adminservice::v1::{
        GetNamespaceReplicationMessagesRequest, StreamWorkflowReplicationMessagesRequest,
    },
};
use proto_services::temporal::{
    api::workflowservice::v1::workflow_service_client::WorkflowServiceClient,
    server::api::adminservice::v1::admin_service_client::AdminServiceClient,
};
use tonic::{Code, Request, Status, transport::Channel};

use crate::cluster::{Cluster, Trust, register, start_request, start_secured, within};

/// Connections to a cluster as the holder of a certificate.
async fn channel(dir: &Path, holder: &str, to: &Cluster) -> Channel {
    let source = issue(dir, &Leaf::new(holder)).unwrap().mutual();
    let security = Security::Tls {
        tls: Store::open(source).await.unwrap().client(),
        server_name: None,
    };
    let channels = Channels::new(security, ChannelOptions::between_clusters());
    channels.get(to.address.as_str()).unwrap()
}

async fn start(channel: &Channel, namespace: &str) -> Result<(), Status> {
    let request = api::StartWorkflowExecutionRequest {
        namespace: namespace.into(),
        ..start_request("a")
    };
    let mut client = WorkflowServiceClient::new(channel.clone());
    let answer = client.start_workflow_execution(within(request, 10_000));
    answer.await.map(|_| ())
}

/// Asks for namespaces, claiming to be a cluster.
async fn pull(channel: &Channel, cluster: &str) -> Result<(), Status> {
    let request = GetNamespaceReplicationMessagesRequest {
        last_retrieved_message_id: -1,
        last_processed_message_id: -1,
        cluster_name: cluster.into(),
    };
    let mut client = AdminServiceClient::new(channel.clone());
    let answer = client.get_namespace_replication_messages(within(request, 10_000));
    answer.await.map(|_| ())
}

/// Opens a stream, claiming to be the cluster of a number.
async fn stream(channel: &Channel, number: i64) -> Status {
    let nothing = tokio_stream::iter(Vec::<StreamWorkflowReplicationMessagesRequest>::new());
    let mut request = Request::new(nothing);
    for (key, value) in [
        ("temporal-client-cluster-id", number),
        ("temporal-client-shard-id", 1),
        ("temporal-server-cluster-id", 1),
        ("temporal-server-shard-id", 1),
    ] {
        let value = value.to_string().parse().unwrap();
        request.metadata_mut().insert(key, value);
    }
    let mut client = AdminServiceClient::new(channel.clone());
    let opened = client.stream_workflow_replication_messages(request).await;
    // Whoever is let in finds nobody behind this frontend who serves streams.
    opened.err().unwrap()
}

#[track_caller]
fn denied(refused: Result<(), Status>, words: &[&str]) {
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    for word in words {
        assert!(refused.message().contains(word), "{word}: {refused}");
    }
}

#[tokio::test]
async fn a_certificate_opens_what_its_cluster_shares_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let mut clusters = Vec::new();
    for (name, initial) in [("west", 1), ("east", 2), ("north", 3)] {
        let trust = Trust::mutual(issue(dir, &Leaf::new(name)).unwrap()).await;
        clusters.push(start_secured(name, initial, trust).await);
    }
    let [west, east, north] = <[Cluster; 3]>::try_from(clusters).ok().unwrap();
    west.connect(&east).await;
    west.connect(&north).await;
    register(&west, "orders", &["west", "east"]).await;
    register(&west, "mine", &[]).await;

    let as_west = channel(dir, "west", &west).await;
    let as_east = channel(dir, "east", &west).await;
    let as_north = channel(dir, "north", &west).await;
    let as_app = channel(dir, "app", &west).await;
    for who in [&as_west, &as_east, &as_app] {
        start(who, "orders").await.unwrap();
    }
    for who in [&as_west, &as_app] {
        start(who, "mine").await.unwrap();
    }
    denied(
        start(&as_north, "orders").await,
        &["cluster north", "orders"],
    );
    denied(start(&as_east, "mine").await, &["cluster east", "mine"]);

    // What a call claims to be is what its certificate says.
    pull(&as_east, "east").await.unwrap();
    denied(pull(&as_north, "east").await, &["cluster east", "north"]);
    denied(pull(&as_app, "east").await, &["cluster east", "app"]);
    let let_in = stream(&as_east, 2).await;
    assert_ne!(let_in.code(), Code::PermissionDenied, "{let_in}");
    denied(Err(stream(&as_north, 2).await), &["cluster east", "north"]);

    // Nobody gets in without a certificate, or with one that somebody else issued.
    let mut nameless = issue(dir, &Leaf::new("app")).unwrap().mutual();
    nameless.identity = None;
    let elsewhere = tempfile::tempdir().unwrap();
    let mut foreign = issue(elsewhere.path(), &Leaf::new("east"))
        .unwrap()
        .mutual();
    foreign.trust = nameless.trust.clone();
    for source in [nameless, foreign] {
        let security = Security::Tls {
            tls: Store::open(source).await.unwrap().client(),
            server_name: None,
        };
        let channels = Channels::new(security, ChannelOptions::between_clusters());
        let channel = channels.get(west.address.as_str()).unwrap();
        let refused = start(&channel, "orders").await.unwrap_err();
        let of_transport = std::error::Error::source(&refused).is_some();
        assert!(of_transport, "{refused}");
    }
    assert_eq!(west.history.started.lock().len(), 5);
    for cluster in [west, east, north] {
        cluster.stop().await;
    }
}
