//! Every spawned task has a kind, a name and a group. The kind states what cancellation and failure
//! mean for it; the group can be stopped as a whole, kind by kind, within a deadline, and tells who
//! held on. Invariant: after [`Tasks::shutdown`] returns, no task of the group or of its children runs.

use std::{
    any::Any,
    borrow::Cow,
    collections::HashMap,
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::FutureExt;
use parking_lot::Mutex;
use prometheus::IntCounterVec;
use tokio::{
    sync::{Notify, watch},
    task::{AbortHandle, JoinHandle},
};
use tokio_util::sync::CancellationToken;

mod restart;

/// The kind of a task. Shutdown goes through the kinds in the order below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TaskKind {
    /// Accepts work from outside. Cancel: stops accepting, ends what it accepted, then returns.
    /// Failure: the process cannot do its duty; reported by [`Tasks::failed`].
    Server,
    /// One long exchange with a peer. Cancel: dropped at its next await, the peer comes again.
    /// Failure: logged; its owner opens it again.
    Stream,
    /// One request. Cancel: none, it runs to its end; shutdown waits for it.
    /// Failure: logged; the caller sees an error.
    Request,
    /// Periodic or best-effort work. Cancel: dropped at its next await. Failure: logged.
    Background,
    /// Drives a queue. Cancel: by its token; ends at a place where it can be taken up again.
    /// Failure: logged; its owner starts it again.
    Queue,
    /// Owns state that others wait on, such as a commit lane. Cancel: last, by its token; ends when
    /// it has emptied its inbox. Failure: what it owned is in doubt; reported by [`Tasks::failed`].
    Lane,
}

/// The kinds in the order in which shutdown stops them.
const STAGES: [TaskKind; 6] = [
    TaskKind::Server,
    TaskKind::Stream,
    TaskKind::Request,
    TaskKind::Background,
    TaskKind::Queue,
    TaskKind::Lane,
];

/// A group of tasks. Cheap to clone; clones are the same group.
#[derive(Clone)]
pub struct Tasks(Arc<Group>);

/// A spawned task. Dropping it detaches; the group still knows the task.
#[derive(Debug)]
pub struct Task<T>(JoinHandle<Option<T>>);

/// The task ended without a value: it was stopped, or it panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the task was stopped")]
pub struct Stopped;

/// A task whose failure its kind does not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its kind.
    pub kind: TaskKind,
    /// Its group and name.
    pub name: String,
    /// Its message.
    pub reason: String,
}

struct Group {
    path: String,
    parent: Option<Arc<Group>>,
    stages: [CancellationToken; STAGES.len()],
    /// Running tasks of this group and its children, by kind.
    counts: [AtomicUsize; STAGES.len()],
    /// Signalled when a count falls to zero.
    emptied: Notify,
    running: Mutex<HashMap<u64, Running>>,
    next: AtomicU64,
    children: Mutex<Vec<std::sync::Weak<Group>>>,
    failed: watch::Sender<Option<Failure>>,
    /// Set where restarts are counted.
    restarts: OnceLock<IntCounterVec>,
}

struct Running {
    kind: TaskKind,
    name: Cow<'static, str>,
    since: Instant,
    /// Set right after the spawn.
    abort: Option<AbortHandle>,
}

/// Removes the task from its group however it ends.
struct Registered {
    group: Arc<Group>,
    id: u64,
    kind: TaskKind,
}

impl TaskKind {
    /// Whether cancelling drops the task at its next await, rather than telling it.
    pub const fn is_dropped_on_cancel(self) -> bool {
        matches!(self, Self::Stream | Self::Background)
    }

    /// Whether a panic must end the process.
    pub const fn is_failure_fatal(self) -> bool {
        matches!(self, Self::Server | Self::Lane)
    }

    const fn stage(self) -> usize {
        self as usize
    }
}

