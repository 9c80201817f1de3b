//! Calls find the service in this process or at its owner, and follow ownership when it moves.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use cluster_rpc::{HistoryClient, status};
use proto_messages::{
    meridian::history::v1::StartWorkflowExecutionRequest,
    temporal::api::workflowservice::v1::{self as api, StartWorkflowExecutionResponse},
};
use proto_services::meridian::history::v1::history_service_server::HistoryService;
use tonic::{Code, Request, Response, Status};

/// Says that it has lost the shard for the first `losses` calls, then answers with its name.
#[derive(Default)]
pub struct Named {
    pub name: &'static str,
    pub losses: AtomicU32,
}

#[tonic::async_trait]
impl HistoryService for Named {
    async fn start_workflow_execution(
        &self,
        _: Request<StartWorkflowExecutionRequest>,
    ) -> Result<Response<StartWorkflowExecutionResponse>, Status> {
        let left = self
            .losses
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if left.is_ok() {
            return Err(status::shard_ownership_lost("elsewhere", self.name));
        }
        Ok(Response::new(StartWorkflowExecutionResponse {
            run_id: self.name.into(),
            ..Default::default()
        }))
    }
}

pub fn start(workflow_id: &str) -> StartWorkflowExecutionRequest {
    let request = api::StartWorkflowExecutionRequest {
        workflow_id: workflow_id.into(),
        ..Default::default()
    };
    StartWorkflowExecutionRequest {
        namespace_id: "n".into(),
        request: Some(request),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_local_call_is_made_again_after_a_lost_shard() {
    let client = HistoryClient::local(4);
    let mut impatient = Request::new(start("w"));
    impatient.set_timeout(std::time::Duration::from_millis(1));
    let early = client
        .start_workflow_execution(impatient)
        .await
        .unwrap_err();
    assert_eq!(early.code(), Code::Unavailable, "{early}");
    client.set_local(Arc::new(Named {
        name: "here",
        losses: AtomicU32::new(2),
    }));
    // Spawned, as handlers are: the future has to be Send.
    let answer = tokio::spawn(async move { client.start_workflow_execution(start("w")).await });
    assert_eq!(answer.await.unwrap().unwrap().run_id, "here");
}
