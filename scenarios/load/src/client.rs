//! The client half of the load: start a workflow, signal it, wait for its result, read its history.

use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use proto_messages::temporal::api::{
    common::v1::{Payloads, WorkflowExecution, WorkflowType},
    enums::v1::{EventType, HistoryEventFilterType, WorkflowIdReusePolicy},
    history::v1::HistoryEvent,
    taskqueue::v1::TaskQueue,
    workflowservice::v1::{
        DescribeNamespaceRequest, DescribeNamespaceResponse, GetClusterInfoRequest,
        GetWorkflowExecutionHistoryRequest, RequestCancelWorkflowExecutionRequest,
        ResetWorkflowExecutionRequest, SignalWorkflowExecutionRequest,
        StartWorkflowExecutionRequest, TerminateWorkflowExecutionRequest,
    },
};
use tonic::{Code, Status};

use crate::{
    connect::{Connections, local, timed},
    script::payloads,
};

/// The workflow type of every workflow the load starts.
pub const WORKFLOW_TYPE: &str = "meridian.load.script";

/// Deadline of ordinary calls.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Deadline of long polls on a history; servers answer earlier, empty, and are asked again.
const LONG_POLL_TIMEOUT: Duration = Duration::from_secs(65);

/// Starts and observes workflows in one namespace on one task queue.
#[derive(Clone)]
pub struct Client {
    connections: Connections,
    namespace: String,
    queue: String,
    identity: String,
}

/// The cluster that a read is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Whatever the receiving cluster answers, which may be forwarded.
    Any,
    /// The receiving cluster's own data only.
    Own,
}

impl Client {
    /// A client for `namespace`, starting workflows on `queue`.
    pub fn new(connections: Connections, namespace: &str, queue: &str) -> Self {
        Self {
            connections,
            namespace: namespace.to_owned(),
            queue: queue.to_owned(),
            identity: format!("meridian-load-client@{}", std::process::id()),
        }
    }

    /// The connections it calls over.
    pub fn connections(&self) -> &Connections {
        &self.connections
    }

    /// The namespace it works in.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Describes the namespace, or says clearly that it does not exist: a load never creates it.
    pub async fn namespace_required(&self) -> anyhow::Result<DescribeNamespaceResponse> {
        let request = DescribeNamespaceRequest {
            namespace: self.namespace.clone(),
            ..Default::default()
        };
        let answer = self
            .connections
            .api()
            .describe_namespace(timed(request, CALL_TIMEOUT))
            .await;
        match answer {
            Ok(found) => Ok(found.into_inner()),
            Err(status) if status.code() == Code::NotFound => anyhow::bail!(
                "namespace {0:?} does not exist at {1}; create it first, for example: \
                 temporal operator namespace create --namespace {0} --address {1}",
                self.namespace,
                self.connections.addresses(),
            ),
            Err(status) => Err(anyhow::Error::new(status)
                .context(format!("no answer from {}", self.connections.addresses()))),
        }
    }

    /// The name of the cluster that answers.
    pub async fn cluster_name(&self) -> anyhow::Result<String> {
        let mut api = self.connections.api();
        let asked = timed(GetClusterInfoRequest {}, CALL_TIMEOUT);
        let answer = api.get_cluster_info(asked).await;
        let answer = answer
            .with_context(|| format!("ask {} for its cluster", self.connections.addresses()))?;
        Ok(answer.into_inner().cluster_name)
    }

    /// Starts a workflow with a script as its input ([`crate::script::Script::input`]); the run id it
    /// got. The request id makes a repeated call harmless.
    pub async fn start(
        &self,
        workflow_id: &str,
        request_id: &str,
        input: &Payloads,
    ) -> Result<String, Status> {
        let request = StartWorkflowExecutionRequest {
            namespace: self.namespace.clone(),
            workflow_id: workflow_id.to_owned(),
            workflow_type: Some(WorkflowType {
                name: WORKFLOW_TYPE.to_owned(),
            }),
            task_queue: Some(TaskQueue {
                name: self.queue.clone(),
                ..Default::default()
            }),
            input: Some(input.clone()),
            identity: self.identity.clone(),
            request_id: request_id.to_owned(),
            workflow_id_reuse_policy: WorkflowIdReusePolicy::AllowDuplicate as i32,
            ..Default::default()
        };
        let answer = self
            .connections
            .api()
            .start_workflow_execution(timed(request, CALL_TIMEOUT))
            .await?;
        Ok(answer.into_inner().run_id)
    }

    /// Signals a workflow's open run.
    pub async fn signal(
        &self,
        workflow_id: &str,
        name: &str,
        request_id: &str,
    ) -> Result<(), Status> {
        let request = SignalWorkflowExecutionRequest {
            namespace: self.namespace.clone(),
            workflow_execution: Some(execution(workflow_id, "")),
            signal_name: name.to_owned(),
            input: Some(payloads(Bytes::from_static(b"{}"))),
            identity: self.identity.clone(),
            request_id: request_id.to_owned(),
            ..Default::default()
        };
        self.connections
            .api()
            .signal_workflow_execution(timed(request, CALL_TIMEOUT))
            .await?;
        Ok(())
    }

    /// Asks a workflow's open run to cancel.
    pub async fn cancel(
        &self,
        workflow_id: &str,
        reason: &str,
        request_id: &str,
    ) -> Result<(), Status> {
        let request = RequestCancelWorkflowExecutionRequest {
            namespace: self.namespace.clone(),
            workflow_execution: Some(execution(workflow_id, "")),
            identity: self.identity.clone(),
            request_id: request_id.to_owned(),
            reason: reason.to_owned(),
            ..Default::default()
        };
        let mut api = self.connections.api();
        api.request_cancel_workflow_execution(timed(request, CALL_TIMEOUT))
            .await?;
        Ok(())
    }