impl fmt::Display for TaskKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "server",
            Self::Stream => "stream",
            Self::Request => "request",
            Self::Background => "background",
            Self::Queue => "queue",
            Self::Lane => "lane",
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} task {} failed: {}",
            self.kind, self.name, self.reason
        )
    }
}

impl Tasks {
    /// A group without a parent. `name` begins the names of all tasks in it.
    pub fn new(name: impl Into<String>) -> Self {
        Self(Arc::new(Group::new(name.into(), None)))
    }

    /// A group that stops with this one, and can be stopped alone.
    pub fn child(&self, name: &str) -> Self {
        let path = format!("{}/{name}", self.0.path);
        let child = Arc::new(Group::new(path, Some(self.0.clone())));
        let mut children = self.0.children.lock();
        children.retain(|c| c.strong_count() > 0);
        children.push(Arc::downgrade(&child));
        Self(child)
    }

    /// Spawns a task. In a group that is shut down it is spawned all the same, with its token cancelled.
    pub fn spawn<T, F>(
        &self,
        kind: TaskKind,
        name: impl Into<Cow<'static, str>>,
        future: F,
    ) -> Task<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let registered = Registered::new(self.0.clone(), kind, name.into());
        let id = registered.id;
        let token = self.token(kind);
        let handle = tokio::spawn(async move {
            let registered = registered;
            let caught = AssertUnwindSafe(future).catch_unwind();
            let ended = if kind.is_dropped_on_cancel() {
                token.run_until_cancelled(caught).await?
            } else {
                caught.await
            };
            match ended {
                Ok(value) => Some(value),
                Err(panic) => {
                    registered.failed(&panic_text(&*panic));
                    None
                }
            }
        });
        if let Some(running) = self.0.running.lock().get_mut(&id) {
            running.abort = Some(handle.abort_handle());
        }
        Task(handle)
    }

    /// The token that cancels tasks of this kind.
    pub fn token(&self, kind: TaskKind) -> CancellationToken {
        self.0.stages[kind.stage()].clone()
    }

    /// The token that is cancelled when shutdown begins.
    pub fn stopping(&self) -> CancellationToken {
        self.token(TaskKind::Server)
    }

    /// How many tasks run in this group and its children.
    pub fn running(&self) -> usize {
        self.0
            .counts
            .iter()
            .map(|c| c.load(Ordering::Acquire))
            .sum()
    }

    /// Returns with the first failure that a kind does not allow, anywhere in the tree of groups.
    /// Never returns without one.
    pub async fn failed(&self) -> Failure {
        let mut failed = self.0.failed.subscribe();
        match failed.wait_for(Option::is_some).await {
            Ok(failure) => match &*failure {
                Some(failure) => failure.clone(),
                None => std::future::pending().await,
            },
            Err(_) => std::future::pending().await,
        }
    }

    /// Reports a failure that is not a panic, such as a listener that broke.
    pub fn fail(&self, kind: TaskKind, name: &str, reason: impl fmt::Display) {
        let name = format!("{}/{name}", self.0.path);
        self.0.report(Failure {
            kind,
            name,
            reason: reason.to_string(),
        });
    }

    /// Stops kind by kind: cancels one, waits until its tasks are gone, then the next. At `deadline` from
    /// now whatever is left is aborted and named in the log. Returns whether all ended by themselves.
    pub async fn shutdown(&self, deadline: Duration) -> bool {
        let orderly = async {
            for kind in STAGES {
                self.0.stages[kind.stage()].cancel();
                self.0.emptied(kind).await;
            }
        };
        if tokio::time::timeout(deadline, orderly).await.is_ok() {
            return true;
        }
        self.0.tell_who_runs();
        self.kill().await;
        false
    }

    /// Aborts everything at its next await and returns when it is gone: the process as it would be after
    /// a crash. For drills and tests; [`Tasks::shutdown`] ends in it.
    pub async fn kill(&self) {
        // First the abort, so that nobody sees its token and says good-bye.
        self.0.abort_all();
        for stage in &self.0.stages {
            stage.cancel();
        }
        for kind in STAGES {
            // Tasks that were just being spawned are met by a later round.
            let round = Duration::from_millis(20);
            while tokio::time::timeout(round, self.0.emptied(kind))
                .await
                .is_err()
            {
                self.0.abort_all();
            }
        }
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tasks({}, {} running)", self.0.path, self.running())
    }
}

