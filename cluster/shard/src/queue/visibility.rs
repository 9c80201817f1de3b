//! The visibility lane: collects runs whose row has to be written, builds the rows from state in memory, and
//! writes many at once. What is written may be newer than what asked for it; the row's version is the task's
//! id, so an older write changes nothing.

use std::{sync::Arc, time::Duration};

use cluster_core::Workflow;
use cluster_runtime::{CancellationToken, retry};
use futures::future::join_all;
use hashbrown::{HashMap, hash_map::Entry};
use parking_lot::Mutex;
use proto_ids::{RunKey, TaskId};
use proto_messages::Wire;
use schema_store::visibility::{VisibilityRecord, VisibilityWrite};
use tokio::sync::Notify;

use super::QueuedTask;
use crate::{error::ReadError, host::Host, shard::Shard};

const PAUSES: retry::Policy =
    retry::Policy::exponential(Duration::from_millis(50), Duration::from_secs(5));

/// Runs whose row has to be written.
#[derive(Default)]
pub(crate) struct VisibilityInbox {
    pending: Mutex<HashMap<RunKey, Pending>>,
    ready: Notify,
}

struct Pending {
    shard: Shard,
    tasks: Vec<Arc<QueuedTask>>,
}

impl Pending {
    fn version(&self) -> TaskId {
        self.tasks
            .iter()
            .map(|t| t.task_id)
            .max()
            .unwrap_or_default()
    }
}

impl VisibilityInbox {
    pub(crate) fn push(&self, shard: &Shard, task: &Arc<QueuedTask>) {
        let mut pending = self.pending.lock();
        match pending.entry(task.run.clone()) {
            Entry::Occupied(mut known) => {
                // A new owner of the shard in the same process takes over what its predecessor collected.
                known.get_mut().shard = shard.clone();
                known.get_mut().tasks.push(task.clone());
            }
            Entry::Vacant(empty) => {
                empty.insert(Pending {
                    shard: shard.clone(),
                    tasks: vec![task.clone()],
                });
            }
        }
        drop(pending);
        self.ready.notify_one();
    }

    pub(crate) fn len(&self) -> usize {
        self.pending.lock().len()
    }

    fn take(&self, most: usize) -> Vec<(RunKey, Pending)> {
        let mut pending = self.pending.lock();
        if pending.len() <= most {
            return pending.drain().collect();
        }
        let keys: Vec<_> = pending.keys().take(most).cloned().collect();
        keys.into_iter()
            .filter_map(|key| pending.remove_entry(&key))
            .collect()
    }

    /// Writes until told to stop; what is collected by then is left to the next owner.
    pub(crate) async fn run(host: Arc<Host>, stop: CancellationToken) {
        let inbox = &host.visibility;
        let options = &host.options;
        loop {
            if inbox.len() == 0 {
                tokio::select! {
                    () = inbox.ready.notified() => {}
                    () = stop.cancelled() => return,
                }
                continue;
            }
            if inbox.len() < options.visibility_batch {
                tokio::select! {
                    () = tokio::time::sleep(options.visibility_lag) => {}
                    () = stop.cancelled() => return,
                }
            }
            let taken = inbox.take(options.visibility_batch);
            tokio::select! {
                () = write(&host, taken) => {}
                () = stop.cancelled() => return,
            }
        }
    }
}

async fn write(host: &Arc<Host>, taken: Vec<(RunKey, Pending)>) {
    let built = join_all(taken.into_iter().map(|(key, pending)| async move {
        let version = pending.version().get();
        let read = pending
            .shard
            .read(&key, |workflow| record_of(workflow, version))
            .await;
        (key, pending, read)
    }))
    .await;
    let mut writes = Vec::with_capacity(built.len());
    let mut tasks = Vec::with_capacity(built.len());
    for (key, pending, read) in built {
        match read {
            Ok(record) => writes.push(VisibilityWrite::Put(Box::new(record))),
            Err(ReadError::NotFound) => writes.push(VisibilityWrite::Delete {
                namespace_id: key.namespace_id,
                run_id: key.run_id,
            }),
            Err(ReadError::Shard(error)) => {
                if !pending.shard.is_lost() {
                    tracing::warn!(shard = %pending.shard.id(), run = %key, %error,
                        "a run cannot be read for its visibility row yet");
                    for task in &pending.tasks {
                        host.visibility.push(&pending.shard, task);
                    }
                }
                continue;
            }
        }
        tasks.push(pending);
    }
    if writes.is_empty() {
        return;
    }
    let store = &host.deps.store.visibility;
    let always = |error: &schema_store::StoreError| {
        tracing::warn!(%error, "visibility rows cannot be written yet");
        true
    };
    let count = writes.len() as u64;
    if retry::retry(&PAUSES, always, || store.visibility_write(writes.clone()))
        .await
        .is_ok()
    {
        host.meters.visibility_writes.inc_by(count);
        for pending in tasks {
            for task in &pending.tasks {
                pending.shard.0.queues.done(task);
            }
            pending.shard.mark();
        }
    }
}

fn record_of(workflow: &Workflow, version: i64) -> VisibilityRecord {
    let (hot, start) = (&workflow.hot, &workflow.start);
    let closed = !workflow.is_running();
    let when_closed = |n: i64| if closed { n } else { 0 };
    let parent = start.parent.as_ref().map(|p| &p.key);
    let root = start.root.as_ref();
    VisibilityRecord {
        namespace_id: workflow.key.namespace_id.clone(),
        workflow_id: workflow.key.workflow_id.clone(),
        run_id: workflow.key.run_id.clone(),
        version,
        workflow_type: start.workflow_type.name.clone(),
        task_queue: start.task_queue.clone(),
        status: hot.status as i32,
        start_time: start.start_time,
        execution_time: start.execution_time,
        close_time: hot.close_time,
        history_length: when_closed(hot.next_event_id.get() - 1),
        history_size: when_closed(hot.history_size),
        state_transition_count: when_closed(hot.state_transition_count),
        parent_workflow_id: parent
            .map(|k| k.workflow_id.to_string())
            .unwrap_or_default(),
        parent_run_id: parent.map(|k| k.run_id.to_string()).unwrap_or_default(),
        root_workflow_id: root.map_or_else(
            || workflow.key.workflow_id.to_string(),
            |r| r.workflow_id.clone(),
        ),
        root_run_id: root.map_or_else(|| workflow.key.run_id.to_string(), |r| r.run_id.clone()),
        memo: hot.memo.as_ref().map(Wire::to_wire).unwrap_or_default(),
        search_attributes: hot
            .search_attributes
            .as_ref()
            .map(Wire::to_wire)
            .unwrap_or_default(),
    }
}
