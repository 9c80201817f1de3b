//! Comparison of runs: which of them this cluster has, and whether it has all that another one has. Both sides
//! of the comparison that a planned failover rests on: the active cluster lists its runs, the target compares.
//! A run is had by whoever has its last event on its current branch, names it as current where the other does,
//! and knows as much of its pending activities.

use std::time::Duration;

use cluster_core::{MutableState, Request, VersionItem, mutable_state::ActivityInfo};
use cluster_shard::{ReadError, Shard, Txn};
use futures::{StreamExt, TryStreamExt, stream};
use proto_ids::{ClusterName, EventId, NamespaceId, RunKey, Timestamp};
use proto_messages::{
    meridian::replication::v1::{
        ActivityStanding, CompareRunsResponse, CompareShardRunsRequest, FlushBufferedEventsRequest,
        FlushBufferedEventsResponse, ListChangedRunsRequest, ListChangedRunsResponse,
        ListShardRunsRequest, ListShardRunsResponse, RunDifference, RunStanding,
        run_difference::Kind,
    },
    temporal::api::{common::v1::WorkflowExecution, enums::v1::WorkflowExecutionStatus},
    time,
};
use replication_ndc::branch;
use tokio::time::Instant;
use tonic::Status;

use super::{ReplicationHost, run_key};
use crate::{apply::status, digest::Digest, wire};

/// Runs in one answer.
const PAGE_MAX: usize = 500;
/// A run that is deleted within this is not asked for: the other cluster's clock may be ahead.
const CLOCKS_APART_MAX: Duration = Duration::from_secs(3_600);
/// Runs read at once.
const AT_ONCE: usize = 8;

/// The local facts of a run for a comparison.
struct Local {
    items: Vec<VersionItem>,
    branch: cluster_core::BranchToken,
    zombie: bool,
    /// A pending activity of the other cluster of which less is known here.
    stale_activity: Option<i64>,
}

impl ReplicationHost {
    /// A page of the namespace's runs, or the runs that are asked for.
    pub(super) async fn shard_runs(
        &self,
        request: ListShardRunsRequest,
    ) -> Result<ListShardRunsResponse, Status> {
        let shard = self.shard(request.shard_id).await?;
        let namespace_id = NamespaceId::new(&request.namespace_id);
        if !request.executions.is_empty() {
            let keys = keys(&request.namespace_id, &request.executions)?;
            let runs = self.standings(&shard, keys).await?;
            return Ok(ListShardRunsResponse {
                runs,
                ..Default::default()
            });
        }
        let after = request.after.map(|run| {
            RunKey::new(
                request.after_namespace_id.as_str(),
                run.workflow_id,
                run.run_id,
            )
        });
        let limit = usize::try_from(request.page_size)
            .unwrap_or(0)
            .clamp(1, PAGE_MAX);
        let keys = shard.runs(after, limit).await.map_err(status::shard)?;
        let next = keys.last().filter(|_| keys.len() == limit).cloned();
        let wanted = keys.into_iter().filter(|k| k.namespace_id == namespace_id);
        let runs = self.standings(&shard, wanted.collect()).await?;
        Ok(ListShardRunsResponse {
            runs: runs.into_iter().filter(|run| !run.gone).collect(),
            next_namespace_id: next
                .as_ref()
                .map(|k| k.namespace_id.to_string())
                .unwrap_or_default(),
            next: next.as_ref().map(execution),
        })
    }

    /// The runs that changed since the caller looked last.
    pub(super) async fn changed_runs(
        &self,
        request: ListChangedRunsRequest,
    ) -> Result<ListChangedRunsResponse, Status> {
        let shard = self.shard(request.shard_id).await?;
        let namespace_id = NamespaceId::new(&request.namespace_id);
        let Ok(after) = u64::try_from(request.after) else {
            let began = shard.changed_runs_end(&request.watch);
            if let Some(began) = began.filter(|_| !request.complete_in.is_empty()) {
                let cluster = ClusterName::new(&request.complete_in);
                self.note_complete(&shard, &namespace_id, &cluster, began);
            }
            return Ok(ListChangedRunsResponse::default());
        };
        let changed = shard.changed_runs(&namespace_id, &request.watch, after, PAGE_MAX);
        Ok(ListChangedRunsResponse {
            began: changed.began,
            through: i64::try_from(changed.through).unwrap_or(i64::MAX),
            runs: self.standings(&shard, changed.runs).await?,
            more: changed.more,
        })
    }

