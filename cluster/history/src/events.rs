//! Reading a run's events in pages. The kernel hands out committed batches only; what a commit under way holds
//! is waited for here, so that no reader sees events that could still be lost, save the started events, which
//! are not acknowledged to clients.

use std::time::Duration;

use proto_ids::{EventId, RunKey};
use proto_messages::temporal::api::history::v1::HistoryEvent;
use tokio::sync::watch;
use tonic::Status;

use cluster_core::{MutableState, version::BranchToken};
use cluster_rpc::status;
use cluster_shard::{HistoryBatch, ReadError, RunProgress, Shard};

use crate::{
    error,
    poll::{PAGE_BATCHES, decode},
};

/// How long a commit under way is waited for before the caller is sent away.
const COMMIT_WAIT: Duration = Duration::from_secs(5);

/// The range to read.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// First event.
    pub from: EventId,
    /// End, exclusive.
    pub until: EventId,
    /// Most batches.
    pub batches: usize,
    /// Bytes after which the page ends.
    pub bytes: usize,
}

/// Events of a page, gapless.
#[derive(Debug)]
pub struct Page {
    /// The events.
    pub events: Vec<HistoryEvent>,
    /// First event after the page.
    pub next: EventId,
}

/// Reads a page. `fresh` are events the caller just made, which may stand in for stored ones that are
/// written behind (a workflow task's started event); they must reach up to `until`.
pub async fn page(
    shard: &Shard,
    key: &RunKey,
    branch: &BranchToken,
    range: Range,
    fresh: Vec<HistoryEvent>,
) -> Result<Page, Status> {
    let stored_until = fresh
        .first()
        .map_or(range.until, |e| EventId::new(e.event_id));
    let mut page = Page {
        events: Vec::new(),
        next: range.from,
    };
    let mut limits = (range.batches, range.bytes);
    let mut commits = Commits::default();
    while page.next < stored_until && limits.0 > 0 && limits.1 > 0 {
        let found = shard
            .history(key, Some(branch), page.next, stored_until, limits.0)
            .await
            .map_err(|e| error::status(e.into(), key))?;
        let before = page.next;
        take(&mut page, &found.batches, stored_until, &mut limits)?;
        if page.next == before {
            let unsaved = unsaved(shard, key, branch, page.next, stored_until).await?;
            take(&mut page, &unsaved, stored_until, &mut limits)?;
        }
        if page.next == before {
            commits.next(shard, key).await?;
        }
    }
    if page.next == stored_until && page.next < range.until {
        let skip = fresh
            .into_iter()
            .skip_while(|e| e.event_id < page.next.get());
        page.events.extend(skip);
        page.next = range.until;
    }
    Ok(page)
}

/// Events of the run's current branch that are written behind. The caller may be the worker they were made for.
async fn unsaved(
    shard: &Shard,
    key: &RunKey,
    branch: &BranchToken,
    from: EventId,
    until: EventId,
) -> Result<Vec<HistoryBatch>, Status> {
    let is_current = |ms: &MutableState| ms.versions.current().branch.branch_id == branch.branch_id;
    let failed = |e: ReadError| error::status(e.into(), key);
    if !shard.read(key, is_current).await.map_err(failed)? {
        return Ok(Vec::new());
    }
    let page = shard.history(key, None, from, until, PAGE_BATCHES).await;
    Ok(page.map_err(failed)?.batches)
}

/// All stored events of a range, however many.
pub async fn all(
    shard: &Shard,
    key: &RunKey,
    branch: &BranchToken,
    from: EventId,
    until: EventId,
) -> Result<Vec<Vec<HistoryEvent>>, Status> {
    let mut found: Vec<Vec<HistoryEvent>> = Vec::new();
    let mut next = from;
    let mut commits = Commits::default();
    while next < until {
        let page = shard
            .history(key, Some(branch), next, until, PAGE_BATCHES)
            .await
            .map_err(|e| error::status(e.into(), key))?;
        let before = next;
        for batch in &page.batches {
            let mut events = decode(&batch.data)?;
            events.retain(|e| e.event_id >= next.get() && e.event_id < until.get());
            if events.first().is_some_and(|e| e.event_id > next.get()) {
                return Err(missing(next));
            }
            if let Some(last) = events.last() {
                next = EventId::new(last.event_id + 1);
                found.push(events);
            }
        }
        if next == before {
            commits.next(shard, key).await?;
        }
    }
    Ok(found)
}

/// One event, read with the batch that holds it.
pub async fn one(
    shard: &Shard,
    key: &RunKey,
    branch: &BranchToken,
    batch_first: EventId,
    id: EventId,
) -> Result<HistoryEvent, Status> {
    let from = if batch_first.get() > 0 {
        batch_first
    } else {
        id
    };
    let range = Range {
        from,
        until: id.next(),
        batches: PAGE_BATCHES,
        bytes: usize::MAX,
    };
    let page = page(shard, key, branch, range, Vec::new()).await?;
    let found = page
        .events
        .into_iter()
        .rev()
        .find(|e| e.event_id == id.get());
    found.ok_or_else(|| missing(id))
}

fn missing(id: EventId) -> Status {
    Status::data_loss(format!("event {id} of the run is not stored"))
}

fn take(
    page: &mut Page,
    batches: &[HistoryBatch],
    until: EventId,
    limits: &mut (usize, usize),
) -> Result<(), Status> {
    for batch in batches {
        if limits.0 == 0 || limits.1 == 0 {
            break;
        }
        for event in decode(&batch.data)? {
            let id = EventId::new(event.event_id);
            if id < page.next || id >= until {
                continue;
            }
            if id > page.next {
                return Err(missing(page.next));
            }
            page.next = id.next();
            page.events.push(event);
        }
        *limits = (limits.0 - 1, limits.1.saturating_sub(batch.data.len()));
    }
    Ok(())
}

/// Waits for commits of one run, for a reader that found less than is in memory.
#[derive(Default)]
struct Commits(Option<watch::Receiver<RunProgress>>);

impl Commits {
    /// Returns when it is worth reading again: at first at once, since the commit may have happened
    /// before the watch began, then after each commit.
    async fn next(&mut self, shard: &Shard, key: &RunKey) -> Result<(), Status> {
        let Some(progress) = &mut self.0 else {
            self.0 = Some(shard.watch_run(key));
            return Ok(());
        };
        match tokio::time::timeout(COMMIT_WAIT, progress.changed()).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(status::unavailable("history is not committed yet")),
        }
    }
}
