//! ResetStickyTaskQueue: the worker's cache no longer holds the run.

use proto_messages::meridian::history::v1::{Empty, ResetStickyTaskQueueRequest};
use tonic::Status;

use cluster_core::Request;

use crate::{api, engine::Engine};

/// Serves the call.
pub async fn reset_sticky(
    engine: &Engine,
    request: ResetStickyTaskQueueRequest,
) -> Result<Empty, Status> {
    let key = api::run_key(&request.namespace_id, request.execution.as_ref())?;
    engine.apply_request(&key, Request::ResetSticky).await?;
    Ok(Empty {})
}
