//! Reads the namespace from tokens. The rest of a token is opaque to the frontend.

use cluster_rpc::status;
use prost::Message;
use proto_messages::meridian::history::v1::{HistoryToken, QueryToken, TaskToken};
use tonic::Status;

/// A task token.
pub(crate) fn task(token: &[u8]) -> Result<TaskToken, Status> {
    read(token, |t: &TaskToken| {
        are_ids(&[&t.namespace_id, &t.workflow_id, &t.run_id, &t.activity_id])
    })
}

/// The token of a query task.
pub(crate) fn query(token: &[u8]) -> Result<QueryToken, Status> {
    read(token, |t: &QueryToken| {
        are_ids(&[&t.namespace_id, &t.task_queue])
    })
}

/// Whether this server may have written these ids, the namespace's first. Clients return tokens as they got
/// them, but a forged one gets no farther than a request of the same caller.
fn are_ids(ids: &[&str]) -> bool {
    !ids[0].is_empty() && ids.iter().all(|id| is_id(id))
}

fn is_id(id: &str) -> bool {
    id.len() <= ID_MAX && !id.as_bytes().contains(&0)
}

/// Bytes of an id in a token, whatever the limits of requests are.
const ID_MAX: usize = 4_096;

fn read<T: Message + Default>(token: &[u8], is_ours: fn(&T) -> bool) -> Result<T, Status> {
    if token.is_empty() {
        return Err(status::invalid_argument("Task token not set on request."));
    }
    T::decode(token)
        .ok()
        .filter(is_ours)
        .ok_or_else(|| status::invalid_argument("Invalid TaskToken."))
}

/// Refuses a page token of another namespace's history.
pub(crate) fn check_history(token: &[u8], namespace_id: &str) -> Result<(), Status> {
    if token.is_empty() {
        return Ok(());
    }
    match HistoryToken::decode(token) {
        Ok(token) if !is_id(&token.workflow_id) || !is_id(&token.run_id) => {
            Err(status::invalid_argument("Invalid NextPageToken."))
        }
        Ok(token) if token.namespace_id.is_empty() || token.namespace_id == namespace_id => Ok(()),
        Ok(_) => Err(status::invalid_argument(
            "Operation requested with a token from a different namespace.",
        )),
        Err(_) => Err(status::invalid_argument("Invalid NextPageToken.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_no_server_made_is_refused() {
        let good = TaskToken {
            namespace_id: "ns".into(),
            workflow_id: "w".into(),
            run_id: "r".into(),
            ..Default::default()
        };
        assert!(task(&good.encode_to_vec()).is_ok());
        for bad in [
            TaskToken {
                namespace_id: String::new(),
                ..good.clone()
            },
            TaskToken {
                workflow_id: "w\0".into(),
                ..good.clone()
            },
            TaskToken {
                namespace_id: "x".repeat(100_000),
                ..good.clone()
            },
        ] {
            let refused = task(&bad.encode_to_vec()).unwrap_err();
            assert_eq!(refused.message(), "Invalid TaskToken.");
        }
        let page = |run_id: &str| {
            HistoryToken {
                namespace_id: "ns".into(),
                run_id: run_id.into(),
                ..Default::default()
            }
            .encode_to_vec()
        };
        assert!(check_history(&page("r"), "ns").is_ok());
        assert!(check_history(&page("r\0"), "ns").is_err());
        assert!(check_history(&page("r"), "other").is_err());
    }
}
