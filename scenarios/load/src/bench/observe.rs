//! Turns what workers and starters see into histogram values.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{
    measure::{Recorder, Timed},
    worker::{WorkerEvent, WorkerObserver, wall_nanos},
};

/// Intended starts of workflows whose first task has not arrived, by workflow id.
pub(super) struct Observer {
    recorder: Arc<Recorder>,
    starts: Mutex<HashMap<String, Instant>>,
}

impl Observer {
    pub(super) fn new(recorder: Arc<Recorder>) -> Self {
        Self {
            recorder,
            starts: Mutex::default(),
        }
    }

    /// Notes that a workflow is about to start.
    pub(super) fn starting(&self, workflow_id: &str, intended: Instant) {
        self.starts.lock().insert(workflow_id.to_owned(), intended);
    }

    /// Forgets a workflow that did not start.
    pub(super) fn not_started(&self, workflow_id: &str) {
        self.starts.lock().remove(workflow_id);
    }
}

impl WorkerObserver for Observer {
    fn observe(&self, event: WorkerEvent<'_>) {
        match event {
            WorkerEvent::FirstTask { workflow_id } => {
                let intended = self.starts.lock().remove(workflow_id);
                if let Some(intended) = intended {
                    self.recorder
                        .time(Timed::StartToFirstTask, intended.elapsed());
                }
            }
            WorkerEvent::WorkflowTaskAnswered { took, outcome, .. } => match outcome {
                Ok(()) => self.recorder.time(Timed::RespondRpc, took),
                Err(status) => self
                    .recorder
                    .failed("RespondWorkflowTaskCompleted", status.code()),
            },
            WorkerEvent::ActivityAnswered { took, outcome, .. } => match outcome {
                Ok(()) => self.recorder.time(Timed::ActivityRespondRpc, took),
                Err(status) => self
                    .recorder
                    .failed("RespondActivityTaskCompleted", status.code()),
            },
            WorkerEvent::TimerFired(fired) => {
                let late = |at: i128| {
                    Duration::from_nanos(u64::try_from(at - fired.due_nanos).unwrap_or(0))
                };
                self.recorder
                    .time(Timed::TimerLateness, late(fired.fired_nanos));
                self.recorder.time(Timed::TimerToWorker, late(wall_nanos()));
            }
            WorkerEvent::PollFailed(status) => self.recorder.failed("Poll", status.code()),
        }
    }
}
