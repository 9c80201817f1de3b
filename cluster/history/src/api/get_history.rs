//! GetWorkflowExecutionHistory, forward and reverse. Readers come back with tokens that name run, branch
//! and position; a reader that waits is woken by the commit of new events.

mod reverse;

pub use reverse::reverse;

use std::time::Duration;

use proto_ids::{EventId, RunKey};
use proto_messages::{
    meridian::history::v1::{GetWorkflowExecutionHistoryRequest, HistoryToken},
    temporal::api::{
        enums::v1::HistoryEventFilterType,
        history::v1::{History, HistoryEvent},
        workflowservice::v1 as public,
    },
    temporal::server::api::errordetails::v1::CurrentBranchChangedFailure,
};
use tokio::time::Instant;
use tonic::Status;

use cluster_core::{MutableState, version::BranchToken};
use cluster_rpc::status;
use cluster_shard::Shard;

use crate::{
    api,
    engine::{self, Engine},
    error,
    events::{self, Range},
    poll::{PAGE_BATCHES, PAGE_BYTES},
    settings, token,
};

/// How long before the caller's deadline a waiting call answers.
const EARLY: Duration = Duration::from_millis(500);

/// The part of a run's state that decides how far its history can be read.
struct Extent {
    key: RunKey,
    branch: BranchToken,
    next_event_id: EventId,
    last_version: i64,
    is_open: bool,
    close_batch_first: EventId,
}

/// Serves the call; `timeout` is the caller's.
pub async fn get_history(
    engine: &Engine,
    request: GetWorkflowExecutionHistoryRequest,
    timeout: Option<Duration>,
) -> Result<public::GetWorkflowExecutionHistoryResponse, Status> {
    let api_request = api::required(request.request)?;
    let mut key = api::run_key(&request.namespace_id, api_request.execution.as_ref())?;
    let wait = engine.deps.settings.get(&settings::LONG_POLL);
    let wait = timeout.map_or(wait, |t| wait.min(t.saturating_sub(EARLY)));
    let until = engine::deadline(Some(wait), wait);
    let shard = engine.shard_of(&key).await?;
    let page_token = match api_request.next_page_token.is_empty() {
        true => None,
        false => Some(token::read_history(&key, &api_request.next_page_token)?),
    };
    if let Some(page_token) = &page_token {
        key.run_id = page_token.run_id.as_str().into();
    }
    let reader = Reader {
        shard: &shard,
        wait_until: api_request.wait_new_event.then_some(until),
        with_transient: request.with_transient_events && !api_request.wait_new_event,
    };
    if api_request.history_event_filter_type() == HistoryEventFilterType::CloseEvent {
        return reader.close_event(&key).await;
    }
    reader
        .all_events(&key, page_token, page_size(api_request.maximum_page_size))
        .await
}

fn page_size(asked: i32) -> usize {
    usize::try_from(asked)
        .ok()
        .filter(|n| (1..=PAGE_BATCHES).contains(n))
        .unwrap_or(PAGE_BATCHES)
}

struct Reader<'a> {
    shard: &'a Shard,
    /// Set when the caller waits for news.
    wait_until: Option<Instant>,
    /// Whether the caller wants to see an attempt that is not in history.
    with_transient: bool,
}