    /// A cluster lacks nothing of a namespace. Once that is so of all that are active here, it counts no longer as one
    /// that came back empty.
    fn note_complete(
        &self,
        shard: &Shard,
        namespace_id: &NamespaceId,
        cluster: &ClusterName,
        since: Instant,
    ) {
        let here = self.deps.clusters.current_name();
        let all = self.deps.registry.all().into_iter();
        let needed = all.filter(|n| {
            n.is_replicated() && !n.is_deleted() && n.is_active_in(&here) && n.lives_in(cluster)
        });
        let needed: Vec<_> = needed.map(|n| n.id.clone()).collect();
        shard.replication_complete(cluster, namespace_id, &needed, since);
    }

    async fn standings(
        &self,
        shard: &Shard,
        keys: Vec<RunKey>,
    ) -> Result<Vec<RunStanding>, Status> {
        stream::iter(keys)
            .map(|key| async move { self.standing(shard, &key).await })
            .buffered(AT_ONCE)
            .try_collect()
            .await
    }

    async fn standing(&self, shard: &Shard, key: &RunKey) -> Result<RunStanding, Status> {
        let read = shard.glance(key, |run| {
            let branch = run.versions.current().branch.clone();
            let ends = run.execution_info.new_run_id.is_empty();
            (standing_of(run), branch, self.is_needed(run), ends)
        });
        let (mut standing, branch, needed, ends) = match read.await {
            Ok(read) => read,
            Err(ReadError::NotFound) => return Ok(gone(key)),
            Err(ReadError::Shard(cluster_shard::ShardError::Corrupt(text))) => {
                return Ok(RunStanding {
                    execution: Some(execution(key)),
                    damaged: text,
                    ..Default::default()
                });
            }
            Err(error) => return Err(status::read(error)),
        };
        if !needed {
            return Ok(gone(key));
        }
        if ends {
            let current = shard.glance_current(&key.namespace_id, &key.workflow_id);
            let current = current.await.map_err(status::shard)?;
            standing.is_current = current.is_some_and(|c| c.run_id == key.run_id);
        }
        let last = standing.items.last().map(|item| item.event_id);
        if let Some(last) = last.filter(|_| standing.status() == WorkflowExecutionStatus::Running) {
            // One that is not stored yet has none; it is compared by its number alone.
            let digest = last_event(shard, key, &branch, last.into()).await?;
            standing.last_event_digest = digest.map(Vec::from).unwrap_or_default().into();
        }
        Ok(standing)
    }

    /// Whether another cluster has to have the run: it is open or retained, and did not lose to another one.
    fn is_needed(&self, run: &MutableState) -> bool {
        let retention = self
            .deps
            .registry
            .by_id(&run.key.namespace_id)
            .map(|namespace| namespace.retention);
        // Each cluster deletes by its own clock.
        let kept = |retention: Duration| {
            let sure = retention - (retention / 10).min(CLOCKS_APART_MAX);
            self.now() < run.execution_info.close_time.plus(sure)
        };
        !run.execution_info.zombie && (run.is_running() || retention.is_none_or(kept))
    }

    /// Which of these runs of another cluster are lacking here, whole or in part.
    pub(super) async fn compare_runs(
        &self,
        request: CompareShardRunsRequest,
    ) -> Result<CompareRunsResponse, Status> {
        if request.runs.len() > PAGE_MAX {
            return Err(Status::invalid_argument(format!(
                "at most {PAGE_MAX} runs can be compared in one call"
            )));
        }
        let shard = self.shard(request.shard_id).await?;
        let (shard, namespace_id) = (&shard, &request.namespace_id);
        let found: Vec<Option<RunDifference>> = stream::iter(request.runs)
            .map(|theirs| async move {
                let key = run_key(namespace_id, theirs.execution.as_ref())?;
                compare(shard, &key, &theirs).await
            })
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        Ok(CompareRunsResponse {
            differences: found.into_iter().flatten().collect(),
            ..Default::default()
        })
    }