impl<T> Task<T> {
    /// Aborts the task at its next await, whatever its kind.
    pub fn abort(&self) {
        self.0.abort();
    }

    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T, Stopped>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(cx)
            .map(|ended| ended.ok().flatten().ok_or(Stopped))
    }
}

impl Group {
    fn new(path: String, parent: Option<Arc<Group>>) -> Self {
        let stages = std::array::from_fn(|i| match &parent {
            Some(parent) => parent.stages[i].child_token(),
            None => CancellationToken::new(),
        });
        let failed = parent
            .as_ref()
            .map_or_else(|| watch::Sender::new(None), |p| p.failed.clone());
        Self {
            path,
            parent,
            stages,
            counts: Default::default(),
            emptied: Notify::new(),
            running: Mutex::default(),
            next: AtomicU64::new(0),
            children: Mutex::default(),
            failed,
            restarts: OnceLock::new(),
        }
    }

    fn lineage(&self) -> impl Iterator<Item = &Group> {
        std::iter::successors(Some(self), |g| g.parent.as_deref())
    }

    async fn emptied(&self, kind: TaskKind) {
        loop {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            emptied.as_mut().enable();
            if self.counts[kind.stage()].load(Ordering::Acquire) == 0 {
                return;
            }
            emptied.await;
        }
    }

    fn tell_who_runs(&self) {
        for running in self.running.lock().values() {
            let held = running.since.elapsed();
            tracing::warn!(group = self.path, task = %running.name, kind = %running.kind, age = ?held,
                "task held on past the shutdown deadline and is aborted");
        }
        for child in self.children() {
            child.tell_who_runs();
        }
    }

    fn abort_all(&self) {
        for running in self.running.lock().values() {
            if let Some(abort) = &running.abort {
                abort.abort();
            }
        }
        for child in self.children() {
            child.abort_all();
        }
    }

    fn children(&self) -> Vec<Arc<Group>> {
        self.children
            .lock()
            .iter()
            .filter_map(std::sync::Weak::upgrade)
            .collect()
    }

    fn report(&self, failure: Failure) {
        tracing::error!(task = failure.name, kind = %failure.kind, reason = failure.reason, "task failed");
        self.failed.send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert(failure);
            is_first
        });
    }
}

impl Registered {
    fn new(group: Arc<Group>, kind: TaskKind, name: Cow<'static, str>) -> Self {
        for g in group.lineage() {
            g.counts[kind.stage()].fetch_add(1, Ordering::AcqRel);
        }
        let id = group.next.fetch_add(1, Ordering::Relaxed);
        group.running.lock().insert(
            id,
            Running {
                kind,
                name,
                since: Instant::now(),
                abort: None,
            },
        );
        Self { group, id, kind }
    }

    fn failed(&self, reason: &str) {
        let name = self
            .group
            .running
            .lock()
            .get(&self.id)
            .map(|r| r.name.clone())
            .unwrap_or_default();
        let name = format!("{}/{name}", self.group.path);
        if self.kind.is_failure_fatal() {
            self.group.report(Failure {
                kind: self.kind,
                name,
                reason: reason.to_owned(),
            });
        } else {
            tracing::error!(task = name, kind = %self.kind, reason, "task panicked");
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.group.running.lock().remove(&self.id);
        for g in self.group.lineage() {
            if g.counts[self.kind.stage()].fetch_sub(1, Ordering::AcqRel) == 1 {
                g.emptied.notify_waiters();
            }
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without text".to_owned())
}

#[cfg(test)]
mod tests;
