//! What a client sees when its namespace is active elsewhere, or becomes so.

use std::time::{Duration, Instant};

use cluster_frontend::ForwardingPolicy;
use cluster_rpc::status;
use proto_messages::temporal::api::{
    errordetails::v1::{NamespaceNotActiveFailure, NamespaceUnavailableFailure},
    workflowservice::v1 as api,
};
use tonic::Code;

use crate::cluster::{Cluster, pair, poll_request, start_request, within};

/// Calls that went to another cluster.
const PASSED_ON: &str = "client_redirection_requests";
/// Calls under way.
const BEING_SERVED: &str = "service_pending_requests";

async fn started_by(cluster: &Cluster, workflow_id: &str) -> String {
    let request = within(start_request(workflow_id), 10_000);
    let answer = cluster.workflows().start_workflow_execution(request).await;
    answer.unwrap().into_inner().run_id
}

#[tokio::test]
async fn a_start_on_the_passive_side_is_passed_on() {
    let (west, east) = pair(ForwardingPolicy::All).await;
    assert_eq!(started_by(&east, "a").await, "west");
    assert_eq!(west.history.started.lock().len(), 1);
    assert!(!west.history.started.lock()[0].request_id.is_empty());
    // Responses to polls too: a worker of the passive side gets what the active side has.
    west.matching.offer("task");
    let polled = east
        .workflows()
        .poll_workflow_task_queue(within(poll_request(), 10_000))
        .await;
    assert_eq!(polled.unwrap().into_inner().task_token, "task");

    let mut declined = within(start_request("b"), 10_000);
    declined
        .metadata_mut()
        .insert("xdc-redirection", "false".parse().unwrap());
    let refused = east
        .workflows()
        .start_workflow_execution(declined)
        .await
        .unwrap_err();
    let failure: NamespaceNotActiveFailure = status::decode_detail(&refused).unwrap();
    assert_eq!(
        (refused.code(), failure.active_cluster.as_str()),
        (Code::FailedPrecondition, "west")
    );
    west.stop().await;
    east.stop().await;
}

#[tokio::test]
async fn a_dead_active_side_is_told_as_such_and_left_by_a_failover() {
    let (west, east) = pair(ForwardingPolicy::All).await;
    west.stop().await;
    let refused = east
        .workflows()
        .start_workflow_execution(within(start_request("a"), 5_000))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    let farewell = api::ShutdownWorkerRequest {
        namespace: "orders".into(),
        ..Default::default()
    };
    east.workflows().shutdown_worker(farewell).await.unwrap();
    east.fail_over_to("east").await;
    assert_eq!(started_by(&east, "a").await, "east");
    east.stop().await;
}

#[tokio::test]
async fn without_forwarding_the_passive_side_says_so() {
    let (west, east) = pair(ForwardingPolicy::Noop).await;
    let refused = east
        .workflows()
        .start_workflow_execution(start_request("a"))
        .await
        .unwrap_err();
    assert!(status::decode_detail::<NamespaceNotActiveFailure>(&refused).is_some());
    assert_eq!(started_by(&west, "a").await, "west");
    west.stop().await;
    east.stop().await;
}

#[tokio::test]
async fn a_shard_that_knows_of_the_failover_first_is_believed() {
    let (west, east) = pair(ForwardingPolicy::All).await;
    *west.history.knows_better.lock() = Some("east".into());
    *east.history.knows_better.lock() = Some("east".into());
    assert_eq!(started_by(&west, "a").await, "east");
    west.stop().await;
    east.stop().await;
}

#[tokio::test]
async fn a_call_outlives_the_time_in_which_the_clusters_disagree() {
    let (west, east) = pair(ForwardingPolicy::All).await;
    west.fail_over_to("east").await;
    // East has not heard of it: both sides point at the other.
    let short = within(start_request("a"), 600);
    let began = Instant::now();
    let refused = west
        .workflows()
        .start_workflow_execution(short)
        .await
        .unwrap_err();
    assert_eq!(
        refused.code(),
        Code::Unavailable,
        "clients try again: {refused}"
    );
    assert!(began.elapsed() < Duration::from_millis(600));
    let passed_on = west.metric(PASSED_ON);
    let (answer, ()) = tokio::join!(started_by(&west, "a"), async {
        west.wait_until_more(PASSED_ON, passed_on).await;
        east.pull(&west).await;
    });
    assert_eq!(answer, "east");
    west.stop().await;
    east.stop().await;
}

#[tokio::test]
async fn a_parked_poll_follows_the_failover() {
    let (west, east) = pair(ForwardingPolicy::All).await;
    let mut client = west.workflows();
    let poll = tokio::spawn(async move {
        client
            .poll_workflow_task_queue(within(poll_request(), 30_000))
            .await
    });
    west.matching.wait_until_parked().await;
    west.fail_over_to("east").await;
    east.pull(&west).await;
    east.matching.wait_until_parked().await;
    east.matching.offer("task-of-east");
    let polled = poll.await.unwrap().unwrap().into_inner();
    assert_eq!(polled.task_token, "task-of-east");
    west.stop().await;
    east.stop().await;
}

#[tokio::test]
async fn a_poll_without_forwarding_ends_empty_when_its_side_becomes_passive() {
    let (west, east) = pair(ForwardingPolicy::Noop).await;
    let mut client = west.workflows();
    let poll = tokio::spawn(async move {
        client
            .poll_workflow_task_queue(within(poll_request(), 30_000))
            .await
    });
    west.matching.wait_until_parked().await;
    west.fail_over_to("east").await;
    let polled = poll.await.unwrap().unwrap().into_inner();
    assert_eq!(polled, api::PollWorkflowTaskQueueResponse::default());
    west.stop().await;
    east.stop().await;
}

#[tokio::test]
async fn a_hand_over_looks_like_latency() {
    let (west, east) = pair(ForwardingPolicy::All).await;
    west.hold(true).await;
    let short = within(start_request("a"), 400);
    let refused = west
        .workflows()
        .start_workflow_execution(short)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(status::decode_detail::<NamespaceUnavailableFailure>(&refused).is_some());
    // Lists do not wait.
    let list = api::ListWorkflowExecutionsRequest {
        namespace: "orders".into(),
        ..Default::default()
    };
    west.workflows()
        .list_workflow_executions(within(list, 5_000))
        .await
        .unwrap();
    let began = Instant::now();
    let served = west.metric(BEING_SERVED);
    let (answer, ()) = tokio::join!(started_by(&west, "a"), async {
        west.wait_until_more(BEING_SERVED, served).await;
        west.hold(false).await;
    });
    assert_eq!(answer, "west");
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "released at once: {:?}",
        began.elapsed()
    );
    west.hold(true).await;
    // Ended by the failover itself, the call goes where the namespace went.
    let (answer, ()) = tokio::join!(started_by(&west, "b"), async {
        west.fail_over_to("east").await;
        east.pull(&west).await;
    });
    assert_eq!(answer, "east");
    west.stop().await;
    east.stop().await;
}
