//! The visibility lane: collects runs whose row has to be written, builds the rows from state in memory, and
//! writes many at once. What is written may be newer than what asked for it; the row's version is the task's
//! id, so an older write changes nothing. A row that cannot be written stops no other: a batch that is refused
//! is split until the row at fault is alone, and that one is set aside.

use std::{collections::VecDeque, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use cluster_core::MutableState;
use cluster_runtime::{CancellationToken, retry};
use futures::{FutureExt, future::join_all};
use hashbrown::{HashMap, hash_map::Entry};
use parking_lot::Mutex;
use proto_ids::{RunKey, TaskId};
use proto_messages::Wire;
use schema_store::{
    StoreError,
    visibility::{VisibilityRecord, VisibilityWrite},
};
use tokio::{sync::Notify, time::Instant};

use super::{Executable, QueuedTask, timer::TimerAction};
use crate::{
    dlq::DlqEntry,
    error::{ReadError, ShardError},
    host::Host,
    shard::Shard,
};

const PAUSES: retry::Policy =
    retry::Policy::exponential(Duration::from_millis(50), Duration::from_secs(5));

/// A batch that fails this often, for whatever reason, is split: perhaps one of its rows is the reason.
const SPLIT_AFTER: u32 = 5;

/// A row that fails alone this often while others are written is taken for the reason itself.
const ALONE_MAX: u32 = 20;

/// Pause before a run that could not be read for its row is read again.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// Runs whose row has to be written.
#[derive(Default)]
pub(crate) struct VisibilityQueue {
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

    fn done(&self) {
        for task in &self.tasks {
            self.shard.0.queues.done(task);
        }
        self.shard.mark_dirty();
    }
}

impl VisibilityQueue {
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

    /// Writes until it is stopped; what is collected by then is left to the next owner.
    pub(crate) async fn run(host: Arc<Host>, stop: CancellationToken) {
        let (inbox, options) = (&host.visibility_queue, &host.options);
        let mut work = Work::new(host.clone());
        loop {
            let due = work.due();
            if inbox.len() == 0 && due.is_none_or(|at| at > Instant::now()) {
                let piece_is_due = async {
                    match due {
                        Some(at) => tokio::time::sleep_until(at).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = inbox.ready.notified() => {}
                    () = piece_is_due => {}
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
            work.taken = inbox.take(options.visibility_batch);
            let round = async {
                work.build().await;
                work.write().await;
            };
            tokio::select! {
                () = round => {}
                () = stop.cancelled() => return,
            }
        }
    }
}

/// A row to be written, and who asked for it.
struct Row {
    key: RunKey,
    pending: Pending,
    write: VisibilityWrite,
}

/// Rows that are written together.
struct Piece {
    rows: Vec<Row>,
    /// How often that failed.
    attempts: u32,
    /// Rows that had been written when it failed first.
    written_before: u64,
    not_before: Instant,
    pauses: retry::Pauses,
}

/// The writes under way. Those left when it is dropped go back to the queue.
struct Work {
    host: Arc<Host>,
    taken: Vec<(RunKey, Pending)>,
    pieces: VecDeque<Piece>,
    /// Rows written so far: others are written while one fails.
    written: u64,
}

impl Piece {
    fn new(rows: Vec<Row>) -> Self {
        Self {
            rows,
            attempts: 0,
            written_before: 0,
            not_before: Instant::now(),
            pauses: PAUSES.pauses(),
        }
    }

    /// Two halves, as if they had never been tried.
    fn halves(mut self) -> [Self; 2] {
        let later = self.rows.split_off(self.rows.len() / 2);
        [Self::new(self.rows), Self::new(later)]
    }
}

impl Work {
    fn new(host: Arc<Host>) -> Self {
        Self {
            host,
            taken: Vec::new(),
            pieces: VecDeque::new(),
            written: 0,
        }
    }

    /// When the first piece is to be tried.
    fn due(&self) -> Option<Instant> {
        self.pieces.iter().map(|p| p.not_before).min()
    }

    /// Makes rows of the runs that were taken.
    async fn build(&mut self) {
        let reads = self.taken.iter().map(|(key, pending)| async {
            let version = pending.version().get();
            let read = pending.shard.read(key, |run| record_of(run, version));
            // A run that makes this panic is a run that cannot be read.
            let read = AssertUnwindSafe(read).catch_unwind().await;
            read.unwrap_or_else(|_| {
                let cause = "making its visibility row panics, see the log".to_owned();
                Err(ReadError::Shard(ShardError::Corrupt(cause)))
            })
        });
        let reads = join_all(reads).await;
        let mut rows = Vec::with_capacity(reads.len());
        let mut unreadable = Vec::new();
        for ((key, pending), read) in std::mem::take(&mut self.taken).into_iter().zip(reads) {
            match read {
                Ok(record) => {
                    let write = VisibilityWrite::Put(Box::new(record));
                    rows.push(Row {
                        key,
                        pending,
                        write,
                    });
                }
                Err(ReadError::NotFound) => {
                    let write = delete(&key);
                    rows.push(Row {
                        key,
                        pending,
                        write,
                    });
                }
                Err(ReadError::Shard(ShardError::Corrupt(cause))) => {
                    unreadable.push((key, pending, cause));
                }
                Err(ReadError::Shard(error)) => self.read_again(&key, pending, &error),
            }
        }
        self.supersede(&mut rows);
        if !rows.is_empty() {
            self.pieces.push_back(Piece::new(rows));
        }
        for (key, pending, cause) in unreadable {
            if let Err(error) = send_to_dlq(&key, &pending, cause, 1).await {
                self.read_again(&key, pending, &error.into());
            }
        }
    }

    /// Replaces rows of the same runs that were made before and are not written yet: an
    /// older row must not follow the removal of a run.
    fn supersede(&mut self, rows: &mut [Row]) {
        if self.pieces.is_empty() {
            return;
        }
        let mut newer: HashMap<RunKey, &mut Pending> = rows
            .iter_mut()
            .map(|row| (row.key.clone(), &mut row.pending))
            .collect();
        for piece in &mut self.pieces {
            piece.rows.retain_mut(|row| {
                let Some(pending) = newer.get_mut(&row.key) else {
                    return true;
                };
                pending.tasks.append(&mut row.pending.tasks);
                false
            });
        }
        self.pieces.retain(|piece| !piece.rows.is_empty());
    }

    fn read_again(&self, key: &RunKey, pending: Pending, error: &ShardError) {
        if pending.shard.is_lost() {
            return;
        }
        tracing::warn!(shard = %pending.shard.id(), run = %key, %error,
            "a run cannot be read for its visibility row yet");
        let at = self.host.now().plus(READ_AGAIN);
        for task in pending.tasks {
            let executable = Executable::new(&pending.shard, task);
            self.host.timers.arm(at, TimerAction::Retry(executable));
        }
    }

    /// Tries every piece that is due once.
    async fn write(&mut self) {
        for _ in 0..self.pieces.len() {
            let Some(piece) = self.pieces.front() else {
                return;
            };
            if piece.not_before > Instant::now() {
                self.pieces.rotate_left(1);
                continue;
            }
            let writes = piece.rows.iter().map(|row| row.write.clone()).collect();
            let ended = self.host.deps.store.visibility.visibility_write(writes);
            // It stays where it is while it is being written: a panic must not lose it.
            let ended = ended.await;
            if let Some(piece) = self.pieces.pop_front() {
                self.after(piece, ended).await;
            }
        }
    }

    async fn after(&mut self, mut piece: Piece, ended: Result<(), StoreError>) {
        let is_one = piece.rows.len() == 1;
        let error = match ended {
            Ok(()) => {
                self.written += piece.rows.len() as u64;
                let written = &self.host.meters.visibility_writes;
                written.inc_by(piece.rows.len() as u64);
                return piece.rows.iter().for_each(|row| row.pending.done());
            }
            Err(error) => error,
        };
        let is_refused = matches!(error, StoreError::Invalid(_) | StoreError::Conflict(_));
        piece.attempts += 1;
        if piece.attempts == 1 {
            piece.written_before = self.written;
        }
        if !is_one && (is_refused || piece.attempts >= SPLIT_AFTER) {
            self.pieces.extend(piece.halves());
            return;
        }
        let is_at_fault =
            is_refused || (piece.attempts >= ALONE_MAX && self.written > piece.written_before);
        if is_one && is_at_fault {
            let row = &piece.rows[0];
            let send_to_dlq =
                send_to_dlq(&row.key, &row.pending, error.to_string(), piece.attempts);
            if send_to_dlq.await.is_ok() {
                return;
            }
        }
        let pause = piece.pauses.next_pause();
        tracing::warn!(%error, rows = piece.rows.len(), ?pause, "visibility rows cannot be written yet");
        piece.not_before = Instant::now() + pause;
        piece.rows.retain(|row| !row.pending.shard.is_lost());
        if !piece.rows.is_empty() {
            self.pieces.push_back(piece);
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let rows = self.pieces.drain(..).flat_map(|piece| piece.rows);
        let left = rows.map(|row| row.pending);
        for pending in self.taken.drain(..).map(|(_, pending)| pending).chain(left) {
            for task in &pending.tasks {
                self.host.visibility_queue.push(&pending.shard, task);
            }
        }
    }
}

fn delete(key: &RunKey) -> VisibilityWrite {
    VisibilityWrite::Delete {
        namespace_id: key.namespace_id.clone(),
        run_id: key.run_id.clone(),
    }
}

/// Sets a run's visibility tasks aside; they count as done then.
async fn send_to_dlq(
    key: &RunKey,
    pending: &Pending,
    cause: String,
    attempts: u32,
) -> Result<(), StoreError> {
    let tasks: Vec<_> = pending.tasks.iter().map(Arc::as_ref).collect();
    let entry = DlqEntry {
        attempts,
        ..DlqEntry::of_tasks(key, &tasks, cause)
    };
    pending.shard.send_to_dlq(entry).await?;
    pending.done();
    Ok(())
}

fn record_of(ms: &MutableState, version: i64) -> VisibilityRecord {
    let (execution_info, start) = (&ms.execution_info, &ms.start);
    let closed = !ms.is_running();
    let when_closed = |n: i64| if closed { n } else { 0 };
    let parent = start.parent.as_ref().map(|p| &p.key);
    let root = start.root.as_ref();
    VisibilityRecord {
        namespace_id: ms.key.namespace_id.clone(),
        workflow_id: ms.key.workflow_id.clone(),
        run_id: ms.key.run_id.clone(),
        version,
        workflow_type: start.workflow_type.name.clone(),
        task_queue: start.task_queue.clone(),
        status: execution_info.status as i32,
        start_time: start.start_time,
        execution_time: start.execution_time,
        close_time: execution_info.close_time,
        history_length: when_closed(execution_info.next_event_id.get() - 1),
        history_size: when_closed(execution_info.history_size),
        state_transition_count: when_closed(execution_info.state_transition_count),
        parent_workflow_id: parent
            .map(|k| k.workflow_id.to_string())
            .unwrap_or_default(),
        parent_run_id: parent.map(|k| k.run_id.to_string()).unwrap_or_default(),
        root_workflow_id: root
            .map_or_else(|| ms.key.workflow_id.to_string(), |r| r.workflow_id.clone()),
        root_run_id: root.map_or_else(|| ms.key.run_id.to_string(), |r| r.run_id.clone()),
        memo: execution_info
            .memo
            .as_ref()
            .map(Wire::to_wire)
            .unwrap_or_default(),
        search_attributes: execution_info
            .search_attributes
            .as_ref()
            .map(Wire::to_wire)
            .unwrap_or_default(),
    }
}
