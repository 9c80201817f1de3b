//! Reads what clusters hold, by the public API: which runs there are, and each run's history from each
//! cluster's own data. The same reading serves convergence (are both sides equal yet?) and the judges.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use prost::Message;
use proto_messages::temporal::{
    api::{
        history::v1::{History, HistoryEvent},
        workflowservice::v1::ListWorkflowExecutionsRequest,
    },
    server::api::adminservice::v1::{
        DescribeMutableStateRequest, GetWorkflowExecutionRawHistoryV2Request,
    },
};
use proto_services::temporal::server::api::adminservice::v1::admin_service_client::AdminServiceClient;
use scenarios_load::{
    client::{Whose, execution},
    connect::local,
};
use tonic::{Code, Status};

use crate::{
    check::{Histories, LosingBranch, RunKey, equal_difference},
    oracle::{Call, Op},
    workload::Side,
    world::NAMESPACE,
};

/// Histories read at once from a cluster.
const READ_AT_ONCE: usize = 16;

/// How long one call for a branch may take.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// Largest answer of the admin API that is taken.
const ADMIN_BYTES_MAX: usize = 64 << 20;

/// Runs that were acknowledged to clients; lists may lag behind.
pub(crate) fn runs_of(calls: &[Call]) -> BTreeSet<RunKey> {
    calls
        .iter()
        .filter(|c| c.acknowledged() && c.op == Op::Start && !c.run_id.is_empty())
        .map(|c| (c.workflow_id.clone(), c.run_id.clone()))
        .collect()
}

/// Runs a cluster lists.
pub(crate) async fn listed(side: &Side) -> Result<BTreeSet<RunKey>, Status> {
    let mut runs = BTreeSet::new();
    let mut token = bytes::Bytes::new();
    loop {
        let request = ListWorkflowExecutionsRequest {
            namespace: NAMESPACE.to_owned(),
            page_size: 500,
            next_page_token: token,
            ..Default::default()
        };
        let page = side
            .client
            .connections()
            .api()
            .list_workflow_executions(local(request, Duration::from_secs(10)))
            .await?
            .into_inner();
        runs.extend(
            page.executions
                .into_iter()
                .filter_map(|e| e.execution)
                .map(|e| (e.workflow_id, e.run_id)),
        );
        token = page.next_page_token;
        if token.is_empty() {
            return Ok(runs);
        }
    }
}

/// Reads the histories of `runs` as one cluster holds them. A run the cluster does not have is left
/// out; one it cannot show is named with the reason.
pub(crate) async fn histories(side: &Side, runs: &BTreeSet<RunKey>) -> Histories {
    let mut read = Histories {
        cluster: side.cluster.clone(),
        ..Default::default()
    };
    let mut results = stream::iter(runs.iter().cloned())
        .map(|key| async move {
            let result = side.client.history(&key.0, &key.1, Whose::Own).await;
            (key, result)
        })
        .buffer_unordered(READ_AT_ONCE);
    while let Some((key, result)) = results.next().await {
        match result {
            Ok(events) => {
                read.runs.insert(key, events);
            }
            Err(status) if status.code() == Code::NotFound => {}
            Err(status) => {
                let why = format!("{:?}: {}", status.code(), status.message());
                read.unreadable.insert(key, why);
            }
        }
    }
    read
}

/// Reads the branches of runs that one cluster keeps beside the winning ones, and names those it cannot show.
pub(crate) async fn losing_branches(
    side: &Side,
    runs: &BTreeSet<RunKey>,
) -> (Vec<LosingBranch>, Vec<String>) {
    let (mut read, mut unread) = (Vec::new(), Vec::new());
    for run in runs {
        match losing_branches_of(side, run).await {
            Ok(branches) => read.extend(branches),
            // A run that is not there has no branches there.
            Err(status) if status.code() == Code::NotFound => {}
            Err(status) => {
                unread.push(format!("{} {} on {}: {status}", run.0, run.1, side.cluster))
            }
        }
    }
    (read, unread)
}