    /// Writes buffered events of held runs to history, so that they replicate before the namespace changes hands.
    pub(super) async fn flush_buffered(
        &self,
        request: FlushBufferedEventsRequest,
    ) -> Result<FlushBufferedEventsResponse, Status> {
        let shard = self.shard(request.shard_id).await?;
        let namespace_id = NamespaceId::new(&request.namespace_id);
        if !self.deps.shards.is_frozen(&namespace_id) {
            return Err(Status::failed_precondition(
                "buffered events are flushed only while the namespace is frozen",
            ));
        }
        let mut events = 0;
        for key in keys(&request.namespace_id, &request.executions)? {
            events += flush(&shard, &key).await?;
        }
        Ok(FlushBufferedEventsResponse { events })
    }
}

async fn flush(shard: &Shard, key: &RunKey) -> Result<i32, Status> {
    let done = shard
        .replicate(
            &key.namespace_id,
            &key.workflow_id,
            async |txn: &mut Txn| {
                let context = txn.decision_context();
                let run = txn.run(&key.run_id).await.map_err(status::shard)?;
                let Some(run) = run.filter(|run| run.is_running() && !run.buffered.is_empty())
                else {
                    return Ok(0);
                };
                let events = i32::try_from(run.buffered.len()).unwrap_or(i32::MAX);
                match run.handle(Request::FlushBufferedEvents, &context.borrowed()) {
                    Ok(transition) => {
                        txn.put(&key.run_id, transition).map_err(status::shard)?;
                        Ok(events)
                    }
                    Err(refusal) => {
                        txn.invalidate();
                        Err(Status::failed_precondition(format!(
                            "buffered events of {key} cannot be flushed: {refusal:?}"
                        )))
                    }
                }
            },
        )
        .await;
    done.map_err(|error| match error {
        cluster_shard::TxnError::Decided(status) => status,
        cluster_shard::TxnError::Shard(error) => status::shard(error),
        other => Status::unavailable(other.to_string()),
    })
}

/// Compares one run; none when nothing of it is lacking.
async fn compare(
    shard: &Shard,
    key: &RunKey,
    theirs: &RunStanding,
) -> Result<Option<RunDifference>, Status> {
    let last = theirs.items.last().cloned().unwrap_or_default();
    let last = VersionItem {
        event_id: last.event_id.into(),
        version: last.version.into(),
    };
    let lacking = |kind: Kind, first: i64, detail: String| {
        Ok(Some(RunDifference {
            execution: theirs.execution.clone(),
            kind: kind as i32,
            first_event_id: first,
            next_event_id: theirs.next_event_id,
            detail,
        }))
    };
    let local = match shard.glance(key, |run| local_of(run, theirs)).await {
        Ok(local) => local,
        Err(ReadError::NotFound) => return lacking(Kind::Missing, 1, String::new()),
        Err(ReadError::Shard(cluster_shard::ShardError::Corrupt(text))) => {
            return lacking(Kind::Damaged, 1, text);
        }
        Err(error) => return Err(status::read(error)),
    };
    if !branch::contains(&local.items, last) {
        let theirs = wire::items_from_wire(&theirs.items);
        let shared = branch::lowest_common_ancestor(&local.items, &theirs);
        let first = shared.map_or(1, |shared| shared.event_id.get() + 1);
        return lacking(Kind::Behind, first, String::new());
    }
    if local.zombie {
        let text = "it is kept as a run that lost to another one of the same id";
        return lacking(Kind::NotCurrent, theirs.next_event_id, text.into());
    }
    if theirs.is_current {
        let current = shard.glance_current(&key.namespace_id, &key.workflow_id);
        let current = current.await.map_err(status::shard)?;
        if current.as_ref().is_none_or(|c| c.run_id != key.run_id) {
            let text = match current {
                Some(other) => format!("the current run of the id is {}", other.run_id),
                None => "the id has no current run".to_owned(),
            };
            return lacking(Kind::NotCurrent, theirs.next_event_id, text);
        }
    }
    if let Some(id) = local.stale_activity {
        let text = format!("attempts or heartbeats of activity {id} are lacking");
        return lacking(Kind::Activity, theirs.next_event_id, text);
    }
    if theirs.last_event_digest.is_empty() {
        return Ok(None);
    }
    let digest = last_event(shard, key, &local.branch, last.event_id).await?;
    match digest {
        Some(digest) if digest[..] == theirs.last_event_digest[..] => Ok(None),
        Some(_) => {
            let text = format!("event {} is not what was sent", last.event_id);
            lacking(Kind::Damaged, last.event_id.get(), text)
        }
        None => {
            let text = format!("event {} cannot be read", last.event_id);
            lacking(Kind::Damaged, last.event_id.get(), text)
        }
    }
}

