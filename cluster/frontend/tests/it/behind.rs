//! What stands behind a frontend in these tests.

use std::{collections::HashMap, sync::Arc};

use cluster_rpc::status;
use namespaces::{Clusters, Registry};
use parking_lot::Mutex;
use proto_messages::{
    meridian::{history::v1 as history, matching::v1 as matching},
    temporal::api::workflowservice::v1 as api,
};
use proto_services::meridian::{
    history::v1::history_service_server::HistoryService,
    matching::v1::matching_service_server::MatchingService,
};
use tokio::sync::Notify;
use tonic::{Request, Response, Status, async_trait};

/// Answers starts with its cluster's name as run id.
pub struct History {
    pub registry: Registry,
    pub clusters: Clusters,
    /// What this side believes beside the registry: the active cluster, when it knows better.
    pub knows_better: Mutex<Option<String>>,
    pub started: Mutex<Vec<api::StartWorkflowExecutionRequest>>,
}

#[async_trait]
impl HistoryService for History {
    async fn start_workflow_execution(
        &self,
        request: Request<history::StartWorkflowExecutionRequest>,
    ) -> Result<Response<api::StartWorkflowExecutionResponse>, Status> {
        let request = request.into_inner();
        let namespace = self.registry.by_id(&request.namespace_id.into()).unwrap();
        let current = self.clusters.current_name();
        let active = self.knows_better.lock().clone();
        let active = active.unwrap_or_else(|| namespace.active_cluster.to_string());
        if namespace.is_global && active != current.as_str() {
            let name = namespace.name.as_str();
            return Err(status::namespace_not_active(
                name,
                current.as_str(),
                &active,
            ));
        }
        let start = request.request.unwrap();
        if start.identity == "breaks" {
            return Err(status::internal("the disk is full"));
        }
        self.started.lock().push(start);
        Ok(Response::new(api::StartWorkflowExecutionResponse {
            run_id: current.to_string(),
            ..Default::default()
        }))
    }
}

/// Parks polls until they are cancelled or a task is offered.
#[derive(Default)]
pub struct Matching {
    offered: Mutex<Vec<String>>,
    arrived: Arc<Notify>,
    parked: Mutex<HashMap<String, Arc<Notify>>>,
    pub parked_changed: Notify,
}

impl Matching {
    pub fn offer(&self, token: &str) {
        self.offered.lock().push(token.to_owned());
        self.arrived.notify_waiters();
    }

    pub async fn wait_until_parked(&self) {
        loop {
            let changed = self.parked_changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if !self.parked.lock().is_empty() {
                return;
            }
            changed.await;
        }
    }
}

#[async_trait]
impl MatchingService for Matching {
    async fn poll_workflow_task_queue(
        &self,
        request: Request<matching::PollWorkflowTaskQueueRequest>,
    ) -> Result<Response<api::PollWorkflowTaskQueueResponse>, Status> {
        let within = cluster_rpc::deadline::timeout_of(request.metadata()).unwrap();
        let poller = request.into_inner().poller_id;
        let cancelled = Arc::new(Notify::new());
        self.parked.lock().insert(poller.clone(), cancelled.clone());
        let served = async {
            loop {
                let arrived = self.arrived.notified();
                tokio::pin!(arrived);
                arrived.as_mut().enable();
                if let Some(token) = self.offered.lock().pop() {
                    return token;
                }
                self.parked_changed.notify_waiters();
                tokio::select! {
                    () = cancelled.notified() => return String::new(),
                    () = arrived => {}
                }
            }
        };
        let served = tokio::time::timeout(within, served)
            .await
            .unwrap_or_default();
        self.parked.lock().remove(&poller);
        Ok(Response::new(api::PollWorkflowTaskQueueResponse {
            task_token: served.clone().into(),
            // An empty answer must reach the worker without this.
            backlog_count_hint: 7,
            ..Default::default()
        }))
    }

    async fn cancel_outstanding_poll(
        &self,
        request: Request<matching::CancelOutstandingPollRequest>,
    ) -> Result<Response<matching::Empty>, Status> {
        if let Some(cancelled) = self.parked.lock().get(&request.into_inner().poller_id) {
            cancelled.notify_one();
        }
        Ok(Response::new(matching::Empty {}))
    }
}
