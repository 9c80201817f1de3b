//! Raw history: batches as they were written, for peers that lack them. NOT_FOUND is said only of runs that
//! are known to be gone, since a peer deletes its copy on that word.

use cluster_core::{VersionHistories, VersionItem};
use cluster_shard::Shard;
use prost::Message;
use proto_ids::{EventId, RunKey};
use proto_messages::{
    meridian::history::v1::HistoryToken,
    meridian::replication::v1::{HistoryDigest, RunState},
    temporal::{
        api::common::v1::{DataBlob, WorkflowExecution},
        server::api::{
            adminservice::v1::{
                GetWorkflowExecutionRawHistoryRequest, GetWorkflowExecutionRawHistoryResponse,
                GetWorkflowExecutionRawHistoryV2Request, GetWorkflowExecutionRawHistoryV2Response,
            },
            history::v1::VersionHistory,
        },
    },
};
use tonic::Status;

use super::{ReplicationHost, run_key};
use crate::{
    apply::status,
    digest::{self, Digest},
    range::{Bounds, Range},
    wire,
};

/// Batches in one page, whatever is asked for.
const PAGE_MAX: usize = 1_000;

/// Bytes in one page, within what a peer of Temporal Server takes in one message.
const PAGE_BYTES_MAX: usize = 3 << 20;

struct Page {
    batches: Vec<DataBlob>,
    node_ids: Vec<i64>,
    history: VersionHistory,
    token: Vec<u8>,
    run_state: Option<RunState>,
}

impl ReplicationHost {
    pub(super) async fn raw_history_v2(
        &self,
        r: GetWorkflowExecutionRawHistoryV2Request,
    ) -> Result<GetWorkflowExecutionRawHistoryV2Response, Status> {
        let key = run_key(&r.namespace_id, r.execution.as_ref())?;
        let bounds = Bounds::new(
            (r.start_event_id, r.start_event_version),
            (r.end_event_id, r.end_event_version),
        );
        let resolve = |versions: &VersionHistories| bounds.exclusive(versions);
        let page = self
            .raw_page(&key, resolve, r.maximum_page_size, &r.next_page_token)
            .await?;
        Ok(GetWorkflowExecutionRawHistoryV2Response {
            next_page_token: page.token.into(),
            history_batches: page.batches,
            version_history: Some(page.history),
            history_node_ids: page.node_ids,
            run_state: page.run_state,
        })
    }

    pub(super) async fn raw_history(
        &self,
        r: GetWorkflowExecutionRawHistoryRequest,
    ) -> Result<GetWorkflowExecutionRawHistoryResponse, Status> {
        let key = run_key(&r.namespace_id, r.execution.as_ref())?;
        let bounds = Bounds::new(
            (r.start_event_id, r.start_event_version),
            (r.end_event_id, r.end_event_version),
        );
        if bounds == Bounds::default() {
            return Err(Status::invalid_argument("Invalid event query range."));
        }
        let resolve = |versions: &VersionHistories| bounds.inclusive(versions);
        let page = self
            .raw_page(&key, resolve, r.maximum_page_size, &r.next_page_token)
            .await?;
        Ok(GetWorkflowExecutionRawHistoryResponse {
            next_page_token: page.token.into(),
            history_batches: page.batches,
            version_history: Some(page.history),
            history_node_ids: page.node_ids,
        })
    }

