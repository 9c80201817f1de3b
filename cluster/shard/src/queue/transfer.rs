//! The workers of the transfer queue and the timer queue, and what follows from each outcome.

use std::{collections::VecDeque, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use cluster_runtime::{TaskKind, Tasks};
use futures::FutureExt;
use parking_lot::Mutex;
use tokio::{sync::Semaphore, time::Instant};
use tracing::Instrument;

use super::{
    Executable, ExecutionMode, Executor, Outcome, timer::TimerAction, wait_list::Observed,
};
use crate::{dlq::DlqEntry, error::TxnError, host::Host};

/// First pause after a failed attempt that names none.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// How soon a task is looked at again when its run or a namespace changed while it was executed.
const RETRY_NOW: Duration = Duration::from_millis(10);

/// A queue of tasks that wait for a worker: the transfer queue, or timer tasks that are due.
pub(crate) struct WorkerQueue {
    name: &'static str,
    waiting: Mutex<VecDeque<Executable>>,
    ready: Semaphore,
}

impl WorkerQueue {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            waiting: Mutex::default(),
            ready: Semaphore::new(0),
        }
    }

    pub(crate) fn push(&self, executable: Executable) {
        self.waiting.lock().push_back(executable);
        self.ready.add_permits(1);
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.lock().len()
    }

    async fn pop(&self) -> Option<Executable> {
        self.ready.acquire().await.ok()?.forget();
        self.waiting.lock().pop_front()
    }
}

/// Starts `n` workers of one of the host's pools.
pub(crate) fn start(
    host: &Arc<Host>,
    tasks: &Tasks,
    pool: fn(&Host) -> &WorkerQueue,
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
                while let Some(executable) = pool(&host).pop().await {
                    process(&host, executor.as_ref(), executable).await;
                }
            }
        });
    }
}

async fn process(host: &Arc<Host>, executor: &dyn Executor, mut executable: Executable) {
    if executable.is_obsolete() {
        return;
    }
    let observed = Observed::begin(&executable);
    let mode = match mode(host, &executable).await {
        Ok(Some(mode)) => mode,
        // The namespace is gone, and with it every reason.
        Ok(None) => return done(&executable),
        Err(()) => return retry(host, executable, FIRST_PAUSE),
    };
    let begun = Instant::now();
    let span = tracing::debug_span!("task", shard = %executable.shard.id(), task_id = %executable.task.task_id,
        namespace = %executable.task.run.namespace_id, workflow_id = %executable.task.run.workflow_id,
        run_id = %executable.task.run.run_id, kind = ?executable.task.task.kind, ?mode);
    let execution = AssertUnwindSafe(executor.execute(&executable.shard, &executable.task, mode));
    let outcome = execution.catch_unwind().instrument(span).await;
    let outcome = outcome.unwrap_or_else(|_| after_panic(host, &executable));
    host.meters
        .executed(&executable.task.task.kind, mode, begun.elapsed(), &outcome);
    match outcome {
        Outcome::Done => done(&executable),
        Outcome::Retry(pause) => retry(host, executable, pause),
        Outcome::Wait => {
            // The delay is a safety net under the wake-ups, so it grows.
            let grown = 1 << executable.attempt.min(6);
            let delay = host.options.wait_delay.saturating_mul(grown);
            executable.attempt = executable.attempt.saturating_add(1);
            reschedule_if_old(host, &executable);
            if let Some(mut executable) = observed.wait(executable, delay) {
                executable.attempt = 0;
                host.timers
                    .arm(host.now().plus(RETRY_NOW), TimerAction::Retry(executable));
            }
        }
        Outcome::PermanentFailure(cause) => send_to_dlq(host, executable, cause).await,
    }
}

/// A panic may come from what cannot be seen here, so the task is tried again; not for ever.
fn after_panic(host: &Host, executable: &Executable) -> Outcome {
    tracing::error!(shard = %executable.shard.id(), run = %executable.task.run, kind = ?executable.task.task.kind,
        attempt = executable.attempt, "the executor of a task panicked");
    if executable.attempt >= host.options.panics_max {
        return Outcome::PermanentFailure("its executor panics, see the log".to_owned());
    }
    Outcome::Retry(host.options.retry_max)
}

/// The execution mode of a task now; `None` when its namespace does not exist.
async fn mode(host: &Host, executable: &Executable) -> Result<Option<ExecutionMode>, ()> {
    let found = host
        .namespace::<()>(&executable.task.run.namespace_id)
        .await;
    match found {
        Ok(namespace) if namespace.is_active_in(&host.deps.clusters.current_name()) => {
            Ok(Some(ExecutionMode::Active))
        }
        Ok(_) => Ok(Some(ExecutionMode::Standby)),
        Err(TxnError::NamespaceNotFound(_)) => Ok(None),
        Err(_) => Err(()),
    }
}

fn done(executable: &Executable) {
    executable.shard.0.queues.done(&executable.task);
    executable.shard.mark_dirty();
}

fn retry(host: &Host, mut executable: Executable, pause: Duration) {
    executable.attempt = executable.attempt.saturating_add(1);
    let grown = FIRST_PAUSE.saturating_mul(1 << executable.attempt.min(12));
    // The first retry comes when the executor said; later ones back off, but never sooner than it said.
    let pause = if executable.attempt == 1 {
        pause
    } else {
        pause.max(grown.min(host.options.retry_max))
    };
    reschedule_if_old(host, &executable);
    host.timers
        .arm(host.now().plus(pause), TimerAction::Retry(executable));
}

/// A task that hangs must not block the trimming of everything after it: it is rescheduled, that is moved to a
/// timer row.
fn reschedule_if_old(host: &Host, executable: &Executable) {
    let age = host.now().since(executable.task.at);
    if age >= host.options.reschedule_after
        && executable
            .shard
            .0
            .queues
            .blocks_trimming(&executable.task, host.now())
    {
        executable.shard.reschedule(executable.task.clone());
    }
}

async fn send_to_dlq(host: &Host, executable: Executable, cause: String) {
    let entry = DlqEntry {
        attempts: executable.attempt.saturating_add(1),
        ..DlqEntry::of_tasks(&executable.task.run, &[executable.task.as_ref()], cause)
    };
    match executable.shard.send_to_dlq(entry).await {
        Ok(()) => done(&executable),
        Err(error) => {
            tracing::warn!(shard = %executable.shard.id(), run = %executable.task.run, %error,
                "a task cannot be sent to the dead-letter queue yet");
            retry(host, executable, host.options.retry_max);
        }
    }
}
