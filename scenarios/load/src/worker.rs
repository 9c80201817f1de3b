//! A worker without an SDK: long-polling loops for workflow and activity tasks that answer by playing
//! [`crate::script`]. It behaves as a current SDK does on the wire (sticky queue, paging of history,
//! `return_new_workflow_task`, eager activities) and keeps a run's counters only while the server may
//! send it that run's tasks without full history.

mod activities;
mod workflows;

use std::{sync::Arc, time::Duration};

pub(crate) use workflows::wall_nanos;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::{connect::Connections, script::Fired};

/// Deadline of a poll; servers answer empty a little earlier than a minute.
const POLL_TIMEOUT: Duration = Duration::from_secs(70);

/// How a worker behaves.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// The namespace it polls in.
    pub namespace: String,
    /// The task queue of both workflow and activity tasks.
    pub queue: String,
    /// How it names itself.
    pub identity: String,
    /// Polling loops for workflow tasks; half of them poll the sticky queue.
    pub workflow_pollers: usize,
    /// Polling loops for activity tasks.
    pub activity_pollers: usize,
    /// How long the server waits for this worker before it gives a run's task to any other; absent
    /// to receive full histories always.
    pub sticky: Option<Duration>,
}

impl WorkerOptions {
    /// Options with the number of pollers SDKs use by default.
    pub fn new(namespace: &str, queue: &str, identity: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            queue: queue.to_owned(),
            identity: identity.to_owned(),
            workflow_pollers: 10,
            activity_pollers: 5,
            sticky: Some(Duration::from_secs(5)),
        }
    }
}

/// Something a worker saw or did.
#[derive(Debug)]
pub enum WorkerEvent<'a> {
    /// The first workflow task of a run arrived.
    FirstTask {
        /// The run's workflow id.
        workflow_id: &'a str,
    },
    /// A workflow task was answered, or refused to be.
    WorkflowTaskAnswered {
        /// The run's workflow id.
        workflow_id: &'a str,
        /// The run.
        run_id: &'a str,
        /// The started event of the task.
        started_event_id: i64,
        /// Whether the answer closed the run.
        closing: bool,
        /// How long the call took.
        took: Duration,
        /// The server's message.
        outcome: Result<(), &'a Status>,
    },
    /// An activity task was answered, or refused to be.
    ActivityAnswered {
        /// The run's workflow id.
        workflow_id: &'a str,
        /// The run.
        run_id: &'a str,
        /// The activity within the run.
        activity_id: &'a str,
        /// How long the call took.
        took: Duration,
        /// The server's message.
        outcome: Result<(), &'a Status>,
    },
    /// A fired timer reached the worker.
    TimerFired(Fired),
    /// A poll failed.
    PollFailed(&'a Status),
}

/// Receives what a worker does; called from its loops, so it must not block.
pub trait WorkerObserver: Send + Sync + 'static {
    /// Takes note of one event.
    fn observe(&self, event: WorkerEvent<'_>);
}

/// A running worker; dropping it aborts its loops.
pub struct Worker {
    loops: JoinSet<()>,
    stop: CancellationToken,
}

/// State that all loops of a worker share.
struct Context {
    connections: Connections,
    options: WorkerOptions,
    sticky_queue: String,
    observer: Arc<dyn WorkerObserver>,
    runs: workflows::Runs,
}

impl Worker {
    /// Starts the polling loops.
    pub fn start(
        connections: Connections,
        options: WorkerOptions,
        observer: Arc<dyn WorkerObserver>,
    ) -> Self {
        let stop = CancellationToken::new();
        let sticky_queue = format!("{}-{}", options.identity, uuid::Uuid::new_v4());
        let context = Arc::new(Context {
            connections,
            sticky_queue,
            observer,
            runs: workflows::Runs::default(),
            options,
        });
        let mut loops = JoinSet::new();
        for n in 0..context.options.workflow_pollers {
            let sticky = context.options.sticky.is_some() && n % 2 == 1;
            loops.spawn(until(
                stop.clone(),
                workflows::poll_forever(context.clone(), sticky),
            ));
        }
        for _ in 0..context.options.activity_pollers {
            loops.spawn(until(
                stop.clone(),
                activities::poll_forever(context.clone()),
            ));
        }
        Self { loops, stop }
    }

    /// Stops polling and waits for the loops to end. Tasks in hand are dropped, as when a worker's
    /// process dies; servers give them to other workers after their timeouts.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.loops.join_next().await.is_some() {}
    }
}

/// Runs a loop until it is stopped.
async fn until(stop: CancellationToken, forever: impl Future<Output = ()>) {
    stop.run_until_cancelled(forever).await;
}

/// How long a loop waits after a failed poll: at once for an ended long poll, else long enough not to
/// storm a frontend that is down.
fn pause_after(status: &Status) -> Duration {
    match status.code() {
        Code::DeadlineExceeded | Code::Cancelled => Duration::from_millis(1),
        Code::ResourceExhausted => Duration::from_millis(500),
        _ => Duration::from_millis(100),
    }
}
