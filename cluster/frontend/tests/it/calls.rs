//! What a client sees of one cluster.

use cluster_frontend::ForwardingPolicy;
use cluster_rpc::status;
use cluster_runtime::Settings;
use proto_messages::temporal::{
    api::{
        enums::v1::ResourceExhaustedCause,
        errordetails::v1::{
            NamespaceAlreadyExistsFailure, NamespaceInvalidStateFailure, NamespaceNotFoundFailure,
            ResourceExhaustedFailure,
        },
        operatorservice::v1 as operator,
        workflowservice::v1 as api,
    },
    server::api::adminservice::v1 as admin,
};
use tonic::Code;

use crate::cluster::{pair, poll_request, start, start_request, start_with, within};

#[tokio::test]
async fn what_every_sdk_asks_first() {
    let west = start("west", 1, ForwardingPolicy::All).await;
    let info = west
        .workflows()
        .get_system_info(api::GetSystemInfoRequest {})
        .await
        .unwrap();
    let capabilities = info.into_inner().capabilities.unwrap();
    assert!(capabilities.eager_workflow_start && capabilities.internal_error_differentiation);
    assert!(!capabilities.nexus && !capabilities.supports_schedules);
    let describe = |namespace: &str, id: &str| api::DescribeNamespaceRequest {
        namespace: namespace.into(),
        id: id.into(),
        ..Default::default()
    };
    let system = west
        .workflows()
        .describe_namespace(describe("temporal-system", ""))
        .await;
    let info = system.unwrap().into_inner().namespace_info.unwrap();
    assert_eq!(info.id, "32049b68-7872-4094-8e63-d0dd59896a83");
    assert_eq!(info.limits.unwrap().blob_size_limit_error, 2 << 20);
    let unknown = west
        .workflows()
        .describe_namespace(describe("nobody", ""))
        .await
        .unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    let detail: NamespaceNotFoundFailure = status::decode_detail(&unknown).unwrap();
    assert_eq!(detail.namespace, "nobody");
    let both = west
        .workflows()
        .describe_namespace(describe("a", "b"))
        .await
        .unwrap_err();
    assert_eq!(
        both.message(),
        "Only one of namespace name or Id should be set on request."
    );

    west.readiness.set(false);
    let refused = west
        .workflows()
        .get_system_info(api::GetSystemInfoRequest {})
        .await;
    assert_eq!(
        refused.unwrap_err().message(),
        "Frontend is not healthy yet"
    );
    west.stop().await;
}

#[tokio::test]
async fn calls_are_refused_as_clients_expect() {
    let (west, east) = pair(ForwardingPolicy::All).await;
    let mut client = west.workflows();
    let missing = api::StartWorkflowExecutionRequest {
        namespace: "nobody".into(),
        ..start_request("a")
    };
    let refused = client.start_workflow_execution(missing).await.unwrap_err();
    assert!(status::decode_detail::<NamespaceNotFoundFailure>(&refused).is_some());
    let unnamed = api::StartWorkflowExecutionRequest {
        namespace: String::new(),
        ..start_request("a")
    };
    let refused = client.start_workflow_execution(unnamed).await.unwrap_err();
    assert_eq!(refused.message(), "Namespace not set on request.");

    let breaks = api::StartWorkflowExecutionRequest {
        identity: "breaks".into(),
        ..start_request("a")
    };
    let masked = client.start_workflow_execution(breaks).await.unwrap_err();
    assert_eq!(masked.code(), Code::Internal);
    assert!(
        masked
            .message()
            .starts_with("something went wrong, please retry"),
        "{masked}"
    );

    let refused = client
        .poll_workflow_task_queue(poll_request())
        .await
        .unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::InvalidArgument, "Context timeout is not set.")
    );
    let refused = client
        .poll_workflow_task_queue(within(poll_request(), 1_900))
        .await
        .unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::FailedPrecondition, "Context timeout is too short."),
        "a worker goes on polling"
    );

    let token = |task_token: &[u8]| api::RespondWorkflowTaskFailedRequest {
        task_token: task_token.to_vec().into(),
        ..Default::default()
    };
    let refused = client
        .respond_workflow_task_failed(token(b""))
        .await
        .unwrap_err();
    assert_eq!(refused.message(), "Task token not set on request.");
    let foreign = proto_messages::meridian::history::v1::TaskToken {
        namespace_id: "32049b68-7872-4094-8e63-d0dd59896a83".into(),
        ..Default::default()
    };
    let foreign = api::RespondWorkflowTaskFailedRequest {
        namespace: "orders".into(),
        ..token(&prost::Message::encode_to_vec(&foreign))
    };
    let refused = client
        .respond_workflow_task_failed(foreign)
        .await
        .unwrap_err();
    assert_eq!(
        refused.message(),
        "Operation requested with a token from a different namespace."
    );

    let deprecate = api::DeprecateNamespaceRequest {
        namespace: "orders".into(),
        ..Default::default()
    };
    client.deprecate_namespace(deprecate).await.unwrap();
    let refused = client
        .start_workflow_execution(start_request("a"))
        .await
        .unwrap_err();
    assert!(status::decode_detail::<NamespaceInvalidStateFailure>(&refused).is_some());
    let text = west.metrics.text();
    let counted = "service_error_with_type{error_type=\"FailedPrecondition\",namespace=\"orders\",operation=\"StartWorkflowExecution\"";
    assert!(text.contains(counted), "{text}");
    west.stop().await;
    east.stop().await;
}

