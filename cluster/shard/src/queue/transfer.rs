//! Workers that execute tasks, and what follows from each verdict.

use std::{collections::VecDeque, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use cluster_runtime::{TaskKind, Tasks};
use futures::FutureExt;
use parking_lot::Mutex;
use tokio::{sync::Semaphore, time::Instant};
use tracing::Instrument;

use super::{Executor, Job, Role, Verdict, park::Judging, timer::What};
use crate::{dlq::DlqEntry, error::TxnError, host::Host};

/// First pause after a failed attempt that names none.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// How soon a task is looked at again when its run or a namespace changed while it was judged.
const AT_ONCE: Duration = Duration::from_millis(10);

/// Tasks that wait for a worker.
pub(crate) struct Pool {
    name: &'static str,
    waiting: Mutex<VecDeque<Job>>,
    ready: Semaphore,
}

impl Pool {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            waiting: Mutex::default(),
            ready: Semaphore::new(0),
        }
    }

    pub(crate) fn push(&self, job: Job) {
        self.waiting.lock().push_back(job);
        self.ready.add_permits(1);
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.lock().len()
    }

    async fn pop(&self) -> Option<Job> {
        self.ready.acquire().await.ok()?.forget();
        self.waiting.lock().pop_front()
    }
}

/// Starts `n` workers of one of the host's pools.
pub(crate) fn start(
    host: &Arc<Host>,
    tasks: &Tasks,
    pool: fn(&Host) -> &Pool,
    executor: &Arc<dyn Executor>,
    n: usize,
) {
    for i in 0..n {
        let (host, executor) = (host.clone(), executor.clone());
        // Dropped at shutdown wherever it is: an execution that was cut off is repeated by the next owner.
        let name = format!("{}-worker-{i}", pool(&host).name);
        tasks.spawn_restarting(TaskKind::Background, name, move || {
            let (host, executor) = (host.clone(), executor.clone());
            async move {
                while let Some(job) = pool(&host).pop().await {
                    work(&host, executor.as_ref(), job).await;
                }
            }
        });
    }
}

async fn work(host: &Arc<Host>, executor: &dyn Executor, mut job: Job) {
    if job.is_void() {
        return;
    }
    let judging = Judging::begin(&job);
    let role = match role(host, &job).await {
        Ok(Some(role)) => role,
        // The namespace is gone, and with it every reason.
        Ok(None) => return done(&job),
        Err(()) => return again(host, job, FIRST_PAUSE),
    };
    let begun = Instant::now();
    let span = tracing::debug_span!("task", shard = %job.shard.id(), task_id = %job.task.task_id,
        namespace = %job.task.run.namespace_id, workflow_id = %job.task.run.workflow_id,
        run_id = %job.task.run.run_id, kind = ?job.task.task.kind, ?role);
    let execution = AssertUnwindSafe(executor.execute(&job.shard, &job.task, role));
    let verdict = execution.catch_unwind().instrument(span).await;
    let verdict = verdict.unwrap_or_else(|_| after_panic(host, &job));
    host.meters
        .executed(&job.task.task.kind, role, begun.elapsed(), &verdict);
    match verdict {
        Verdict::Done => done(&job),
        Verdict::Retry(pause) => again(host, job, pause),
        Verdict::Park => {
            // The delay is a safety net under the wake-ups, so it grows.
            let grown = 1 << job.attempt.min(6);
            let delay = host.options.park_delay.saturating_mul(grown);
            job.attempt = job.attempt.saturating_add(1);
            rehome_if_old(host, &job);
            if let Some(mut job) = judging.park(job, delay) {
                job.attempt = 0;
                host.timers.arm(host.now().plus(AT_ONCE), What::Again(job));
            }
        }
        Verdict::Poison(cause) => set_aside(host, job, cause).await,
    }
}

/// A panic may come from what cannot be seen here, so the task is tried again; not for ever.
fn after_panic(host: &Host, job: &Job) -> Verdict {
    tracing::error!(shard = %job.shard.id(), run = %job.task.run, kind = ?job.task.task.kind,
        attempt = job.attempt, "the executor of a task panicked");
    if job.attempt >= host.options.panics_max {
        return Verdict::Poison("its executor panics, see the log".to_owned());
    }
    Verdict::Retry(host.options.retry_max)
}

/// What this cluster is to the task's namespace now; `None` when there is no such namespace.
async fn role(host: &Host, job: &Job) -> Result<Option<Role>, ()> {
    let found = host.namespace::<()>(&job.task.run.namespace_id).await;
    match found {
        Ok(namespace) if namespace.is_active_in(&host.deps.clusters.current_name()) => {
            Ok(Some(Role::Active))
        }
        Ok(_) => Ok(Some(Role::Standby)),
        Err(TxnError::NamespaceNotFound(_)) => Ok(None),
        Err(_) => Err(()),
    }
}

fn done(job: &Job) {
    job.shard.0.queues.done(&job.task);
    job.shard.mark();
}

fn again(host: &Host, mut job: Job, pause: Duration) {
    job.attempt = job.attempt.saturating_add(1);
    let grown = FIRST_PAUSE.saturating_mul(1 << job.attempt.min(12));
    // The first retry comes when the executor said; later ones back off, but never sooner than it said.
    let pause = if job.attempt == 1 {
        pause
    } else {
        pause.max(grown.min(host.options.retry_max))
    };
    rehome_if_old(host, &job);
    host.timers.arm(host.now().plus(pause), What::Again(job));
}

/// A task that hangs must not hold back the trimming of everything after it: its stored form moves to a
/// timer row.
fn rehome_if_old(host: &Host, job: &Job) {
    let age = host.now().since(job.task.at);
    if age >= host.options.rehome_after && job.shard.0.queues.is_in_the_way(&job.task, host.now()) {
        job.shard.rehome(job.task.clone());
    }
}

async fn set_aside(host: &Host, job: Job, cause: String) {
    let entry = DlqEntry {
        attempts: job.attempt.saturating_add(1),
        ..DlqEntry::of_tasks(&job.task.run, &[job.task.as_ref()], cause)
    };
    match job.shard.set_aside(entry).await {
        Ok(()) => done(&job),
        Err(error) => {
            tracing::warn!(shard = %job.shard.id(), run = %job.task.run, %error,
                "a task cannot be set aside yet");
            again(host, job, host.options.retry_max);
        }
    }
}