    /// Ends a workflow's open run.
    pub async fn terminate(&self, workflow_id: &str, reason: &str) -> Result<(), Status> {
        let request = TerminateWorkflowExecutionRequest {
            namespace: self.namespace.clone(),
            workflow_execution: Some(execution(workflow_id, "")),
            identity: self.identity.clone(),
            reason: reason.to_owned(),
            ..Default::default()
        };
        let mut api = self.connections.api();
        api.terminate_workflow_execution(timed(request, CALL_TIMEOUT))
            .await?;
        Ok(())
    }

    /// Lets a workflow go on from the end of a workflow task; the run that does.
    pub async fn reset(
        &self,
        workflow_id: &str,
        run_id: &str,
        finish_event_id: i64,
        request_id: &str,
    ) -> Result<String, Status> {
        let request = ResetWorkflowExecutionRequest {
            namespace: self.namespace.clone(),
            workflow_execution: Some(execution(workflow_id, run_id)),
            reason: request_id.to_owned(),
            workflow_task_finish_event_id: finish_event_id,
            request_id: request_id.to_owned(),
            identity: self.identity.clone(),
            ..Default::default()
        };
        let mut api = self.connections.api();
        let answer = api
            .reset_workflow_execution(timed(request, CALL_TIMEOUT))
            .await?;
        Ok(answer.into_inner().run_id)
    }

    /// Waits by long poll until the run is closed; the closing event.
    pub async fn closing_event(
        &self,
        workflow_id: &str,
        run_id: &str,
        whose: Whose,
    ) -> Result<HistoryEvent, Status> {
        let mut token = Bytes::new();
        loop {
            let request = GetWorkflowExecutionHistoryRequest {
                namespace: self.namespace.clone(),
                execution: Some(execution(workflow_id, run_id)),
                next_page_token: token.clone(),
                wait_new_event: true,
                history_event_filter_type: HistoryEventFilterType::CloseEvent as i32,
                ..Default::default()
            };
            let answer = self.history_call(request, whose, LONG_POLL_TIMEOUT).await?;
            if let Some(event) = answer.0.into_iter().next_back() {
                return Ok(event);
            }
            if answer.1.is_empty() {
                return Err(Status::internal(
                    "long poll on an open run answered neither an event nor a token",
                ));
            }
            token = answer.1;
        }
    }

    /// One page of history after `token`, waiting for new events when there are none yet.
    pub async fn next_events(
        &self,
        workflow_id: &str,
        run_id: &str,
        token: Bytes,
        whose: Whose,
    ) -> Result<(Vec<HistoryEvent>, Bytes), Status> {
        let request = GetWorkflowExecutionHistoryRequest {
            namespace: self.namespace.clone(),
            execution: Some(execution(workflow_id, run_id)),
            next_page_token: token,
            wait_new_event: true,
            history_event_filter_type: HistoryEventFilterType::AllEvent as i32,
            ..Default::default()
        };
        self.history_call(request, whose, LONG_POLL_TIMEOUT).await
    }

    /// The whole history of a run as it is now.
    pub async fn history(
        &self,
        workflow_id: &str,
        run_id: &str,
        whose: Whose,
    ) -> Result<Vec<HistoryEvent>, Status> {
        let mut events = Vec::new();
        let mut token = Bytes::new();
        loop {
            let request = GetWorkflowExecutionHistoryRequest {
                namespace: self.namespace.clone(),
                execution: Some(execution(workflow_id, run_id)),
                next_page_token: token,
                ..Default::default()
            };
            let (page, next) = self.history_call(request, whose, CALL_TIMEOUT).await?;
            events.extend(page);
            if next.is_empty() {
                return Ok(events);
            }
            token = next;
        }
    }

    async fn history_call(
        &self,
        request: GetWorkflowExecutionHistoryRequest,
        whose: Whose,
        timeout: Duration,
    ) -> Result<(Vec<HistoryEvent>, Bytes), Status> {
        let request = match whose {
            Whose::Any => timed(request, timeout),
            Whose::Own => local(request, timeout),
        };
        let answer = self
            .connections
            .api()
            .get_workflow_execution_history(request)
            .await?
            .into_inner();
        let events = answer.history.map(|h| h.events).unwrap_or_default();
        Ok((events, answer.next_page_token))
    }

    /// Checks a finished run: ids without gaps, from 1 on, ending in completion.
    pub async fn verify_completed(&self, workflow_id: &str, run_id: &str) -> anyhow::Result<()> {
        let events = self
            .history(workflow_id, run_id, Whose::Any)
            .await
            .context("read history")?;
        for (event, expected) in events.iter().zip(1..) {
            anyhow::ensure!(
                event.event_id == expected,
                "{workflow_id}: event {} where {expected} was due",
                event.event_id
            );
        }
        let last = events.last().map(HistoryEvent::event_type);
        anyhow::ensure!(
            last == Some(EventType::WorkflowExecutionCompleted),
            "{workflow_id}: history ends in {last:?}"
        );
        Ok(())
    }
}

/// A run's name on the wire; an empty run id means the current one.
pub fn execution(workflow_id: &str, run_id: &str) -> WorkflowExecution {
    WorkflowExecution {
        workflow_id: workflow_id.to_owned(),
        run_id: run_id.to_owned(),
    }
}
