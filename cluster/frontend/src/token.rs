//! What the frontend reads in tokens: the namespace they belong to. The rest is opaque to it.

use cluster_rpc::status;
use prost::Message;
use proto_messages::meridian::history::v1::{HistoryToken, QueryToken, TaskToken};
use tonic::Status;

/// A task token.
pub(crate) fn task(token: &[u8]) -> Result<TaskToken, Status> {
    read(token, |t: &TaskToken| &t.namespace_id)
}

/// The token of a query task.
pub(crate) fn query(token: &[u8]) -> Result<QueryToken, Status> {
    read(token, |t: &QueryToken| &t.namespace_id)
}

fn read<T: Message + Default>(token: &[u8], namespace: fn(&T) -> &String) -> Result<T, Status> {
    if token.is_empty() {
        return Err(status::invalid_argument("Task token not set on request."));
    }
    T::decode(token)
        .ok()
        .filter(|t| !namespace(t).is_empty())
        .ok_or_else(|| status::invalid_argument("Invalid TaskToken."))
}

/// Refuses a page token of another namespace's history.
pub(crate) fn check_history(token: &[u8], namespace_id: &str) -> Result<(), Status> {
    if token.is_empty() {
        return Ok(());
    }
    match HistoryToken::decode(token) {
        Ok(token) if token.namespace_id.is_empty() || token.namespace_id == namespace_id => Ok(()),
        Ok(_) => Err(status::invalid_argument(
            "Operation requested with a token from a different namespace.",
        )),
        Err(_) => Err(status::invalid_argument("Invalid NextPageToken.")),
    }
}
