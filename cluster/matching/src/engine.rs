//! All task queues this process has loaded. Loading takes the queue's fence; unloading gives waiting polls
//! and held tasks back to their callers, who find the new owner.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use cluster_membership::{Membership, Role};
use cluster_rpc::{HistoryClient, matching::task_queue_key, status};
use cluster_runtime::{
    CancellationToken, Overload,
    clock::SharedClock,
    task::{TaskKind, Tasks},
};
use parking_lot::Mutex;
use proto_ids::{TaskId, Timestamp};
use proto_messages::{
    Wire,
    meridian::matching::v1::{AddTaskRequest, AddTaskResponse},
    temporal::api::workflowservice::v1::RespondQueryTaskCompletedRequest,
};
use schema_store::task_queue::{TaskQueueKey, TaskQueueStore};
use tokio::sync::{OnceCell, oneshot};
use tonic::Status;

use crate::{
    backlog::{self, Backlog},
    metrics::MatchingMetrics,
    queue::{Queue, WINDOW},
    task::{Fate, Origin, Waiting},
};

/// How long a caller's task waits in memory for a poller before it goes to the backlog. The caller's
/// outbox keeps it safe meanwhile, so this saves a write and costs nothing.
const HOLD: Duration = Duration::from_millis(200);
/// How often settled backlog is trimmed, queues that moved are unloaded, and idle ones dropped.
const SWEEP: Duration = Duration::from_secs(1);
/// A queue that is not used for this long is unloaded.
const IDLE: Duration = Duration::from_secs(300);

pub(crate) struct Engine {
    store: Arc<dyn TaskQueueStore>,
    pub(crate) history: HistoryClient,
    membership: Membership,
    clock: SharedClock,
    overload: Overload,
    tasks: Tasks,
    backlog: Backlog,
    queues: Mutex<HashMap<TaskQueueKey, Arc<OnceCell<Arc<Queue>>>>>,
    /// Callers that wait for a worker's answer to a query, by query id.
    answers: Mutex<HashMap<String, oneshot::Sender<RespondQueryTaskCompletedRequest>>>,
    pub(crate) metrics: MatchingMetrics,
}

impl Engine {
    pub(crate) fn start(
        store: Arc<dyn TaskQueueStore>,
        history: HistoryClient,
        membership: Membership,
        clock: SharedClock,
        overload: Overload,
        tasks: Tasks,
        metrics: MatchingMetrics,
    ) -> Arc<Self> {
        let (backlog, inbox) = Backlog::new();
        let engine = Arc::new(Self {
            store: store.clone(),
            history,
            membership,
            clock,
            overload,
            tasks: tasks.clone(),
            backlog,
            queues: Mutex::default(),
            answers: Mutex::default(),
            metrics,
        });
        let weak = Arc::downgrade(&engine);
        // Kept outside: what waits in it survives a panic of the writer.
        let inbox = Arc::new(tokio::sync::Mutex::new(inbox));
        tasks.spawn_restarting(TaskKind::Background, "backlog-writer", move || {
            let (inbox, store, weak) = (inbox.clone(), store.clone(), weak.clone());
            async move { backlog::run(&mut *inbox.lock().await, store, weak).await }
        });
        let weak = Arc::downgrade(&engine);
        let stopping = tasks.token(TaskKind::Queue);
        tasks.spawn_restarting(TaskKind::Queue, "task-queue-sweeper", move || {
            let (weak, stopping) = (weak.clone(), stopping.clone());
            async move {
                loop {
                    let stop = stopping
                        .run_until_cancelled(tokio::time::sleep(SWEEP))
                        .await
                        .is_none();
                    let Some(engine) = weak.upgrade() else { return };
                    engine.sweep().await;
                    if stop {
                        engine.unload_all("the process stops");
                        return;
                    }
                }
            }
        });
        engine
    }

    /// Cancelled when the process begins to stop.
    pub(crate) fn stopping(&self) -> CancellationToken {
        self.tasks.stopping()
    }

    /// Address of this process, for describe and tokens.
    pub(crate) fn address(&self) -> String {
        self.membership
            .me()
            .rpc(Role::Matching)
            .map_or_else(String::new, |at| at.to_string())
    }

