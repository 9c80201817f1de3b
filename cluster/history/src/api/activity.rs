//! Calls of workers about activities. Tokens name run, scheduled event and attempt; calls by activity id
//! come with a token that holds the id instead.

use bytes::Bytes;
use proto_ids::EventId;
use proto_messages::{
    meridian::history::v1::{self as internal, Empty},
    temporal::api::workflowservice::v1 as public,
};
use tonic::Status;

use cluster_core::{Refusal, Reply, Request, request::ActivityRef};

use crate::{
    api::{self, required, run_key},
    engine::Engine,
    poll, token,
};

/// A worker takes an activity: RecordActivityTaskStarted, called by matching.
pub async fn started(
    engine: &Engine,
    request: internal::RecordActivityTaskStartedRequest,
) -> Result<public::PollActivityTaskQueueResponse, Status> {
    let key = run_key(&request.namespace_id, request.execution.as_ref())?;
    let namespace = engine.namespace(&key.namespace_id).await?;
    let shard = engine.shard_of(&key).await?;
    let scheduled = EventId::new(request.scheduled_event_id);
    let durable = request.durable;
    let core_request = Request::StartActivity {
        scheduled_event_id: scheduled,
        attempt: request.attempt,
        request_id: request.request_id,
        identity: request.poll_request.map(|p| p.identity).unwrap_or_default(),
    };
    let updated = engine.update(&shard, &key, |ms, ctx| {
        let mut transition = ms.handle(core_request, ctx)?;
        api::promote(&mut transition, durable);
        let activity = ms
            .activities
            .get(&scheduled)
            .ok_or(Refusal::ActivityNotFound)?;
        let task = poll::activity_task(ms, activity, namespace.name.as_str());
        Ok((transition, task))
    });
    Ok(updated.await?.value)
}

/// RecordActivityTaskHeartbeat, by token or id.
pub async fn heartbeat(
    engine: &Engine,
    request: internal::RecordActivityTaskHeartbeatRequest,
) -> Result<public::RecordActivityTaskHeartbeatResponse, Status> {
    let public = required(request.request)?;
    let (details, identity) = (public.details, public.identity);
    let reply = respond(
        engine,
        &request.namespace_id,
        &public.task_token,
        |activity| Request::Heartbeat {
            activity,
            details,
            identity,
        },
    );
    let (cancel_requested, activity_paused) = match reply.await? {
        Reply::Heartbeat {
            cancel_requested,
            paused,
        } => (cancel_requested, paused),
        _ => (false, false),
    };
    Ok(public::RecordActivityTaskHeartbeatResponse {
        cancel_requested,
        activity_paused,
        ..Default::default()
    })
}

/// RespondActivityTaskCompleted, by token or id.
pub async fn completed(
    engine: &Engine,
    request: internal::RespondActivityTaskCompletedRequest,
) -> Result<Empty, Status> {
    let public = required(request.request)?;
    let (result, identity) = (public.result, public.identity);
    let reply = respond(
        engine,
        &request.namespace_id,
        &public.task_token,
        |activity| Request::CompleteActivity {
            activity,
            result,
            identity,
        },
    );
    reply.await.map(|_| Empty {})
}

/// RespondActivityTaskFailed, by token or id.
pub async fn failed(
    engine: &Engine,
    request: internal::RespondActivityTaskFailedRequest,
) -> Result<Empty, Status> {
    let public = required(request.request)?;
    let (failure, identity) = (public.failure, public.identity);
    let last_heartbeat_details = public.last_heartbeat_details;
    let reply = respond(
        engine,
        &request.namespace_id,
        &public.task_token,
        |activity| Request::FailActivity {
            activity,
            failure,
            last_heartbeat_details,
            identity,
        },
    );
    reply.await.map(|_| Empty {})
}

/// RespondActivityTaskCanceled, by token or id.
pub async fn canceled(
    engine: &Engine,
    request: internal::RespondActivityTaskCanceledRequest,
) -> Result<Empty, Status> {
    let public = required(request.request)?;
    let (details, identity) = (public.details, public.identity);
    let reply = respond(
        engine,
        &request.namespace_id,
        &public.task_token,
        |activity| Request::CancelActivity {
            activity,
            details,
            identity,
        },
    );
    reply.await.map(|_| Empty {})
}

async fn respond(
    engine: &Engine,
    namespace_id: &str,
    task_token: &Bytes,
    make_request: impl FnOnce(ActivityRef) -> Request,
) -> Result<Reply, Status> {
    let (key, task) = token::read_task(namespace_id, task_token)?;
    let request = make_request(token::activity_ref(&task)?);
    Ok(engine.apply_request(&key, request).await?.reply)
}