    async fn raw_page(
        &self,
        key: &RunKey,
        resolve: impl Fn(&VersionHistories) -> Result<Range, crate::range::Unknown> + Send,
        page_size: i32,
        token: &[u8],
    ) -> Result<Page, Status> {
        if uuid::Uuid::parse_str(key.run_id.as_str()).is_err() {
            return Err(Status::invalid_argument("Invalid RunId."));
        }
        let limit = usize::try_from(page_size).unwrap_or(0).min(PAGE_MAX);
        if limit == 0 {
            return Err(Status::invalid_argument("Invalid PageSize."));
        }
        let shard = self.shard_of(key).await?;
        let (versions, run_state) = shard
            .read(key, |run| {
                (run.versions.clone(), wire::non_history_to_wire(run))
            })
            .await
            .map_err(status::read)?;
        let range = resolve(&versions).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let history = &versions.histories[range.branch];
        let from = start_of(token, key, &history.branch.branch_id, range)?;
        let read = shard
            .history(key, Some(&history.branch), from, range.until, limit)
            .await;
        let page = read.map_err(status::read)?;

        let (mut batches, mut node_ids, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut next = page.next;
        for batch in page.batches {
            bytes += batch.data.len();
            if bytes > PAGE_BYTES_MAX && !batches.is_empty() {
                next = Some(batch.first);
                break;
            }
            node_ids.push(batch.first.get());
            batches.push(wire::blob(batch.data));
        }
        let token = match next.filter(|next| *next < range.until) {
            Some(next) => HistoryToken {
                run_id: key.run_id.to_string(),
                next_event_id: next.get(),
                end_event_id: range.until.get(),
                branch_token: history.branch.branch_id.clone().into_bytes().into(),
                ..HistoryToken::default()
            }
            .encode_to_vec(),
            None => Vec::new(),
        };
        Ok(Page {
            batches,
            node_ids,
            history: wire::history_to_wire(history),
            token,
            run_state,
        })
    }

    /// The digest of a run's current history.
    pub(super) async fn digest(
        &self,
        shard: &Shard,
        key: &RunKey,
        execution: WorkflowExecution,
    ) -> Result<HistoryDigest, Status> {
        let read = shard
            .read(key, |run| {
                let items: Vec<VersionItem> = run.versions.current().items.clone();
                (
                    run.key.clone(),
                    items,
                    run.execution_info.status,
                    run.versions.current().branch.clone(),
                    wire::state::to_wire(run),
                )
            })
            .await;
        let (key, items, run_status, branch, state) = match read {
            Ok(found) => found,
            Err(cluster_shard::ReadError::NotFound) => {
                return Ok(HistoryDigest {
                    execution: Some(execution),
                    ..Default::default()
                });
            }
            Err(error) => return Err(status::read(error)),
        };
        let end = items
            .last()
            .map_or(EventId::new(1), |last| last.event_id.next());
        let mut digest = Digest::default();
        let mut from = EventId::new(1);
        while from < end {
            let read = shard
                .history(&key, Some(&branch), from, end, PAGE_MAX)
                .await;
            let page = read.map_err(status::read)?.batches;
            let Some(last) = page.last() else { break };
            from = last.next;
            for batch in page {
                let events = wire::events_from_blob(&wire::blob(batch.data))
                    .map_err(|e| Status::data_loss(e.to_string()))?;
                events.iter().for_each(|event| digest.add(event));
            }
        }
        let digests = digest.finish();
        Ok(HistoryDigest {
            execution: Some(WorkflowExecution {
                workflow_id: key.workflow_id.to_string(),
                run_id: key.run_id.to_string(),
            }),
            found: true,
            digest: digests.unordered.to_vec().into(),
            // What could be read; a shorter history than its items say is a difference, too.
            next_event_id: from.get(),
            items: wire::items_to_wire(&items),
            status: run_status as i32,
            digest_version: digest::VERSION,
            history_digest: digests.ordered.to_vec().into(),
            buffered_events: i32::try_from(state.buffered_events.len()).unwrap_or(i32::MAX),
            state_digest: digest::of_state(state).to_vec().into(),
        })
    }
}

/// Where a page begins; a token of another run or branch is refused.
fn start_of(token: &[u8], key: &RunKey, branch_id: &str, range: Range) -> Result<EventId, Status> {
    if token.is_empty() {
        return Ok(range.from);
    }
    let refused = || Status::invalid_argument("Invalid pagination token.");
    let token = HistoryToken::decode(token).map_err(|_| refused())?;
    let fits = token.run_id == key.run_id.as_str()
        && token.branch_token == branch_id.as_bytes()
        && token.end_event_id <= range.until.get()
        && token.next_event_id >= range.from.get();
    if fits {
        Ok(EventId::new(token.next_event_id))
    } else {
        Err(refused())
    }
}
