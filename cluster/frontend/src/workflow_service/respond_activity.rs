//! How activities report by token. What is too large to be kept fails the activity with a reason that
//! says so, instead of being refused: a refused answer would leave the activity running until it times out.

use proto_messages::{
    meridian::history::v1 as history,
    temporal::api::{
        failure::v1::{Failure, ServerFailureInfo, failure::FailureInfo},
        workflowservice::v1::{
            RecordActivityTaskHeartbeatRequest, RecordActivityTaskHeartbeatResponse,
            RespondActivityTaskCanceledRequest, RespondActivityTaskCanceledResponse,
            RespondActivityTaskCompletedRequest, RespondActivityTaskCompletedResponse,
            RespondActivityTaskFailedRequest, RespondActivityTaskFailedResponse,
        },
    },
};
use tonic::Status;

use crate::{
    edge::{Call, Serve},
    frontend::Host,
    validate,
};

/// Bytes of a failure's text that are kept when the whole is too large.
const CUT_TEXT: usize = 2_048;

impl Serve for RecordActivityTaskHeartbeatRequest {
    async fn serve(
        self,
        host: &Host,
        call: &Call,
    ) -> Result<RecordActivityTaskHeartbeatResponse, Status> {
        let limits = host.limits(call.namespace.name.as_str());
        validate::length("Identity", &self.identity, limits)?;
        if !validate::fits(self.details.as_ref(), limits) {
            let failure = server("Heartbeat details exceed size limit.", None);
            fail(host, call, self.task_token, self.identity, failure).await?;
            return Ok(RecordActivityTaskHeartbeatResponse {
                cancel_requested: true,
                ..Default::default()
            });
        }
        let request = history::RecordActivityTaskHeartbeatRequest {
            namespace_id: call.namespace_id(),
            request: Some(self),
        };
        host.history
            .record_activity_task_heartbeat(call.onward(request))
            .await
    }
}

impl Serve for RespondActivityTaskCompletedRequest {
    async fn serve(
        self,
        host: &Host,
        call: &Call,
    ) -> Result<RespondActivityTaskCompletedResponse, Status> {
        let limits = host.limits(call.namespace.name.as_str());
        validate::length("Identity", &self.identity, limits)?;
        if !validate::fits(self.result.as_ref(), limits) {
            let failure = server("Complete result exceeds size limit.", None);
            fail(host, call, self.task_token, self.identity, failure).await?;
            return Ok(RespondActivityTaskCompletedResponse {});
        }
        let request = history::RespondActivityTaskCompletedRequest {
            namespace_id: call.namespace_id(),
            request: Some(self),
        };
        host.history
            .respond_activity_task_completed(call.onward(request))
            .await?;
        Ok(RespondActivityTaskCompletedResponse {})
    }
}

impl Serve for RespondActivityTaskFailedRequest {
    async fn serve(
        mut self,
        host: &Host,
        call: &Call,
    ) -> Result<RespondActivityTaskFailedResponse, Status> {
        let limits = host.limits(call.namespace.name.as_str());
        validate::length("Identity", &self.identity, limits)?;
        if !validate::fits(self.last_heartbeat_details.as_ref(), limits) {
            self.last_heartbeat_details = None;
            self.failure = Some(server("Heartbeat details exceed size limit.", None));
        }
        validate::failure(self.failure.as_mut());
        if !validate::fits(self.failure.as_ref(), limits) {
            let whole = self.failure.take().unwrap_or_default();
            self.failure = Some(server("Failure exceeds size limit.", Some(cut(whole))));
        }
        let request = history::RespondActivityTaskFailedRequest {
            namespace_id: call.namespace_id(),
            request: Some(self),
        };
        host.history
            .respond_activity_task_failed(call.onward(request))
            .await?;
        Ok(RespondActivityTaskFailedResponse::default())
    }
}

impl Serve for RespondActivityTaskCanceledRequest {
    async fn serve(
        self,
        host: &Host,
        call: &Call,
    ) -> Result<RespondActivityTaskCanceledResponse, Status> {
        let limits = host.limits(call.namespace.name.as_str());
        validate::length("Identity", &self.identity, limits)?;
        if !validate::fits(self.details.as_ref(), limits) {
            let failure = server("Cancel details exceed size limit.", None);
            fail(host, call, self.task_token, self.identity, failure).await?;
            return Ok(RespondActivityTaskCanceledResponse {});
        }
        let request = history::RespondActivityTaskCanceledRequest {
            namespace_id: call.namespace_id(),
            request: Some(self),
        };
        host.history
            .respond_activity_task_canceled(call.onward(request))
            .await?;
        Ok(RespondActivityTaskCanceledResponse {})
    }
}

async fn fail(
    host: &Host,
    call: &Call,
    task_token: bytes::Bytes,
    identity: String,
    failure: Failure,
) -> Result<(), Status> {
    let request = RespondActivityTaskFailedRequest {
        task_token,
        failure: Some(failure),
        identity,
        namespace: call.namespace.name.to_string(),
        ..Default::default()
    };
    let request = history::RespondActivityTaskFailedRequest {
        namespace_id: call.namespace_id(),
        request: Some(request),
    };
    host.history
        .respond_activity_task_failed(call.onward(request))
        .await?;
    Ok(())
}

/// A failure that the server made; it is not retried, since the next attempt would be as large.
fn server(message: &str, cause: Option<Failure>) -> Failure {
    Failure {
        message: message.to_owned(),
        source: "Server".to_owned(),
        cause: cause.map(Box::new),
        failure_info: Some(FailureInfo::ServerFailureInfo(ServerFailureInfo {
            non_retryable: true,
        })),
        ..Default::default()
    }
}

/// The failure's texts and kind, without payloads and causes.
pub(super) fn cut(mut failure: Failure) -> Failure {
    let cut = |mut text: String| {
        let mut end = text.len().min(CUT_TEXT);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text
    };
    let mut failure_info = failure.failure_info.take();
    match &mut failure_info {
        Some(FailureInfo::ApplicationFailureInfo(info)) => info.details = None,
        Some(FailureInfo::CanceledFailureInfo(info)) => info.details = None,
        Some(FailureInfo::TimeoutFailureInfo(info)) => info.last_heartbeat_details = None,
        _ => {}
    }
    Failure {
        message: cut(failure.message),
        source: cut(failure.source),
        stack_trace: cut(failure.stack_trace),
        failure_info,
        ..Default::default()
    }
}
