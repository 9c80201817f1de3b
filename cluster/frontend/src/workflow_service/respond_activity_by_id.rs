//! How activities report by their id instead of a token: a token is made that names the id, and the call
//! goes on as the one by token.

use bytes::Bytes;
use prost::Message;
use proto_messages::{
    meridian::history::v1::TaskToken,
    temporal::api::workflowservice::v1::{
        RecordActivityTaskHeartbeatByIdRequest, RecordActivityTaskHeartbeatByIdResponse,
        RecordActivityTaskHeartbeatRequest, RespondActivityTaskCanceledByIdRequest,
        RespondActivityTaskCanceledByIdResponse, RespondActivityTaskCanceledRequest,
        RespondActivityTaskCompletedByIdRequest, RespondActivityTaskCompletedByIdResponse,
        RespondActivityTaskCompletedRequest, RespondActivityTaskFailedByIdRequest,
        RespondActivityTaskFailedByIdResponse, RespondActivityTaskFailedRequest,
    },
};
use tonic::Status;

use crate::{
    edge::{Call, Serve},
    frontend::Host,
    validate,
};

impl Serve for RecordActivityTaskHeartbeatByIdRequest {
    async fn serve(
        self,
        host: &Host,
        call: &Call,
    ) -> Result<RecordActivityTaskHeartbeatByIdResponse, Status> {
        let task_token = token(host, call, self.workflow_id, self.run_id, self.activity_id)?;
        let request = RecordActivityTaskHeartbeatRequest {
            task_token,
            details: self.details,
            identity: self.identity,
            namespace: self.namespace,
            resource_id: self.resource_id,
        };
        let answer = request.serve(host, call).await?;
        Ok(RecordActivityTaskHeartbeatByIdResponse {
            cancel_requested: answer.cancel_requested,
            activity_paused: answer.activity_paused,
            activity_reset: answer.activity_reset,
        })
    }
}

impl Serve for RespondActivityTaskCompletedByIdRequest {
    async fn serve(
        self,
        host: &Host,
        call: &Call,
    ) -> Result<RespondActivityTaskCompletedByIdResponse, Status> {
        let task_token = token(host, call, self.workflow_id, self.run_id, self.activity_id)?;
        let request = RespondActivityTaskCompletedRequest {
            task_token,
            result: self.result,
            identity: self.identity,
            namespace: self.namespace,
            resource_id: self.resource_id,
            ..Default::default()
        };
        request.serve(host, call).await?;
        Ok(RespondActivityTaskCompletedByIdResponse {})
    }
}

impl Serve for RespondActivityTaskFailedByIdRequest {
    async fn serve(
        self,
        host: &Host,
        call: &Call,
    ) -> Result<RespondActivityTaskFailedByIdResponse, Status> {
        let task_token = token(host, call, self.workflow_id, self.run_id, self.activity_id)?;
        let request = RespondActivityTaskFailedRequest {
            task_token,
            failure: self.failure,
            identity: self.identity,
            namespace: self.namespace,
            resource_id: self.resource_id,
            last_heartbeat_details: self.last_heartbeat_details,
            cause: self.cause,
            ..Default::default()
        };
        let answer = request.serve(host, call).await?;
        Ok(RespondActivityTaskFailedByIdResponse {
            failures: answer.failures,
        })
    }
}

impl Serve for RespondActivityTaskCanceledByIdRequest {
    async fn serve(
        self,
        host: &Host,
        call: &Call,
    ) -> Result<RespondActivityTaskCanceledByIdResponse, Status> {
        let task_token = token(host, call, self.workflow_id, self.run_id, self.activity_id)?;
        let request = RespondActivityTaskCanceledRequest {
            task_token,
            details: self.details,
            identity: self.identity,
            namespace: self.namespace,
            resource_id: self.resource_id,
            deployment_options: self.deployment_options,
            ..Default::default()
        };
        request.serve(host, call).await?;
        Ok(RespondActivityTaskCanceledByIdResponse {})
    }
}

/// A token that names an activity by its id; an empty run id means the current run.
fn token(
    host: &Host,
    call: &Call,
    workflow_id: String,
    run_id: String,
    activity_id: String,
) -> Result<Bytes, Status> {
    let limits = host.limits(call.namespace.name.as_str());
    validate::workflow_id(&workflow_id, limits)?;
    validate::run_id(&run_id)?;
    validate::identifier("ActivityId", &activity_id, limits)?;
    let token = TaskToken {
        namespace_id: call.namespace_id(),
        workflow_id,
        run_id,
        activity_id,
        ..Default::default()
    };
    Ok(Bytes::from(token.encode_to_vec()))
}