fn local_of(run: &MutableState, theirs: &RunStanding) -> Local {
    let mut stale = theirs.activities.iter().filter(|a| {
        let theirs = ActivityInfo {
            scheduled_event_id: a.scheduled_event_id.into(),
            version: a.version.into(),
            attempt: a.attempt,
            // Whether it runs counts, not since when.
            started_time: if a.started {
                Timestamp::MAX
            } else {
                Timestamp::ZERO
            },
            last_heartbeat_time: a
                .last_heartbeat_time
                .as_ref()
                .map(time::from_proto)
                .unwrap_or(Timestamp::ZERO),
            ..ActivityInfo::default()
        };
        !run.knows_activity(&theirs)
    });
    Local {
        items: run.versions.current().items.clone(),
        branch: run.versions.current().branch.clone(),
        zombie: run.execution_info.zombie,
        stale_activity: stale.next().map(|a| a.scheduled_event_id),
    }
}

fn standing_of(run: &MutableState) -> RunStanding {
    let activities = run.activities.values().map(|a| ActivityStanding {
        scheduled_event_id: a.scheduled_event_id.get(),
        version: a.version.get(),
        attempt: a.attempt,
        started: a.is_started(),
        last_heartbeat_time: Some(time::to_proto(a.last_heartbeat_time)),
    });
    RunStanding {
        execution: Some(execution(&run.key)),
        next_event_id: run.execution_info.next_event_id.get(),
        items: wire::items_to_wire(&run.versions.current().items),
        status: run.execution_info.status as i32,
        buffered_events: i32::try_from(run.buffered.len()).unwrap_or(i32::MAX),
        activities: activities.collect(),
        ..RunStanding::default()
    }
}

/// The digest of a branch's event; none when it cannot be read.
async fn last_event(
    shard: &Shard,
    key: &RunKey,
    branch: &cluster_core::BranchToken,
    id: EventId,
) -> Result<Option<[u8; 16]>, Status> {
    let read = shard.history(key, Some(branch), id, id.next(), 1).await;
    let page = match read {
        Ok(page) => page,
        Err(ReadError::NotFound | ReadError::Shard(cluster_shard::ShardError::Corrupt(_))) => {
            return Ok(None);
        }
        Err(error) => return Err(status::read(error)),
    };
    let events = page.batches.into_iter().next().and_then(|batch| {
        let events = wire::events_from_blob(&wire::blob(batch.data));
        events.ok()
    });
    let event = events
        .unwrap_or_default()
        .into_iter()
        .find(|event| event.event_id == id.get());
    Ok(event.map(|event| {
        let mut digest = Digest::default();
        digest.add(&event);
        digest.finish().ordered
    }))
}

fn gone(key: &RunKey) -> RunStanding {
    RunStanding {
        execution: Some(execution(key)),
        gone: true,
        ..Default::default()
    }
}

fn execution(key: &RunKey) -> WorkflowExecution {
    WorkflowExecution {
        workflow_id: key.workflow_id.to_string(),
        run_id: key.run_id.to_string(),
    }
}

fn keys(namespace_id: &str, executions: &[WorkflowExecution]) -> Result<Vec<RunKey>, Status> {
    if executions.len() > PAGE_MAX {
        return Err(Status::invalid_argument(format!(
            "at most {PAGE_MAX} runs can be named in one call"
        )));
    }
    executions
        .iter()
        .map(|execution| run_key(namespace_id, Some(execution)))
        .collect()
}
