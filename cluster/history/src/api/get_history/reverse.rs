//! GetWorkflowExecutionHistoryReverse: newest event first.

use proto_ids::EventId;
use proto_messages::{
    meridian::history::v1::{GetWorkflowExecutionHistoryReverseRequest, HistoryToken},
    temporal::api::{
        history::v1::{History, HistoryEvent},
        workflowservice::v1::GetWorkflowExecutionHistoryReverseResponse,
    },
};
use tonic::Status;

use crate::{api, engine::Engine, error, poll, token};

/// Serves the call.
pub async fn reverse(
    engine: &Engine,
    request: GetWorkflowExecutionHistoryReverseRequest,
) -> Result<GetWorkflowExecutionHistoryReverseResponse, Status> {
    let api_request = api::required(request.request)?;
    let mut key = api::run_key(&request.namespace_id, api_request.execution.as_ref())?;
    let shard = engine.shard_of(&key).await?;
    let mut token = if api_request.next_page_token.is_empty() {
        let extent = super::extent(&shard, &key).await?;
        let last = extent.next_event_id.get() - 1;
        HistoryToken {
            next_event_id: last,
            ..super::first_token(&extent)
        }
    } else {
        token::read_history(&key, &api_request.next_page_token)?
    };
    key.run_id = token.run_id.as_str().into();
    let branch = token::read_branch(&token.branch_token)?;
    let last = EventId::new(token.next_event_id);
    let size = super::page_size(api_request.maximum_page_size);
    let page = shard
        .history_reverse(&key, Some(&branch), EventId::new(1), last.next(), size)
        .await
        .map_err(|e| error::status(e.into(), &key))?;
    let mut events: Vec<HistoryEvent> = Vec::new();
    for batch in &page.batches {
        let batch = poll::decode(&batch.data)?;
        let next = token.next_event_id;
        events.extend(batch.into_iter().rev().filter(|e| e.event_id <= next));
        token.next_event_id = events.last().map_or(next, |e| e.event_id - 1);
    }
    let goes_on = token.next_event_id >= 1 && !events.is_empty();
    Ok(GetWorkflowExecutionHistoryReverseResponse {
        history: Some(History { events }),
        next_page_token: if goes_on {
            token::history(&token)
        } else {
            Default::default()
        },
    })
}