impl Reader<'_> {
    async fn all_events(
        &self,
        key: &RunKey,
        page_token: Option<HistoryToken>,
        batches: usize,
    ) -> Result<public::GetWorkflowExecutionHistoryResponse, Status> {
        let extent = extent(self.shard, key).await?;
        let (mut token, extent) = match page_token {
            Some(token) => self.go_on(token, extent).await?,
            None => (first_token(&extent), extent),
        };
        let branch = token::read_branch(&token.branch_token)?;
        let range = Range {
            from: EventId::new(token.next_event_id),
            until: EventId::new(token.end_event_id),
            batches,
            bytes: PAGE_BYTES,
        };
        let page = events::page(self.shard, &extent.key, &branch, range, Vec::new()).await?;
        token.next_event_id = page.next.get();
        let is_read = page.next >= range.until;
        let mut events = page.events;
        if is_read && (self.with_transient || !token.persisted_only) {
            events.extend(transient(self.shard, &extent.key, page.next).await?);
        }
        let goes_on = !is_read || (extent.is_open && self.wait_until.is_some());
        Ok(response(events, goes_on.then_some(&token)))
    }

    /// A reader that has read everything it knew of looks again, and waits when it said so.
    async fn go_on(
        &self,
        mut token: HistoryToken,
        extent: Extent,
    ) -> Result<(HistoryToken, Extent), Status> {
        if token.next_event_id < token.end_event_id || !token.persisted_only {
            return Ok((token, extent));
        }
        let from = EventId::new(token.next_event_id);
        let extent = self
            .wait(extent, |e| !e.is_open || e.next_event_id > from)
            .await?;
        if token.branch_token != token::branch(&extent.branch) {
            let text = "current branch and request branch doesn't match";
            return Err(status::current_branch_changed(
                text,
                &CurrentBranchChangedFailure::default(),
            ));
        }
        token.end_event_id = extent.next_event_id.get();
        token.last_event_version = extent.last_version;
        Ok((token, extent))
    }

    async fn close_event(
        &self,
        key: &RunKey,
    ) -> Result<public::GetWorkflowExecutionHistoryResponse, Status> {
        let extent = extent(self.shard, key).await?;
        let extent = self.wait(extent, |e| !e.is_open).await?;
        if extent.is_open && self.wait_until.is_some() {
            let mut token = first_token(&extent);
            token.next_event_id = extent.next_event_id.get();
            return Ok(response(Vec::new(), Some(&token)));
        }
        let last = EventId::new(extent.next_event_id.get() - 1);
        let first = if extent.is_open {
            last
        } else {
            extent.close_batch_first
        };
        let event = events::one(self.shard, &extent.key, &extent.branch, first, last).await?;
        Ok(response(vec![event], None))
    }

    /// Waits, if the caller does, until the run has got so far. Events are told after their commit only.
    async fn wait(
        &self,
        mut extent: Extent,
        enough: impl Fn(&Extent) -> bool,
    ) -> Result<Extent, Status> {
        let Some(until) = self.wait_until else {
            return Ok(extent);
        };
        let key = extent.key.clone();
        let mut progress = self.shard.watch_run(&key);
        loop {
            progress.mark_unchanged();
            extent = self::extent(self.shard, &key).await?;
            if enough(&extent) {
                return Ok(extent);
            }
            match tokio::time::timeout_at(until, progress.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(status::unavailable("the run moved to another host")),
                Err(_) => return Ok(extent),
            }
        }
    }
}

async fn extent(shard: &Shard, key: &RunKey) -> Result<Extent, Status> {
    let look = |ms: &MutableState| Extent {
        key: ms.key.clone(),
        branch: ms.versions.current().branch.clone(),
        next_event_id: ms.execution_info.next_event_id,
        last_version: ms.last_version().get(),
        is_open: ms.is_running(),
        close_batch_first: ms.execution_info.close_batch_first_event_id,
    };
    shard
        .read(key, look)
        .await
        .map_err(|e| error::status(e.into(), key))
}

/// Events of an attempt that is not in history: the worker that runs it reads them at the end.
async fn transient(
    shard: &Shard,
    key: &RunKey,
    next: EventId,
) -> Result<Vec<HistoryEvent>, Status> {
    let look = |ms: &MutableState| {
        let is_here = ms.execution_info.next_event_id == next;
        if is_here {
            ms.transient_events()
        } else {
            Vec::new()
        }
    };
    shard
        .read(key, look)
        .await
        .map_err(|e| error::status(e.into(), key))
}

fn first_token(extent: &Extent) -> HistoryToken {
    HistoryToken {
        namespace_id: extent.key.namespace_id.as_str().to_owned(),
        workflow_id: extent.key.workflow_id.as_str().to_owned(),
        run_id: extent.key.run_id.as_str().to_owned(),
        next_event_id: 1,
        end_event_id: extent.next_event_id.get(),
        branch_token: token::branch(&extent.branch),
        last_event_version: extent.last_version,
        persisted_only: true,
    }
}

fn response(
    events: Vec<HistoryEvent>,
    token: Option<&HistoryToken>,
) -> public::GetWorkflowExecutionHistoryResponse {
    public::GetWorkflowExecutionHistoryResponse {
        history: Some(History { events }),
        next_page_token: token.map(token::history).unwrap_or_default(),
        ..Default::default()
    }
}