async fn losing_branches_of(side: &Side, run: &RunKey) -> Result<Vec<LosingBranch>, Status> {
    let mut admin = AdminServiceClient::new(side.client.connections().channel())
        .max_decoding_message_size(ADMIN_BYTES_MAX);
    let execution = Some(execution(&run.0, &run.1));
    let request = DescribeMutableStateRequest {
        namespace: NAMESPACE.to_owned(),
        execution: execution.clone(),
        ..Default::default()
    };
    let described = admin
        .describe_mutable_state(local(request, READ_WITHIN))
        .await?;
    let state = described.into_inner().database_mutable_state;
    let info = state.and_then(|s| s.execution_info).unwrap_or_default();
    let histories = info.version_histories.unwrap_or_default();
    let current = histories.current_version_history_index;
    let mut branches = Vec::new();
    for (n, history) in (0..).zip(&histories.histories) {
        let Some(last) = history.items.last().filter(|_| n != current) else {
            continue;
        };
        let request = GetWorkflowExecutionRawHistoryV2Request {
            namespace_id: info.namespace_id.clone(),
            execution: execution.clone(),
            // The end is exclusive; the branch is the one that it belongs to.
            end_event_id: last.event_id + 1,
            end_event_version: last.version,
            maximum_page_size: 500,
            ..Default::default()
        };
        let events = raw_events(&mut admin, request).await?;
        if events.last().map(|e| (e.event_id, e.version)) != Some((last.event_id, last.version)) {
            return Err(Status::data_loss(
                "the branch does not end where its items say",
            ));
        }
        branches.push(LosingBranch {
            cluster: side.cluster.clone(),
            run: run.clone(),
            events,
        });
    }
    Ok(branches)
}

/// All events of a branch.
async fn raw_events(
    admin: &mut AdminServiceClient,
    mut request: GetWorkflowExecutionRawHistoryV2Request,
) -> Result<Vec<HistoryEvent>, Status> {
    let mut events = Vec::new();
    loop {
        let page = admin
            .get_workflow_execution_raw_history_v2(local(request.clone(), READ_WITHIN))
            .await?
            .into_inner();
        for batch in page.history_batches {
            let decoded = History::decode(batch.data)
                .map_err(|e| Status::data_loss(format!("a batch cannot be read: {e}")))?;
            events.extend(decoded.events);
        }
        request.next_page_token = page.next_page_token;
        if request.next_page_token.is_empty() {
            return Ok(events);
        }
    }
}

/// The outcome of waiting for equality.
pub(crate) struct Convergence {
    /// The state of each cluster, as last read.
    pub(crate) clusters: Vec<Histories>,
    /// How long it took; absent when it did not happen in time.
    pub(crate) took: Option<Duration>,
    /// Runs that are not equal.
    pub(crate) unequal: usize,
}

/// Reads again and again what is not yet equal on all sides, until all is or time is over. Runs are
/// those clients know plus those any cluster lists.
pub(crate) async fn converge(sides: &[Side], calls: &[Call], within: Duration) -> Convergence {
    let begun = Instant::now();
    let mut clusters: Vec<Histories> = sides
        .iter()
        .map(|s| Histories {
            cluster: s.cluster.clone(),
            ..Default::default()
        })
        .collect();
    let mut settled: BTreeMap<RunKey, usize> = BTreeMap::new();
    let known = runs_of(calls);
    loop {
        let mut runs = known.clone();
        let mut lists_read = true;
        for side in sides {
            match listed(side).await {
                Ok(more) => runs.extend(more),
                Err(status) => {
                    lists_read = false;
                    tracing::debug!(cluster = side.cluster, %status, "not listed");
                }
            }
        }
        let pending: BTreeSet<RunKey> = runs
            .into_iter()
            .filter(|r| !settled.contains_key(r))
            .collect();
        let reads = sides.iter().map(|side| histories(side, &pending));
        for (kept, fresh) in clusters
            .iter_mut()
            .zip(futures::future::join_all(reads).await)
        {
            for key in &pending {
                kept.runs.remove(key);
                kept.unreadable.remove(key);
            }
            kept.runs.extend(fresh.runs);
            kept.unreadable.extend(fresh.unreadable);
        }
        for key in &pending {
            if let Some(events) = equal_everywhere(&clusters, key) {
                settled.insert(key.clone(), events.len());
            }
        }
        let unequal = pending
            .iter()
            .filter(|key| !settled.contains_key(key))
            .count();
        // Lists must have been read since the last change, or a run only one side knows is missed.
        if unequal == 0 && lists_read {
            let took = Some(begun.elapsed());
            return Convergence {
                clusters,
                took,
                unequal,
            };
        }
        if begun.elapsed() > within {
            return Convergence {
                clusters,
                took: None,
                unequal,
            };
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The history of a run when every cluster holds the same.
fn equal_everywhere<'a>(clusters: &'a [Histories], key: &RunKey) -> Option<&'a Vec<HistoryEvent>> {
    let (first, others) = clusters.split_first()?;
    let events = first.runs.get(key)?;
    others
        .iter()
        .all(|c| {
            c.runs
                .get(key)
                .is_some_and(|e| equal_difference(events, e).is_none())
        })
        .then_some(events)
}