    /// The queue, loaded. A sticky queue has no durable part: its tasks are safe by their
    /// schedule-to-start timeout, which history always arms.
    pub(crate) async fn queue(
        &self,
        key: TaskQueueKey,
        sticky: bool,
        begins_as: &str,
    ) -> Result<Arc<Queue>, Status> {
        let cell = self.queues.lock().entry(key.clone()).or_default().clone();
        let load = || async {
            let (range, ack) = if sticky {
                Default::default()
            } else {
                let record = self.store.task_queue_acquire(&key).await;
                let record = record
                    .map_err(|e| status::unavailable(format!("acquire the task queue: {e}")))?;
                (record.range, record.ack)
            };
            tracing::debug!(namespace_id = %key.namespace_id, task_queue = %key.name, kind = key.kind, %range, "task queue loaded");
            let queue = Queue::new(
                key.clone(),
                sticky,
                self.clock.clone(),
                &self.overload,
                begins_as,
                (range, ack),
            );
            Ok::<_, Status>(Arc::new(queue))
        };
        let queue = cell.get_or_try_init(load).await?.clone();
        self.read_backlog(&queue);
        Ok(queue)
    }

    /// The queue if it is loaded.
    pub(crate) fn loaded(&self, key: &TaskQueueKey) -> Option<Arc<Queue>> {
        self.queues.lock().get(key)?.get().cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Queue>> {
        let queues = self.queues.lock();
        queues.values().filter_map(|c| c.get().cloned()).collect()
    }

    /// Drops the queue from memory; the next use loads it, here or at its new owner.
    pub(crate) fn unload(&self, queue: &Arc<Queue>, reason: &str) {
        {
            let mut queues = self.queues.lock();
            let same = queues
                .get(&queue.key)
                .and_then(|c| c.get())
                .is_some_and(|q| Arc::ptr_eq(q, queue));
            if same {
                queues.remove(&queue.key);
            }
        }
        tracing::debug!(namespace_id = %queue.key.namespace_id, task_queue = %queue.key.name, reason, "task queue unloaded");
        queue.close();
    }

    fn unload_all(&self, reason: &str) {
        for queue in self.all() {
            self.unload(&queue, reason);
        }
    }

    /// Takes a task: into the hands of a poller, or into the backlog. Returns whether a poller took it.
    pub(crate) async fn add(
        &self,
        queue: &Arc<Queue>,
        request: AddTaskRequest,
    ) -> Result<AddTaskResponse, Status> {
        if queue.sticky {
            return self.add_sticky(queue, request);
        }
        let (caller, mut fate) = oneshot::channel();
        let task = Waiting::new(request, Origin::Held(caller));
        let request = match queue.offer(task) {
            Err(task) => task.request,
            Ok(slot) => match tokio::time::timeout(HOLD, &mut fate).await {
                Ok(ended) => return self.answer_held(queue, ended),
                Err(_) => match queue.withdraw(slot) {
                    Some(task) => task.request,
                    // A poller has it in hand: its end is near.
                    None => return self.answer_held(queue, fate.await),
                },
            },
        };
        self.metrics.spilled(queue);
        self.backlog.append(queue.clone(), request).await?;
        self.read_backlog(queue);
        Ok(AddTaskResponse {
            sync_matched: false,
        })
    }

    fn answer_held(
        &self,
        queue: &Queue,
        ended: Result<Fate, oneshot::error::RecvError>,
    ) -> Result<AddTaskResponse, Status> {
        match ended {
            Ok(Fate::Done) => {
                self.metrics.sync_matched(queue);
                Ok(AddTaskResponse { sync_matched: true })
            }
            Ok(Fate::Again(why)) => Err(status::unavailable(why)),
            Err(_) => Err(status::unavailable("the task queue was unloaded")),
        }
    }

    /// Counts a poll that got this task.
    pub(crate) fn polled(&self, queue: &Queue, task: &Waiting) {
        let now = Timestamp::from_nanos(self.clock.now_nanos());
        self.metrics.polled(queue, &task.request, now);
    }

    fn add_sticky(
        &self,
        queue: &Arc<Queue>,
        request: AddTaskRequest,
    ) -> Result<AddTaskResponse, Status> {
        if !queue.has_worker() || queue.is_full() {
            return Err(status::sticky_worker_unavailable());
        }
        let waits = queue.offer_volatile(Waiting::new(request, Origin::Volatile));
        Ok(AddTaskResponse {
            sync_matched: !waits,
        })
    }

    /// How many of the queue's tasks are in the store alone: what an earlier owner left is not known otherwise.
    pub(crate) async fn unread(&self, queue: &Queue) -> Result<i64, Status> {
        let Some(after) = queue.unread_after() else {
            return Ok(0);
        };
        let counted = self.store.task_queue_count(&queue.key, after).await;
        counted.map_err(|e| status::unavailable(format!("count the task queue's backlog: {e}")))
    }

    /// Reads more of the backlog in the background, if there is any to read and room for it.
    pub(crate) fn read_backlog(&self, queue: &Arc<Queue>) {
        let Some(reading) = queue.begin_read() else {
            return;
        };
        let (store, queue) = (self.store.clone(), queue.clone());
        self.tasks.spawn(TaskKind::Background, "backlog-reader", async move {
            let _reading = reading;
            while let Some(after) = queue.wants_read() {
                let durable = queue.durable();
                match store.task_queue_read(&queue.key, after, WINDOW / 2).await {
                    Ok(rows) => {
                        let at_end = rows.len() < WINDOW / 2;
                        let tasks = rows.into_iter().filter_map(|r| decode(r.task_id, r.data)).collect();
                        queue.loaded(after, tasks, durable, at_end);
                    }
                    Err(error) => {
                        // The next poll or add tries again.
                        tracing::warn!(task_queue = %queue.key.name, %error, "cannot read the task queue's backlog");
                        return;
                    }
                }
            }
        });
    }

    async fn sweep(&self) {
        let ring = self.membership.ring(Role::Matching);
        let all = self.all();
        self.metrics.backlogs(all.iter().map(Arc::as_ref));
        for queue in all {
            queue.look();
            if let Some((range, ack)) = queue.ack_to_write() {
                match self.store.task_queue_ack(&queue.key, range, ack).await {
                    Ok(()) => queue.ack_written(ack),
                    Err(schema_store::StoreError::Fenced(_)) => {
                        self.unload(&queue, "another owner took it");
                        continue;
                    }
                    // Tried again with the next sweep; until then tasks are only kept longer.
                    Err(error) => {
                        tracing::warn!(task_queue = %queue.key.name, %error, "cannot trim the task queue");
                    }
                }
            }
            let key = task_queue_key(
                queue.key.namespace_id.as_str(),
                &queue.key.name,
                queue.key.kind,
            );
            let mine = ring.owner(&key).is_none_or(|m| self.membership.is_me(m));
            if !mine {
                self.unload(&queue, "it moved to another member");
            } else if queue.is_idle(IDLE) {
                self.unload(&queue, "idle");
            }
        }
    }

    /// Registers a caller that waits for a query's answer; dropping the guard forgets it.
    pub(crate) fn expect_answer(
        self: &Arc<Self>,
        id: &str,
    ) -> (
        AnswerGuard,
        oneshot::Receiver<RespondQueryTaskCompletedRequest>,
    ) {
        let (send, receive) = oneshot::channel();
        self.answers.lock().insert(id.to_owned(), send);
        let guard = AnswerGuard {
            engine: self.clone(),
            id: id.to_owned(),
        };
        (guard, receive)
    }

    /// Delivers a worker's answer; false when no caller waits for it any more.
    pub(crate) fn deliver_answer(
        &self,
        id: &str,
        answer: RespondQueryTaskCompletedRequest,
    ) -> bool {
        let waiting = self.answers.lock().remove(id);
        waiting.is_some_and(|w| w.send(answer).is_ok())
    }
}

/// Keeps a waiting query registered.
pub(crate) struct AnswerGuard {
    engine: Arc<Engine>,
    id: String,
}

impl Drop for AnswerGuard {
    fn drop(&mut self) {
        self.engine.answers.lock().remove(&self.id);
    }
}

fn decode(id: TaskId, data: Bytes) -> Option<(TaskId, Waiting)> {
    match AddTaskRequest::from_wire(data) {
        Ok(request) => Some((id, Waiting::new(request, Origin::Backlog(id)))),
        Err(error) => {
            tracing::error!(task_id = %id, %error, "a task of the backlog cannot be read; it is skipped");
            None
        }
    }
}
