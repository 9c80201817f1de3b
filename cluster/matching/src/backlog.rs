//! Writing the backlog: one writer for all queues of this process, which commits whatever is waiting as
//! one transaction, then hands the tasks to their queues in the order of their ids.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use cluster_rpc::status;
use proto_ids::{RangeId, TaskId};
use proto_messages::Wire;
use proto_messages::meridian::matching::v1::AddTaskRequest;
use schema_store::{
    StoreError,
    task_queue::{BacklogAppend, BacklogTask, TaskQueueStore},
};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use crate::{
    engine::Engine,
    queue::Queue,
    task::{Origin, Waiting},
};

/// Tasks in one transaction at most.
const BATCH: usize = 256;
/// Appends that may wait; beyond it callers wait to enqueue.
const WAITING: usize = 4_096;

struct Append {
    queue: Arc<Queue>,
    request: AddTaskRequest,
    done: oneshot::Sender<Result<(), Status>>,
}

/// Handle of the writer.
#[derive(Clone)]
pub(crate) struct Backlog(mpsc::Sender<Append>);

/// The receiving end of the writer, to be run by [`run`].
pub(crate) struct BacklogReceiver(mpsc::Receiver<Append>);

impl Backlog {
    pub(crate) fn new() -> (Self, BacklogReceiver) {
        let (send, receive) = mpsc::channel(WAITING);
        (Self(send), BacklogReceiver(receive))
    }

    /// Returns once the task is durable.
    pub(crate) async fn append(
        &self,
        queue: Arc<Queue>,
        request: AddTaskRequest,
    ) -> Result<(), Status> {
        let (done, answer) = oneshot::channel();
        let append = Append {
            queue,
            request,
            done,
        };
        let stopping = || status::unavailable("matching is shutting down");
        self.0.send(append).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }
}

/// Writes appends until all handles are gone.
pub(crate) async fn run(
    receiver: &mut BacklogReceiver,
    store: Arc<dyn TaskQueueStore>,
    engine: Weak<Engine>,
) {
    let mut appends = Vec::with_capacity(BATCH);
    while receiver.0.recv_many(&mut appends, BATCH).await > 0 {
        let numbered = number(std::mem::take(&mut appends), &engine);
        write(numbered, store.as_ref(), &engine).await;
    }
}

struct Numbered {
    append: Append,
    range: RangeId,
    id: TaskId,
    data: Bytes,
}

fn number(appends: Vec<Append>, engine: &Weak<Engine>) -> Vec<Numbered> {
    let mut numbered = Vec::with_capacity(appends.len());
    for append in appends {
        let Some((range, id)) = append.queue.take_ids(1) else {
            unload(engine, &append.queue);
            answer(
                append,
                Err(status::unavailable("the task queue is being loaded anew")),
            );
            continue;
        };
        let data = append.request.to_wire();
        numbered.push(Numbered {
            append,
            range,
            id,
            data,
        });
    }
    numbered
}

/// Writes all in one transaction. When another process owns one of the queues nothing was written: then each
/// queue is tried alone, and the lost ones are unloaded.
async fn write(batch: Vec<Numbered>, store: &dyn TaskQueueStore, engine: &Weak<Engine>) {
    let mut groups: Vec<Vec<Numbered>> = Vec::new();
    for n in batch {
        match groups
            .iter_mut()
            .find(|g| Arc::ptr_eq(&g[0].append.queue, &n.append.queue))
        {
            Some(group) => group.push(n),
            None => groups.push(vec![n]),
        }
    }
    if groups.is_empty() {
        return;
    }
    match store
        .task_queue_append(groups.iter().map(|g| to_append(g)).collect())
        .await
    {
        Ok(()) => groups.into_iter().for_each(settle),
        Err(StoreError::Fenced(_)) if groups.len() > 1 => {
            for group in groups {
                let result = store.task_queue_append(vec![to_append(&group)]).await;
                settle_alone(group, result, engine);
            }
        }
        Err(error) if groups.len() == 1 => {
            if let Some(group) = groups.pop() {
                settle_alone(group, Err(error), engine);
            }
        }
        Err(error) => {
            for append in groups.into_iter().flatten().map(|n| n.append) {
                answer(append, Err(refusal(&error)));
            }
        }
    }
}

fn to_append(group: &[Numbered]) -> BacklogAppend {
    BacklogAppend {
        key: group[0].append.queue.key.clone(),
        range: group[0].range,
        tasks: group
            .iter()
            .map(|n| BacklogTask {
                task_id: n.id,
                data: n.data.clone(),
            })
            .collect(),
    }
}

fn settle(group: Vec<Numbered>) {
    for n in group {
        let queue = n.append.queue.clone();
        queue.appended(
            n.id,
            Waiting::new(n.append.request.clone(), Origin::Backlog(n.id)),
        );
        answer(n.append, Ok(()));
    }
}

fn settle_alone(group: Vec<Numbered>, result: Result<(), StoreError>, engine: &Weak<Engine>) {
    match result {
        Ok(()) => settle(group),
        Err(error) => {
            if matches!(error, StoreError::Fenced(_)) {
                unload(engine, &group[0].append.queue);
            }
            for n in group {
                answer(n.append, Err(refusal(&error)));
            }
        }
    }
}

fn refusal(error: &StoreError) -> Status {
    status::unavailable(format!("append to the task queue's backlog: {error}"))
}

fn unload(engine: &Weak<Engine>, queue: &Arc<Queue>) {
    if let Some(engine) = engine.upgrade() {
        engine.unload(queue, "another owner took it");
    }
}

fn answer(append: Append, result: Result<(), Status>) {
    // A caller that left does not need to know.
    let _ = append.done.send(result);
}