#[tokio::test]
async fn namespaces_and_clusters_are_told() {
    let (west, east) = pair(ForwardingPolicy::All).await;
    let list = api::ListNamespacesRequest {
        page_size: 1,
        ..Default::default()
    };
    let first = west
        .workflows()
        .list_namespaces(list.clone())
        .await
        .unwrap()
        .into_inner();
    let next = api::ListNamespacesRequest {
        next_page_token: first.next_page_token.clone(),
        ..list
    };
    let second = west
        .workflows()
        .list_namespaces(next)
        .await
        .unwrap()
        .into_inner();
    let name = |page: &api::ListNamespacesResponse| {
        page.namespaces[0]
            .namespace_info
            .as_ref()
            .unwrap()
            .name
            .clone()
    };
    assert_eq!(
        (name(&first), name(&second)),
        ("orders".into(), "temporal-system".into())
    );

    let again = api::RegisterNamespaceRequest {
        namespace: "orders".into(),
        workflow_execution_retention_period: Some(prost_types::Duration {
            seconds: 86_400,
            nanos: 0,
        }),
        ..Default::default()
    };
    let taken = west
        .workflows()
        .register_namespace(again)
        .await
        .unwrap_err();
    assert!(status::decode_detail::<NamespaceAlreadyExistsFailure>(&taken).is_some());

    let listed = west
        .operator()
        .list_clusters(operator::ListClustersRequest::default())
        .await;
    let names: Vec<_> = listed
        .unwrap()
        .into_inner()
        .clusters
        .into_iter()
        .map(|c| c.cluster_name)
        .collect();
    assert_eq!(names, ["east", "west"]);
    let remove = operator::RemoveRemoteClusterRequest {
        cluster_name: "east".into(),
    };
    let refused = west
        .operator()
        .remove_remote_cluster(remove)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("orders"));
    let itself = operator::AddOrUpdateRemoteClusterRequest {
        frontend_address: west.address.clone(),
        ..Default::default()
    };
    let refused = west
        .operator()
        .add_or_update_remote_cluster(itself)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let nobody = operator::AddOrUpdateRemoteClusterRequest {
        frontend_address: "127.0.0.1:1".into(),
        ..Default::default()
    };
    let refused = west
        .operator()
        .add_or_update_remote_cluster(nobody)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);

    let described = east
        .admin()
        .describe_cluster(admin::DescribeClusterRequest::default())
        .await;
    let described = described.unwrap().into_inner();
    assert_eq!(
        (
            described.history_shard_count,
            described.initial_failover_version
        ),
        (4, 2)
    );
    assert!(
        described
            .membership_info
            .unwrap()
            .rings
            .iter()
            .any(|r| r.member_count == 1)
    );
    let list = api::ListWorkflowExecutionsRequest {
        namespace: "orders".into(),
        query: "WorkflowId ==".into(),
        ..Default::default()
    };
    let refused = west.workflows().list_workflow_executions(list).await;
    let refused = refused.unwrap_err();
    assert!(refused.message().starts_with("invalid query"), "{refused}");
    west.stop().await;
    east.stop().await;
}

#[tokio::test]
async fn with_too_much_in_flight_starts_are_refused_and_polls_and_completions_go_on() {
    let settings = Settings::of([("system.maxInFlightRequests", 1)]);
    let west = start_with("west", 1, ForwardingPolicy::All, settings).await;
    let mut client = west.workflows();
    let request = api::RegisterNamespaceRequest {
        namespace: "orders".into(),
        workflow_execution_retention_period: Some(prost_types::Duration {
            seconds: 86_400,
            nanos: 0,
        }),
        ..Default::default()
    };
    client.register_namespace(request).await.unwrap();
    // Half of one place is none.
    let refused = client
        .start_workflow_execution(start_request("a"))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let failure: ResourceExhaustedFailure = status::decode_detail(&refused).unwrap();
    assert_eq!(failure.cause(), ResourceExhaustedCause::ConcurrentLimit);
    let completed = api::RespondActivityTaskCompletedByIdRequest {
        namespace: "orders".into(),
        ..Default::default()
    };
    let answered = client
        .respond_activity_task_completed_by_id(completed)
        .await;
    let answered = answered.map_or_else(|status| status.code(), |_| Code::Ok);
    assert_ne!(answered, Code::ResourceExhausted);
    let mut poll = tokio::spawn({
        let mut client = client.clone();
        async move {
            client
                .poll_workflow_task_queue(within(poll_request(), 60_000))
                .await
        }
    });
    tokio::select! {
        ended = &mut poll => panic!("a poll was not parked: {ended:?}"),
        () = west.matching.wait_until_parked() => {}
    }
    poll.abort();
    west.stop().await;
}
